"""One server per database, and the second one is told who the first is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.store import ServerLock

HOLD = """
import sys
from orchestrator.store import ServerLock
ServerLock(sys.argv[1]).acquire()
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_second_server_is_refused_and_told_who_has_the_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'vacuo.db'}"
    with ServerLock(url), pytest.raises(UserError) as refused:
        ServerLock(url).acquire()
    assert f"process {os.getpid()} on host" in refused.value.why
    assert "since 2" in refused.value.why
    assert refused.value.attempt
    assert refused.value.code == "database-in-use"


def test_a_path_and_a_url_of_one_database_are_one_lock(tmp_path: Path) -> None:
    path = tmp_path / "vacuo.db"
    with ServerLock(path), pytest.raises(UserError):
        ServerLock(f"sqlite:///{path}").acquire()


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with ServerLock(tmp_path / "vacuo.db"):
            pass


def test_a_lock_whose_holder_was_killed_is_free(tmp_path: Path) -> None:
    path = tmp_path / "vacuo.db"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match=f"process {holder.pid} "):
            ServerLock(path).acquire()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with ServerLock(path):
        pass


def test_a_program_that_the_server_started_does_not_keep_the_lock(tmp_path: Path) -> None:
    lock = ServerLock(tmp_path / "vacuo.db")
    lock.acquire()
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        lock.release()
        with ServerLock(tmp_path / "vacuo.db"):
            pass
    finally:
        child.kill()
        child.wait()


def test_a_lock_file_that_says_nothing_still_refuses_with_what_to_do(tmp_path: Path) -> None:
    with ServerLock(tmp_path / "vacuo.db") as lock:
        assert lock.path is not None
        lock.path.write_text("")
        with pytest.raises(UserError, match="fuser"):
            ServerLock(tmp_path / "vacuo.db").acquire()


def test_a_directory_that_cannot_be_made_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be opened"):
        ServerLock(tmp_path / "file" / "vacuo.db").acquire()


@pytest.mark.parametrize("url", ["sqlite://", "postgresql://vacuo@db/vacuo"])
def test_a_database_that_one_file_does_not_stand_for_has_no_lock(url: str) -> None:
    with ServerLock(url), ServerLock(url):
        pass
