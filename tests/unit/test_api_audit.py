"""Who asked for what and whether it was allowed is on record, and the record is checked."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_world import ApiWorld, submission
from cli_server import Recorded, serving
from typer.testing import CliRunner

from orchestrator.api.refused_tokens import RefusedTokens
from orchestrator.api.requests import Services
from orchestrator.cli import exitcodes
from orchestrator.cli.main import app
from orchestrator.control.service import Submission
from orchestrator.errors import StoreUnavailable
from orchestrator.model import Event, EventKind, Principal


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


# --- tokens that are refused ----------------------------------------------------------------------


class Refused:
    """An API and a clock of its own for what is counted."""

    def __init__(self, api: ApiWorld) -> None:
        self.api = api
        self.now = 1000.0
        self.counter = RefusedTokens(api.repository, lambda: self.now)
        Services.of(api.app).refused_tokens = self.counter

    def show(self, token: str, path: str = "/deployments", address: str = "192.0.2.1") -> None:
        self.now += 0.5
        answer = self.api.client.get(
            path,
            headers={"Authorization": f"Bearer {token}"},
            environ_overrides={"REMOTE_ADDR": address},
        )
        assert answer.status_code == 401

    def told(self) -> list[str]:
        return [event.message for event in audits(self.api)]


@pytest.fixture
def refused(api: ApiWorld) -> Refused:
    return Refused(api)


def test_refused_tokens_are_one_audit_a_minute_with_their_number(refused: Refused) -> None:
    forged = refused.api.issuer.mint("alice")[:-20] + "A" * 20
    for number in range(38):
        refused.show(forged, address=f"192.0.2.{number % 3}")
    assert refused.told() == ["refused: a token, said to be of development, in 0 s, from 192.0.2.0"]
    refused.now += 60
    refused.api.client.get("/healthz")  # the flood is over; whoever asks next has it told
    (first, rest) = audits(refused.api)
    assert rest.message == (
        "refused: 37 tokens, said to be of development, in 78 s, from 192.0.2.0 and 2 other "
        "addresses"
    )
    assert (first.code, first.phase, first.failed) == ("token-invalid", "denied", True)
    assert first.correlation
    whole = json.dumps([str(event) for event in audits(refused.api)])
    assert not any(part in whole for part in forged.split("."))


def test_a_flood_of_made_up_tokens_is_a_handful_of_audits(refused: Refused) -> None:
    """Whatever they say: the kinds are few, and the memory for addresses is bounded."""
    for number in range(200):
        unknown = b64({"alg": "RS256"}) + "." + b64({"iss": f"https://{number}.example"}) + ".AA"
        refused.show(unknown, address=f"198.51.100.{number}")
        refused.show(f"x{number}", address=f"198.51.100.{number}")
        refused.show(f"n{number}" + "x" * 60, "/pull/bundle")
    refused.counter.tell(everything=True)
    told = refused.told()
    # Five minutes of it, of two kinds, at most one a minute each.
    assert len(told) <= 2 * 7
    numbers = re.findall(r"refused: (a|\d+) token", " ".join(told))
    assert sum(1 if number == "a" else int(number) for number in numbers) == 600
    assert any("at least 7 other addresses" in text for text in told)
    assert not re.search(r"example|x\d", " ".join(told))


def test_who_sends_no_token_has_tried_nothing(refused: Refused) -> None:
    assert refused.api.client.get("/deployments").status_code == 401
    refused.counter.tell(everything=True)
    assert refused.told() == []


def test_a_store_that_is_away_does_not_change_the_answer(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(refused.api.repository, "append", away)
    refused.show("no token")


def b64(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def verify(directory: Path, *words: str) -> Any:
    config = directory / "vacuo.yaml"
    config.write_text(yaml.safe_dump({"data_directory": str(directory)}))
    command = ["events", "--verify", "--offline", "--config", str(config), "-o", "json", *words]
    return CliRunner().invoke(app, command)


def test_the_command_names_the_audit_that_was_changed(api: ApiWorld, tmp_path: Path) -> None:
    for _ in range(3):
        api.create()
    whole = verify(tmp_path)
    assert whole.exit_code == 0, whole.output
    found = json.loads(whole.stdout)
    assert found["audit"]["lines"] == 3
    assert verify(tmp_path, "--from-hash", found["audit"]["head"]).exit_code == 0
    assert verify(tmp_path, "--from-hash", "f" * 64).exit_code != 0
    sequence = audits(api)[1].sequence
    connection = sqlite3.connect(tmp_path / "vacuo.db")
    with connection:
        connection.execute("UPDATE events SET actor = 'bob' WHERE sequence = ?", (sequence,))
    connection.close()
    broken = verify(tmp_path)
    assert broken.exit_code != 0
    assert f"event {sequence}" in broken.output


# --- over the API: who verifies need not believe the server --------------------------------------

AUDITOR = "rules:\n  - {role: auditor, issuer: development, subjects: [audit]}\n"


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[ApiWorld]:
    (tmp_path / "data").mkdir()
    made = ApiWorld(tmp_path / "data", access=AUDITOR)
    owner = Principal(made.issuer.issuer.issuer, "alice")
    for _ in range(5):
        made.orchestrator.submit(owner, Submission(submission()["template"]))
    yield made
    made.close()


@pytest.fixture
def server(audited: ApiWorld, tmp_path: Path) -> Iterator[Recorded]:
    with serving(tmp_path, audited.app) as found:
        found.environment["BEARER_TOKEN"] = audited.issuer.mint("audit")
        yield found


@pytest.fixture
def _short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.cli.events._LINKS", 2)


@pytest.mark.usefixtures("_short_pages")
@pytest.mark.parametrize("known", [False, True])
def test_an_auditor_verifies_the_chain_over_the_api(
    audited: ApiWorld, server: Recorded, known: bool
) -> None:
    whole = server.run("events", "--verify", "-o", "json")
    assert whole.exit_code == 0, whole.output
    noted = json.loads(whole.stdout)["audit"]
    assert noted["lines"] == len(audits(audited)) == 5
    assert server.run("events", "--verify", "--from-hash", noted["head"]).exit_code == 0

    connection = sqlite3.connect(audited.settings.data_directory / "vacuo.db")
    with connection:
        if known:  # a chain of their own, in place of the one that was
            for table, condition in (("events", "kind = 'audit'"), ("audits", "1")):
                connection.execute(f"DELETE FROM {table} WHERE {condition}")
            connection.execute("UPDATE counters SET value = 0 WHERE name = 'audits'")
        else:
            sequence = audits(audited)[3].sequence
            connection.execute("DELETE FROM events WHERE sequence = ?", (sequence,))
            connection.execute("DELETE FROM audits WHERE sequence = ?", (sequence,))
    connection.close()
    words = ("--from-hash", noted["head"]) if known else ()
    broken = server.run("events", "--verify", *words)
    assert broken.exit_code != 0
    told = "is not in the chain" if known else f"event {audits(audited)[3].sequence}"
    assert told in broken.output


def test_the_last_audit_cannot_be_left_out_either(audited: ApiWorld, server: Recorded) -> None:
    connection = sqlite3.connect(audited.settings.data_directory / "vacuo.db")
    with connection:
        sequence = audits(audited)[-1].sequence
        connection.execute("DELETE FROM events WHERE sequence = ?", (sequence,))
        connection.execute("DELETE FROM audits WHERE sequence = ?", (sequence,))
    connection.close()
    broken = server.run("events", "--verify")
    assert broken.exit_code != 0
    assert "4 audits, and 5 were written" in broken.output


def test_events_are_listed_by_kind(audited: ApiWorld, server: Recorded) -> None:
    id = audited.repository.to_work_on()[0]
    audited.passes(id, 3)
    everything = server.run("events", "-o", "json").stdout.splitlines()
    told = [json.loads(line)["event"] for line in everything]
    assert {event["kind"] for event in told} > {"audit"}
    chosen = server.run("events", "--kind", "audit", "-o", "json").stdout.splitlines()
    assert [json.loads(line)["event"]["kind"] for line in chosen] == ["audit"] * 5


@pytest.mark.parametrize(
    "words",
    [
        ("--verify", "--follow"),
        ("--verify", "--kind", "node"),
        ("--verify", "--config", "x.yaml"),
        ("--from-hash", "f"),
        ("--offline",),
    ],
)
def test_what_does_not_go_together_is_refused(server: Recorded, words: tuple[str, ...]) -> None:
    assert server.run("events", *words).exit_code == exitcodes.USAGE
