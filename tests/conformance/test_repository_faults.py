"""The repository when it is killed, crowded, or out of room: for real, on files."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from repository_world import ID, NODE, Worker, deployment, event, node
from sqlalchemy import event as sql_event

from orchestrator.errors import StoreUnavailable, UserError
from orchestrator.model import (
    ConfigureNodes,
    CreateInstance,
    DeploymentId,
    DeploymentStatus,
    Outcome,
    OutcomeKind,
)
from orchestrator.store import Repository

HERE = Path(__file__).parent


def _url(path: Path) -> str:
    return f"sqlite:///{path}"


def _whole(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


# --- killed -------------------------------------------------------------------------------------


def save_and_die(url: str, statement: int) -> None:
    """Save a pass, and be killed before the ``statement``-th statement that it sends."""
    repository = Repository.open(url)
    worker = Worker(repository).begin()
    sent = 0

    def count(*_: object) -> None:
        nonlocal sent
        sent += 1
        if sent == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    sql_event.listen(repository._database.engine, "before_cursor_execute", count)
    worker.save(
        [CreateInstance(NODE), ConfigureNodes((NODE,))],
        [node()],
        status=DeploymentStatus.CREATE_COMPLETE,
        events=[event()],
    )


def test_a_kill_between_any_two_statements_leaves_the_database_whole(tmp_path: Path) -> None:
    path = tmp_path / "vacuo.db"
    first = Repository.open(_url(path))
    first.create(deployment())
    for statement in range(1, 100):
        child = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys, test_repository_faults as faults;"
                "faults.save_and_die(sys.argv[1], int(sys.argv[2]))",
                _url(path),
                str(statement),
            ],
            cwd=HERE,
            timeout=60,
            check=False,
        )
        _whole(path)
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
        assert first.nodes(ID) == ()
        assert first.intents(ID) == ()
        assert first.last_sequence() == 0
        assert first.deployment(ID).status is DeploymentStatus.CREATE_IN_PROGRESS
        first.ready()  # the dead one keeps no lock
    assert statement > 8, "the pass was saved with fewer statements than it has parts"
    assert len(first.intents(ID)) == 2
    assert first.deployment(ID).status is DeploymentStatus.CREATE_COMPLETE
    first.close()


# --- crowded ------------------------------------------------------------------------------------


def test_eight_threads_and_another_process_write_at_once(tmp_path: Path) -> None:
    """None is told that the database is locked, and a reader that polls meanwhile sees every event
    once, in order, without a gap."""
    url = _url(tmp_path / "vacuo.db")
    repository = Repository.open(url)
    rounds, writers = 25, 8
    for number in range(writers):
        repository.create(deployment(f"d{number}"))
    other = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, test_repository_faults as faults; faults.append_many(sys.argv[1], 100)",
            url,
        ],
        cwd=HERE,
    )

    def write(number: int) -> None:
        id = DeploymentId(f"d{number}")
        worker = Worker(repository, deployment=id).begin()
        for turn in range(rounds):
            mine = node(f"{id}-{turn}", deployment=id)
            (intent,) = worker.save([CreateInstance(mine.name)], [mine], events=[event()])
            repository.finish(intent.id, Outcome(OutcomeKind.DONE), 101.0, [event(), event()])

    finished = threading.Event()
    seen: list[int] = []

    def poll() -> None:
        last_look = False
        while not last_look:
            last_look = finished.wait(0.005)
            while found := repository.events(since=seen[-1] if seen else 0, limit=7):
                seen.extend(one.sequence for one in found)

    try:
        with ThreadPoolExecutor(writers + 1) as threads:
            reader = threads.submit(poll)
            try:
                list(threads.map(write, range(writers)))
                assert other.wait(timeout=60) == 0
            finally:
                finished.set()
            reader.result()
    finally:
        other.kill()
        other.wait()
    total = writers * rounds * 3 + 100
    assert seen == list(range(1, total + 1))
    assert all(len(repository.nodes(DeploymentId(f"d{n}"))) == rounds for n in range(writers))
    repository.close()


def append_many(url: str, count: int) -> None:
    repository = Repository.open(url)
    for _ in range(count):
        repository.append([event()])
    repository.close()


def test_one_lease_for_many_who_want_it_at_once(tmp_path: Path) -> None:
    repository = Repository.open(_url(tmp_path / "vacuo.db"))
    repository.create(deployment())
    start = threading.Barrier(8)

    def attempt(number: int) -> bool:
        start.wait()
        try:
            repository.acquire(ID, f"server-{number}", 60.0, 100.0)
        except Exception:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(attempt, range(8))) == 1
    repository.close()


def test_deletes_that_race_with_saves_are_never_lost(tmp_path: Path) -> None:
    repository = Repository.open(_url(tmp_path / "vacuo.db"))
    for number in range(40):
        id = DeploymentId(f"d{number}")
        repository.create(deployment(id))
        worker = Worker(repository, deployment=id).begin()
        start = threading.Barrier(2)

        def save(worker: Worker = worker, start: threading.Barrier = start) -> None:
            start.wait()
            worker.save(status=DeploymentStatus.CREATE_COMPLETE)

        def delete(id: DeploymentId = id, start: threading.Barrier = start) -> None:
            start.wait()
            repository.change(id, status=DeploymentStatus.DELETE_IN_PROGRESS)

        with ThreadPoolExecutor(2) as threads:
            for racer in [threads.submit(save), threads.submit(delete)]:
                racer.result()
        assert repository.deployment(id).status is DeploymentStatus.DELETE_IN_PROGRESS
    repository.close()


def test_a_database_that_another_program_keeps_locked_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.database.BUSY_SECONDS", 0.1)
    path = tmp_path / "vacuo.db"
    repository = Repository.open(_url(path))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="kept locked by another process"):
        repository.ready()
    assert repository.last_sequence() == 0  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    repository.ready()
    repository.close()


# --- out of room --------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB.  Where none can be mounted the test fails: it proves nothing else."""
    where = tmp_path / "small"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "vacuo-test", str(where)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.fail(f"a tmpfs cannot be mounted here (root is needed): {mounted.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def test_a_full_disk_leaves_nothing_half_written_and_is_got_over(small_disk: Path) -> None:
    path = small_disk / "vacuo.db"
    repository = Repository.open(_url(path))
    repository.create(deployment())
    worker = Worker(repository).begin()
    _fill(small_disk / "ballast")

    saved = 0

    def save_until_it_fails() -> None:
        nonlocal saved
        while True:
            save_one()
            saved += 1

    def save_one() -> None:
        mine = node(f"n{saved}")
        worker.save(
            [CreateInstance(mine.name)],
            [mine],
            outputs={"saved": saved},
            events=[event("x" * 2000)],
        )

    with pytest.raises(StoreUnavailable) as full:
        save_until_it_fails()
    assert "its disk is full; make room there. Nothing was written." in str(full.value)
    assert str(path) in str(full.value)
    with pytest.raises(StoreUnavailable):
        repository.change(ID, template="x" * 1_000_000)

    # What was saved before is there and readable, whole; of the one that failed there is nothing.
    assert len(repository.nodes(ID)) == len(repository.intents(ID)) == saved
    assert repository.last_sequence() == len(repository.events(limit=100_000)) == saved
    assert repository.deployment(ID).template == deployment().template
    _whole(path)

    (small_disk / "ballast").unlink()
    repository.ready()
    worker.save([CreateInstance(NODE)], [node()], events=[event("after")])
    assert len(repository.nodes(ID)) == saved + 1
    assert repository.events(since=saved)[0].message == "after"
    repository.close()
    _whole(path)


def test_a_full_disk_makes_the_server_not_ready(small_disk: Path) -> None:
    repository = Repository.open(_url(small_disk / "vacuo.db"))
    repository.ready()
    _fill(small_disk / "ballast")

    def ask_until_it_fails() -> None:
        for _ in range(1000):  # until what the log already has of the disk is used up
            repository.ready()

    with pytest.raises(StoreUnavailable, match="disk is full"):
        ask_until_it_fails()
    (small_disk / "ballast").unlink()
    repository.ready()
    repository.close()


def test_a_database_cannot_be_made_on_a_full_disk_and_can_when_there_is_room(
    small_disk: Path,
) -> None:
    path = small_disk / "vacuo.db"
    _fill(small_disk / "ballast")
    with pytest.raises(UserError, match="cannot be opened") as refused:
        Repository.open(_url(path))
    assert "full" in refused.value.why or "No space" in refused.value.why
    (small_disk / "ballast").unlink()
    repository = Repository.open(_url(path))
    repository.create(deployment())
    repository.close()
