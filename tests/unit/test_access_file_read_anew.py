"""The access file of a server that runs: changes are in force whole, mistakes change nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_world import ApiWorld

from orchestrator.api.app import _tells
from orchestrator.api.requests import Services
from orchestrator.errors import UserError
from orchestrator.identity.access import Rules
from orchestrator.identity.access_file import LOOK_SECONDS, AccessFile
from orchestrator.model import EventKind
from orchestrator.settings import Issuer

ISSUERS = (Issuer(name="development", issuer="https://issuer.example", audiences=("vacuo",)),)
ALICE = "  - {role: user, issuer: development, subjects: [alice]}\n"
BOB = "  - {role: auditor, issuer: development, subjects: [bob]}\n"
MISTAKE = "  - {role: emperor, issuer: development, subjects: [bob]}\n"


class Changing:
    """An access file, a clock, and what was told of it."""

    def __init__(self, directory: Path, *rules: str) -> None:
        self.path = directory / "access.yaml"
        self.now = 0.0
        self.told: list[tuple[str, bool]] = []
        self.write(*rules)
        self.file = AccessFile(
            self.path, ISSUERS, lambda *what: self.told.append(what), lambda: self.now
        )

    def write(self, *rules: str, text: str = "") -> None:
        """In place, as an editor may; the time differs even where the clock is coarse."""
        self.path.write_text(text or "rules:\n" + "".join(rules))
        self.now += LOOK_SECONDS
        stamp = 1_700_000_000 + round(self.now)
        os.utime(self.path, (stamp, stamp))

    def subjects(self) -> list[str]:
        return [subject for rule in self.file.rules.rules for subject in rule.subjects]


@pytest.fixture
def changing(tmp_path: Path) -> Changing:
    return Changing(tmp_path, ALICE)


def test_a_change_is_read_and_told_once(changing: Changing) -> None:
    assert changing.subjects() == ["alice"]
    changing.write(ALICE, BOB)
    assert changing.subjects() == ["alice", "bob"]
    changing.now += 10
    assert changing.subjects() == ["alice", "bob"]
    assert changing.told == [("the access file was read anew: 2 rules", False)]


def test_the_file_is_looked_at_once_a_second_at_most(changing: Changing) -> None:
    changing.subjects()
    changing.write(ALICE, BOB)
    changing.now -= LOOK_SECONDS / 2
    assert changing.subjects() == ["alice"]
    changing.now += LOOK_SECONDS / 2
    assert changing.subjects() == ["alice", "bob"]


@pytest.mark.parametrize("text", ["rules:\n" + ALICE + MISTAKE, "", "rules: [", "\0", "rules: []x"])
def test_a_mistake_keeps_the_rules_from_before_and_is_told_once(
    changing: Changing, text: str
) -> None:
    changing.write(text=text or "\n")
    for _ in range(3):
        assert changing.subjects() == ["alice"]
        changing.now += 5
    assert [failed for _, failed in changing.told] == [True]
    assert changing.file.problem
    changing.write(BOB)
    assert changing.subjects() == ["bob"]
    assert not changing.file.problem
    assert [failed for _, failed in changing.told] == [True, False]


def test_a_file_that_is_gone_or_that_anybody_may_write_changes_nothing(changing: Changing) -> None:
    changing.path.unlink()
    changing.now += 1
    assert changing.subjects() == ["alice"]
    changing.write(BOB)
    changing.path.chmod(0o666)
    assert changing.subjects() == ["alice"]
    changing.path.chmod(0o644)
    changing.now += 1
    assert changing.subjects() == ["bob"]
    assert [failed for _, failed in changing.told] == [True, True, False]


def test_a_file_that_was_put_in_its_place_is_seen(changing: Changing) -> None:
    """The same size and time: it is another file all the same."""
    before = changing.path.stat()
    other = changing.path.with_name("other")
    other.write_text(changing.path.read_text().replace("alice", "carol"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(changing.path)
    changing.now += 1
    assert changing.subjects() == ["carol"]


def test_everybody_who_asks_gets_whole_rules(changing: Changing) -> None:
    allowed = {1, 2, 3}
    seen: set[int] = set()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            changing.now += 0.01
            found: Rules = changing.file.rules
            seen.add(len(found.rules))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(30):
        changing.write(*[ALICE, BOB, ALICE][: 1 + number % 3])
    stop.set()
    for thread in threads:
        thread.join(60)
    assert seen <= allowed


def test_a_mistake_at_the_start_stops_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be used"):
        Changing(tmp_path, MISTAKE)


# --- the server ----------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ApiWorld]:
    made = ApiWorld(tmp_path, access="rules:\n" + ALICE)
    yield made
    made.close()


@pytest.fixture
def live(world: ApiWorld) -> Changing:
    """The world's own file, with a clock."""
    found = object.__new__(Changing)
    found.path, found.now, found.told = world.settings.access_file, 0.0, []  # type: ignore[assignment]
    services = Services.of(world.app)
    tell = _tells(world.orchestrator)
    services.access = AccessFile(found.path, services.issuers, tell, lambda: found.now)
    return found


def test_a_changed_access_file_is_in_force_without_a_restart(
    world: ApiWorld, live: Changing
) -> None:
    assert world.get("/deployments", "bob").status_code == 403
    live.write(BOB)
    assert world.get("/deployments", "bob").status_code == 200
    assert world.get("/deployments", "alice").status_code == 403
    live.write(MISTAKE)
    assert world.get("/deployments", "bob").status_code == 200
    found: Any = world.get("/checks", "bob").json
    (check,) = (one for one in found["checks"] if one["name"] == "access file")
    assert check["ok"] is False
    assert check["reason"]["code"] == "access-file-unusable"
    assert "emperor" not in str(found)
    live.write(ALICE)
    names = [one["name"] for one in world.get("/checks", "alice").json["checks"]]
    assert "access file" not in names
    told = world.repository.events(kinds=[EventKind.AUDIT])
    assert [(event.phase, event.failed) for event in told if "access file" in event.message] == [
        ("allowed", False),
        ("denied", True),
        ("allowed", False),
    ]


def test_a_stream_ends_when_the_rules_change(world: ApiWorld, live: Changing) -> None:
    answer = world.client.get(
        "/events", headers=world.headers() | {"Accept": "text/event-stream"}, buffered=False
    )
    frames = iter(answer.response)
    assert b"retry" in next(frames)
    live.write(BOB)
    assert list(frames) == []
    answer.close()
    assert world.get("/events").status_code == 403
