"""A server that cannot start says why in one error, before anything of it runs."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api import server
from orchestrator.errors import UserError
from orchestrator.settings import Flavour, Issuer, Pool, Settings, Site
from orchestrator.store.lock import ServerLock


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The server takes over the log of its process; give it back."""
    root = logging.getLogger()
    kept, level = list(root.handlers), root.level
    yield
    root.handlers[:] = kept
    root.setLevel(level)


@pytest.fixture(autouse=True)
def never_served(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(application: object) -> None:
        raise AssertionError("it would have been served")

    monkeypatch.setattr(server._Application, "run", run)


def refused(directory: Path, **fields: Any) -> UserError:
    given = {"data_directory": directory / "data", "listen": "127.0.0.1:0", **fields}
    with pytest.raises(UserError) as caught:
        server.serve(Settings.model_construct(**{**dict(Settings()), **given}))
    assert caught.value.what.endswith(".")
    assert caught.value.attempt
    return caught.value


def test_what_is_right_is_served(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="it would have been served"):
        refused(tmp_path)


def test_a_token_of_a_pool_that_is_missing(tmp_path: Path) -> None:
    token = tmp_path / "none"
    pool = Pool(name="main", collector="a:1", token_file=token)
    error = refused(tmp_path, pools=(pool,))
    assert error.why == f"pools.main.token_file: {token}: No such file or directory."
    assert not (tmp_path / "data").exists()


def test_an_access_file_with_a_mistake(tmp_path: Path) -> None:
    access = tmp_path / "access.yaml"
    access.write_text("rules:\n  - {role: user, issuer: nobodys, anybody: true}\n")
    error = refused(tmp_path, access_file=access)
    assert f"{access}:2: rules.0.issuer: no issuer of the settings has this name" in error.why


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    error = refused(tmp_path)
    assert "data directory" in error.what
    assert error.why == "File exists."


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
def test_an_address_that_is_taken(tmp_path: Path, host: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        error = refused(tmp_path, listen=f"{host}:{other.getsockname()[1]}")
    assert error.code == "address-taken"
    assert error.why == "Address already in use."


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    assert refused(tmp_path, listen="192.0.2.1:8420").code == "address-taken"
    assert refused(tmp_path, listen="nowhere.invalid:8420").code == "address-taken"


def test_a_database_that_another_server_has(tmp_path: Path) -> None:
    with ServerLock(f"sqlite:///{tmp_path / 'data' / 'vacuo.db'}"):
        assert refused(tmp_path).code == "database-in-use"


def test_an_option_that_a_site_does_not_know(tmp_path: Path) -> None:
    flavour = Flavour(name="small", cores=1, memory_mb=1024, disk_gb=10)
    site = Site(name="here", provider="local", flavours=(flavour,), options={"colour": "red"})
    assert "colour" in refused(tmp_path, sites=(site,)).what


def test_two_issuers_that_cannot_be_told_apart(tmp_path: Path) -> None:
    one = Issuer(name="a", issuer="https://iam.example/", audiences=("x",))
    other = Issuer(name="b", issuer="https://b/", aliases=(one.issuer,), audiences=("x",))
    assert "iam.example" in str(refused(tmp_path, issuers=(one, other)))


def test_the_development_issuer_where_others_could_reach_it(tmp_path: Path) -> None:
    error = refused(tmp_path, development_issuer=True, public_url="https://vacuo.example")
    assert "development issuer does not start" in error.what
