"""Secrets are moved between the database and Vault, and no kill loses one."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner
from vault_world import TOKEN, Kv

from orchestrator import settings as settings_files
from orchestrator.api import server
from orchestrator.cli.main import app
from orchestrator.control import assembly
from orchestrator.control.health import secrets_elsewhere
from orchestrator.errors import UserError
from orchestrator.identity.moving import elsewhere, move
from orchestrator.identity.secrets import VAULT, SecretUnreadable
from orchestrator.model import Principal, SecretPlace
from orchestrator.settings import Settings
from orchestrator.store.lock import ServerLock
from orchestrator.store.repository import Repository

ALICE = Principal("https://issuer.example", "alice")
PLACES = [SecretPlace.of(ALICE, f"secret-{n}") for n in range(4)]


class Both:
    """A server's directory, and a Vault beside it."""

    def __init__(self, directory: Path, kv: Kv) -> None:
        self.directory = directory
        self.kv = kv
        self.token = directory / "vault-token"
        self.token.write_text(TOKEN)

    def configuration(self, backend: str, **more: Any) -> Path:
        path = self.directory / f"{backend}.yaml"
        known = {"vault_url": self.kv.url, "vault_mount": "kv", "vault_token_file": str(self.token)}
        secrets = {"backend": backend, **known, **more}
        given = {name: value for name, value in secrets.items() if value is not None}
        document = {"data_directory": str(self.directory), "secrets": given}
        path.write_text(yaml.safe_dump(document))
        return path

    def settings(self, backend: str, **more: Any) -> Settings:
        return settings_files.load(self.configuration(backend, **more))

    def fill(self, backend: str) -> None:
        with self.repository() as repository:
            store = assembly.secret_store(self.settings(backend), repository)
            for place in PLACES:
                store.put(place, content(place), "x", 1.0)

    def repository(self) -> Any:
        return closing(Repository.open(self.settings("file").database_url))

    def read(self, backend: str) -> list[bytes | None]:
        with self.repository() as repository:
            store = assembly.secret_store(self.settings(backend), repository)
            return [store.get(place) for place in PLACES]

    def elsewhere(self, backend: str) -> int:
        with self.repository() as repository:
            return elsewhere(repository.secrets, backend == "vault")

    def move(self, backend: str) -> Any:
        command = ["server", "move-secrets", "--config", str(self.configuration(backend))]
        return CliRunner().invoke(app, [*command, "-o", "json"])


def content(place: SecretPlace) -> bytes:
    return b"marked-content-of-" + place.name.encode()


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    kv = Kv()
    thread = threading.Thread(target=kv.serve_forever, daemon=True)
    thread.start()
    yield Both(tmp_path, kv)
    kv.shutdown()
    kv.server_close()


DIRECTIONS = [("file", "vault"), ("vault", "file")]


@pytest.mark.parametrize(("before", "after"), DIRECTIONS)
def test_secrets_are_moved_to_where_the_settings_say(both: Both, before: str, after: str) -> None:
    both.fill(before)
    assert both.elsewhere(after) == len(PLACES)
    assert both.read(after) == [content(place) for place in PLACES]  # until then it opens both
    done = both.move(after)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["moved"] == {"secrets": len(PLACES)}
    assert both.elsewhere(after) == 0
    assert both.read(after) == [content(place) for place in PLACES]
    assert len(both.kv.entries) == (len(PLACES) if after == "vault" else 0)
    again = both.move(after)
    assert json.loads(again.stdout)["moved"] == {"secrets": 0}
    assert both.read(after) == [content(place) for place in PLACES]


