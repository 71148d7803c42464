"""Whoever changes an audit in the database is found out."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command

from orchestrator.audits import BEGINNING
from orchestrator.model import DeploymentId, Event, EventKind, NodeName
from orchestrator.store.database import alembic_config, open_database
from orchestrator.store.repository import Repository

LINES = 6


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "vacuo.db"


@pytest.fixture
def repository(file: Path) -> Iterator[Repository]:
    opened = Repository.open(f"sqlite:///{file}")
    yield opened
    opened.close()


def line(number: int, kind: EventKind = EventKind.AUDIT) -> Event:
    return Event(
        number,  # type: ignore[arg-type]  # a whole number is a float to the caller too
        kind,
        DeploymentId("d"),
        f"did {number} \N{SNOWMAN}\0",
        NodeName("n") if number % 2 else None,
        actor="https://iam.example/ alice",
        correlation=f"c{number}",
        failed=number % 3 == 0,
    )


def filled(repository: Repository) -> Repository:
    for number in range(LINES):
        repository.append([line(number), line(number, EventKind.NODE)])
    return repository


def behind_its_back(file: Path, *statements: str) -> None:
    connection = sqlite3.connect(file)
    with connection:
        for statement in statements:
            assert connection.execute(statement).rowcount, statement
    connection.close()


def test_a_chain_that_nobody_touched_is_whole(repository: Repository) -> None:
    assert repository.verify_audits() == repository.verify_audits(BEGINNING[:0])
    assert repository.verify_audits().head == BEGINNING
    found = filled(repository).verify_audits()
    assert found.whole
    assert found.lines == LINES
    assert repository.verify_audits(found.head).whole


def test_pruning_leaves_the_chain_whole(repository: Repository) -> None:
    filled(repository).prune(1e9, 0)
    assert len(repository.events()) == LINES
    assert repository.verify_audits().whole


# Audits have the sequences 1, 3, 5, 7, 9 and 11.
@pytest.mark.parametrize(
    ("statements", "at"),
    [
        (["UPDATE events SET message = 'nothing' WHERE sequence = 5"], 5),
        (["UPDATE events SET actor = 'bob' WHERE sequence = 1"], 1),
        (["UPDATE events SET failed = 1 - failed WHERE sequence = 11"], 11),
        (["UPDATE events SET at = at + 1 WHERE sequence = 7"], 7),
        (["UPDATE events SET at = 'never' WHERE sequence = 7"], 7),
        (["UPDATE events SET kind = 'node' WHERE sequence = 3"], 3),
        (["UPDATE audits SET hash = 'x' WHERE sequence = 3"], 3),
        (["DELETE FROM events WHERE sequence = 3"], 3),
        (["DELETE FROM audits WHERE sequence = 3"], 3),
        (["DELETE FROM events WHERE sequence = 3", "DELETE FROM audits WHERE sequence = 3"], 5),
        (["DELETE FROM events WHERE sequence = 1", "DELETE FROM audits WHERE sequence = 1"], 3),
        (
            ["DELETE FROM events WHERE sequence = 11", "DELETE FROM audits WHERE sequence = 11"],
            None,
        ),
        (["DELETE FROM events WHERE kind = 'audit'", "DELETE FROM audits"], None),
        (["UPDATE events SET kind = 'audit' WHERE sequence = 4"], 4),
        (
            [
                "UPDATE events SET sequence = 99 WHERE sequence = 3",
                "UPDATE events SET sequence = 3 WHERE sequence = 5",
                "UPDATE events SET sequence = 5 WHERE sequence = 99",
            ],
            3,
        ),
        (
            [
                "UPDATE events SET sequence = 13 WHERE sequence = 11",
                "UPDATE audits SET sequence = 13 WHERE sequence = 11",
            ],
            13,
        ),
    ],
)
def test_a_removed_changed_added_or_moved_audit_is_found(
    repository: Repository, file: Path, statements: list[str], at: int | None
) -> None:
    filled(repository)
    behind_its_back(file, *statements)
    found = repository.verify_audits()
    assert not found.whole
    assert found.broken_at == at
    assert found.problem.endswith(".")


def test_a_chain_that_was_written_anew_is_found_by_a_hash_noted_earlier(
    repository: Repository, file: Path
) -> None:
    noted = filled(repository).verify_audits().head
    behind_its_back(
        file,
        "DELETE FROM events WHERE kind = 'audit'",
        "DELETE FROM audits",
        "UPDATE counters SET value = 0 WHERE name = 'audits'",
    )
    filled(repository)
    assert repository.verify_audits().whole
    assert not repository.verify_audits(noted).whole


def test_audits_from_before_the_chain_are_chained_as_they_are(file: Path) -> None:
    url = f"sqlite:///{file}"
    database = open_database(url)
    with database.write() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0002")
    database.close()
    behind_its_back(
        file,
        *(
            f"INSERT INTO events VALUES ({n}, {n}.5, 'audit', 'd', NULL, '', 'did', 0, 'a', '', '')"
            for n in (1, 2, 3)
        ),
        "UPDATE counters SET value = 3 WHERE name = 'events'",
    )
    repository = Repository.open(url)
    repository.append([line(4)])
    assert repository.verify_audits().whole
    assert repository.verify_audits().lines == 4

    behind_its_back(file, "UPDATE events SET message = 'other' WHERE sequence = 2")
    assert repository.verify_audits().broken_at == 2
    repository.close()
