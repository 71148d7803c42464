"""Who asked for what and whether it was allowed is on record, and the record is checked."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_world import ApiWorld
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.model import Event, EventKind


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiWorld]:
    made = ApiWorld(tmp_path)
    yield made
    made.close()


def audits(api: ApiWorld) -> tuple[Event, ...]:
    return api.repository.events(kinds=[EventKind.AUDIT])


def test_an_audit_says_who_what_and_whether_it_was_allowed(api: ApiWorld) -> None:
    id = api.create()["uuid"]
    answer = api.client.delete(
        f"/deployments/{id}", headers=api.headers("mallory") | {"X-Request-Id": "theirs"}
    )
    assert answer.status_code == 404
    made, refused = audits(api)
    assert (made.deployment, made.message, made.phase, made.failed) == (
        id,
        "created",
        "allowed",
        False,
    )
    assert made.actor.startswith("alice@")
    assert refused.actor.startswith("mallory@")
    assert (refused.deployment, refused.phase, refused.failed) == (id, "denied", True)
    assert (refused.message, refused.correlation) == ("refused: delete deployment", "theirs")


def test_the_same_refusal_is_one_audit_a_minute(api: ApiWorld) -> None:
    id = api.create()["uuid"]
    for _ in range(5):
        api.get(f"/deployments/{id}", who="mallory")
    assert [event.phase for event in audits(api)] == ["allowed", "denied"]
    api.get(f"/deployments/{id}/template", who="mallory")
    api.get(f"/deployments/{id}", who="trudy")
    assert len(audits(api)) == 4


def test_what_is_not_there_is_refused_to_nobody(api: ApiWorld) -> None:
    assert api.get("/deployments/none").status_code == 404
    id = api.create()["uuid"]
    assert api.get(f"/deployments/{id}/log?console=5&node=none").status_code == 404
    assert [event.phase for event in audits(api)] == ["allowed"]


def verify(directory: Path, *words: str) -> Any:
    config = directory / "vacuo.yaml"
    config.write_text(yaml.safe_dump({"data_directory": str(directory)}))
    command = ["server", "audit", "--config", str(config), "-o", "json", *words]
    return CliRunner().invoke(app, command)


def test_the_command_names_the_audit_that_was_changed(api: ApiWorld, tmp_path: Path) -> None:
    for _ in range(3):
        api.create()
    whole = verify(tmp_path)
    assert whole.exit_code == 0, whole.output
    found = json.loads(whole.stdout)
    assert found["audit"]["lines"] == 3
    assert verify(tmp_path, "--known", found["audit"]["head"]).exit_code == 0
    assert verify(tmp_path, "--known", "f" * 64).exit_code != 0
    sequence = audits(api)[1].sequence
    connection = sqlite3.connect(tmp_path / "vacuo.db")
    with connection:
        connection.execute("UPDATE events SET actor = 'bob' WHERE sequence = ?", (sequence,))
    connection.close()
    broken = verify(tmp_path)
    assert broken.exit_code != 0
    assert f"event {sequence}" in broken.output