KILLED = """
import os, signal, sys
from pathlib import Path
from orchestrator import settings
from orchestrator.api import server
from orchestrator.control import assembly
from orchestrator.identity import moving
loaded, at = settings.load(Path(sys.argv[1])), int(sys.argv[2])
made = assembly.sealers(loaded)
calls = 0
def counted(act):
    def call(*given, **named):
        global calls
        calls += 1
        if calls == at: os.kill(os.getpid(), signal.SIGKILL)
        answer = act(*given, **named)
        calls += 1
        if calls == at: os.kill(os.getpid(), signal.SIGKILL)
        return answer
    return call
for sealer in (made.current, made.former):
    for name in ("seal", "open", "forget", "clear"):
        setattr(sealer, name, counted(getattr(sealer, name)))
assembly.sealers = lambda _: made
server.move_secrets(loaded)
"""


@pytest.mark.parametrize("at", [1, 4, 5, 6, 8, 23])
@pytest.mark.parametrize(("before", "after"), DIRECTIONS)
def test_a_move_that_is_killed_loses_nothing_and_goes_on(
    both: Both, before: str, after: str, at: int
) -> None:
    both.fill(before)
    words = [str(both.configuration(after)), str(at)]
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), *words], timeout=100)
    assert done.returncode == -signal.SIGKILL
    for backend in (before, after):
        assert both.read(backend) == [content(place) for place in PLACES]
    assert both.move(after).exit_code == 0
    assert both.elsewhere(after) == 0
    assert both.read(after) == [content(place) for place in PLACES]
    assert len(both.kv.entries) == (len(PLACES) if after == "vault" else 0)


def test_a_secret_that_does_not_come_back_as_it_was_is_not_switched(both: Both) -> None:
    both.fill("file")
    with both.repository() as repository:
        sealers = assembly.sealers(both.settings("vault"))
        vault: Any = sealers.current
        vault.open = lambda *_: b"something else"
        with pytest.raises(Exception, match="did not come back"):
            move(repository.secrets, sealers)
    assert both.elsewhere("vault") == len(PLACES)
    assert both.read("file") == [content(place) for place in PLACES]


def test_what_cannot_be_read_is_named_and_left(both: Both) -> None:
    both.fill("file")
    with both.repository() as repository:
        row = next(row for row in repository.secrets.everything() if row.place == PLACES[1])
        repository.secrets.replace(row, replace(row.sealed, content="AAAA"))
    done = both.move("vault")
    assert done.exit_code != 0
    assert "secret-1" in done.output
    assert "marked-content" not in done.output
    assert both.elsewhere("vault") == 1


@pytest.mark.parametrize("fault", [403, 503])
def test_a_vault_in_trouble_ends_the_move_with_a_sentence(both: Both, fault: int) -> None:
    both.fill("file")
    both.kv.fault = fault
    done = both.move("vault")
    assert done.exit_code != 0
    assert "call it again" in done.output
    both.kv.fault = 0
    assert both.move("vault").exit_code == 0
    assert both.elsewhere("vault") == 0


def test_a_server_that_runs_is_not_moved_under(both: Both) -> None:
    both.fill("file")
    settings = both.settings("vault")
    with ServerLock(settings.database_url), pytest.raises(UserError, match="Another server"):
        server.move_secrets(settings)


def test_a_vault_that_the_settings_no_longer_name_is_told(both: Both) -> None:
    both.fill("vault")
    settings = both.settings("file", vault_url=None, vault_token_file=None)
    with both.repository() as repository:
        store = assembly.secret_store(settings, repository)
        with pytest.raises(SecretUnreadable, match="do not say where"):
            store.get(PLACES[0])
    found = server.move_secrets(settings)
    assert found.moved == 0
    assert len(found.unreadable) == len(PLACES)


def test_the_start_and_the_doctor_say_that_secrets_are_elsewhere(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    both.fill("file")
    settings = both.settings("vault")
    with caplog.at_level(logging.WARNING):
        server._look_at_the_database(settings)
    assert "4 secrets are still in the database" in caplog.text
    assert "vacuo server move-secrets" in caplog.text
    with both.repository() as repository:
        assert secrets_elsewhere(both.settings("file"), repository) is None
        why = secrets_elsewhere(settings, repository)
        assert why is not None
        assert why.code == "secrets-elsewhere"
        assert not any(row.sealed.key == VAULT for row in repository.secrets.everything())
