"""The token with which nodes join somebody else's pool: from a file, or from a Vault that answers
as its KV engine is documented to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from pydantic import ValidationError
from vault_world import TOKEN, Kv

from orchestrator.batch.given import KEEP_SECONDS, GivenToken
from orchestrator.control import assembly
from orchestrator.errors import PortError, Retryable, Terminal, Unauthorised, Unsupported, UserError
from orchestrator.model import DeploymentId, NodeName, PoolName
from orchestrator.settings import Pool, Settings, check_files

NOW = 1_700_000_000.0


def a_token(ends: Any = NOW + 3600, subject: str = "pilot") -> str:
    return jwt.encode({"sub": subject, "exp": ends}, "k" * 32) if ends else "no token"


def pool(**options: Any) -> Pool:
    return Pool(name="cms", collector="cm.example.org:9618", options=options)


class Shelf:
    """What a Vault would give, and how often it was asked."""

    def __init__(self, text: str) -> None:
        self.text, self.asked, self.now = text, 0, NOW

    def fetch(self) -> str:
        self.asked += 1
        return self.text

    def given(self) -> GivenToken:
        return GivenToken(pool(join_token_path="pools/cms"), self.fetch, lambda: self.now)


# --- how long it is kept ---


def test_many_nodes_are_one_question_to_the_vault() -> None:
    shelf = Shelf(a_token())
    given = shelf.given()
    assert {given.credential().token for _ in range(100)} == {shelf.text}
    assert shelf.asked == 1


def test_a_new_token_is_used_within_a_minute() -> None:
    shelf = Shelf(a_token())
    given = shelf.given()
    given.credential()
    shelf.text, shelf.now = a_token(subject="another"), NOW + KEEP_SECONDS
    assert given.credential().identity == "another"


def test_no_token_is_kept_beyond_its_end() -> None:
    shelf = Shelf(a_token(NOW + 5))
    given = shelf.given()
    assert given.credential().expires_at == NOW + 5
    shelf.now = NOW + 5
    with pytest.raises(Unauthorised, match="has expired"):
        given.credential()
    shelf.text = a_token()
    assert given.credential().token == shelf.text


@pytest.mark.parametrize("text", ["", "no token", "a.b.c", a_token("soon"), a_token([1])])
def test_what_is_no_token_is_told_without_it(text: str, tmp_path: Path) -> None:
    with pytest.raises(Terminal) as raised:
        Shelf(text).given().credential()
    assert str(raised.value) == "Pool cms: pools/cms holds no token."
    (tmp_path / "token").write_text(text)
    with pytest.raises(Terminal, match="holds no token"):
        GivenToken(pool(join_token_file=str(tmp_path / "token"))).credential()


def test_a_token_is_in_no_representation() -> None:
    credential = Shelf(a_token()).given().credential()
    assert credential.token not in repr(credential)


def test_a_pool_without_any_is_told_its_ways() -> None:
    with pytest.raises(Unsupported, match="join_token_file, join_token_path and join_with"):
        GivenToken(pool()).credential()


# --- from a Vault, through all of it ---


@pytest.fixture
def kv() -> Iterator[Kv]:
    kv = Kv()
    threading.Thread(target=kv.serve_forever, daemon=True).start()
    yield kv
    kv.shutdown()
    kv.server_close()


def settings(kv: Kv, directory: Path, **options: Any) -> Settings:
    token = directory / "vault-token"
    token.touch(mode=0o600)
    token.write_text(TOKEN)
    return Settings(
        data_directory=directory / "data",
        pools=(pool(join_token_path="pools/cms", **options),),
        secrets={"vault_url": kv.url, "vault_mount": "kv", "vault_token_file": token},
    )


def credential(made: Settings) -> tuple[str, str]:
    batch = assembly.build(made).pools[PoolName("cms")]
    found = batch.join_credential(DeploymentId("d"), NodeName("n"))
    return found.token, found.identity


@pytest.mark.parametrize(("options", "key"), [({}, "token"), ({"join_token_key": "jwt"}, "jwt")])
def test_the_token_comes_from_the_path_in_the_vault(
    kv: Kv, tmp_path: Path, options: dict[str, str], key: str
) -> None:
    token = jwt.encode({"sub": "pilot"}, "k" * 32)
    kv.entries["pools/cms"] = [{key: "an older one"}, {key: token}]
    assert credential(settings(kv, tmp_path, **options)) == (token, "pilot")
    assert kv.asked == ["GET /v1/kv/data/pools/cms"]


@pytest.mark.parametrize(
    ("entry", "fault", "kind"),
    [
        (None, 0, Unauthorised),
        ({"other": "x"}, 0, Unauthorised),
        ({"token": 7}, 0, Unauthorised),
        ({"token": "s3cret and no token"}, 0, Terminal),
        ({"token": "x"}, 503, Retryable),
        ({"token": "x"}, 403, Retryable),
        ({"token": "x"}, 307, Retryable),
    ],
)
def test_what_the_vault_does_not_give_is_told_by_kind(
    kv: Kv, tmp_path: Path, entry: Any, fault: int, kind: type[PortError]
) -> None:
    made = settings(kv, tmp_path)
    if entry:
        kv.entries["pools/cms"] = [entry]
    kv.fault = fault
    with pytest.raises(kind) as raised:
        credential(made)
    assert "s3cret" not in str(raised.value)
    assert TOKEN not in str(raised.value)


# --- settings ---


@pytest.mark.parametrize(
    "path", ["", "/pools", "pools/", "a//b", "a/../b", "a?version=1", 7, "a b"]
)
def test_what_is_no_place_in_a_vault_is_refused(path: Any) -> None:
    with pytest.raises(ValidationError, match="must be a path"):
        pool(join_token_path=path)


def test_a_pool_is_joined_in_one_way(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="joined with something else"):
        pool(join_token_path="a", join_token_file="b")
    with pytest.raises(ValidationError, match="joined with something else"):
        pool(join_token_path="a", join_with="owner", join_audience="b")


def test_a_path_without_a_vault_is_told_before_the_server_starts(tmp_path: Path) -> None:
    made = Settings(data_directory=tmp_path, pools=(pool(join_token_path="pools/cms"),))
    with pytest.raises(UserError, match=r"needs secrets\.vault_url"):
        check_files(made)
