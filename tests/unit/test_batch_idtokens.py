"""Signing keys and the tokens that hang from them."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest

from orchestrator.batch import idtokens
from orchestrator.batch.idtokens import SigningKeys
from orchestrator.errors import Retryable, Terminal

# Made by HTCondor 23.9.6: `condor_token_create -key dep-1 -identity n1@nodes.vacuo.test -authz READ
# -authz ADVERTISE_STARTD -lifetime 3600`, with this key file.
KEY_FILE = bytes.fromhex(
    "bae38ecdadfb41d0cfe680bf5308f9b95d4c5ca2ccee06ef16d6941cad03cd30"
    "5412b828b4fdc297ab3ce2de636159f0191338cca0bcfc6ef1efa1d9e906e875"
)
TOKEN = (
    "eyJhbGciOiJIUzI1NiIsImtpZCI6ImRlcC0xIn0.eyJleHAiOjE3OTUyMzAxMTEsImlhdCI6MTc5NTIyNjUxMSwiaXNzI"
    "joidmFjdW8udGVzdCIsImp0aSI6IjgwZGIwMzIxMzUxYjdhYzE5MzQzZWUwMzFhMjcyZWE0Iiwic2NvcGUiOiJjb25kb3"
    "I6XC9SRUFEIGNvbmRvcjpcL0FEVkVSVElTRV9TVEFSVEQiLCJzdWIiOiJuMUBub2Rlcy52YWN1by50ZXN0In0.byH8fFe"
    "fMl1UaVF-3gWsIR1d1hKik_z23c7yZPUAABs"
)


def test_a_token_made_by_htcondor_is_verified_with_our_key() -> None:
    key = idtokens.token_key(KEY_FILE, "dep-1")
    claims = jwt.decode(TOKEN, key, algorithms=["HS256"], options={"verify_exp": False})
    assert claims["sub"] == "n1@nodes.vacuo.test"


def test_ours_has_the_same_claims() -> None:
    key = idtokens.token_key(KEY_FILE, "dep-1")
    token = idtokens.mint(
        key,
        "dep-1",
        issuer="vacuo.test",
        identity="n1@nodes.vacuo.test",
        scopes=("READ", "ADVERTISE_STARTD"),
        issued_at=1795226511.9,
        lifetime_seconds=3600,
    )
    decode = {"algorithms": ["HS256"], "options": {"verify_exp": False}}
    ours, theirs = jwt.decode(token, key, **decode), jwt.decode(TOKEN, key, **decode)
    assert ours.pop("jti") != theirs.pop("jti")
    assert ours == theirs
    assert jwt.get_unverified_header(token)["kid"] == "dep-1"


def test_scrambling_is_its_own_inverse() -> None:
    data = bytes(range(251))
    assert idtokens.scramble(data) != data
    assert idtokens.scramble(idtokens.scramble(data)) == data


def test_the_pools_own_key_is_doubled_and_others_are_not() -> None:
    single, doubled = idtokens.scramble(b"k" * 64), idtokens.scramble(b"k" * 128)
    assert idtokens.token_key(single, "POOL") != idtokens.token_key(single, "other")
    assert idtokens.token_key(single, "POOL") == idtokens.token_key(doubled, "other")


def test_a_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    keys = SigningKeys(tmp_path)
    assert keys.get_or_create("d") == keys.get_or_create("d")
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["d"]


def test_no_key_holds_a_nul(tmp_path: Path) -> None:
    # Programs that read a key as a string would cut it there.
    keys = SigningKeys(tmp_path)
    for number in range(50):
        keys.get_or_create(f"d{number}")
    contents = [idtokens.scramble(path.read_bytes()) for path in tmp_path.iterdir()]
    assert all(b"\0" not in content and len(content) == 64 for content in contents)


def test_of_many_who_make_the_same_key_all_get_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = set(threads.map(lambda _: SigningKeys(tmp_path).get_or_create("d"), range(64)))
    assert len(made) == 1
    assert os.listdir(tmp_path) == ["d"]


def test_deleting_a_key_makes_another_the_next_time(tmp_path: Path) -> None:
    keys = SigningKeys(tmp_path)
    first = keys.get_or_create("d")
    assert keys.delete("d")
    assert not keys.delete("d")
    assert keys.get_or_create("d") != first


@pytest.mark.parametrize("name", ["POOL", "AP", "", "../POOL", "a/b", ".hidden", "a\nb", "a" * 200])
def test_the_names_of_other_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Terminal):
        SigningKeys(tmp_path).get_or_create(name)
    with pytest.raises(Terminal):
        SigningKeys(tmp_path).delete(name)


def test_a_directory_that_is_not_there_may_come_back(tmp_path: Path) -> None:
    with pytest.raises(Retryable):
        SigningKeys(tmp_path / "unmounted").get_or_create("d")
