"""Nothing of a run outlives its supervisor, and the supervisor does not outlive the server."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.configure import supervisor

# A run with a child that leaves the session, as Ansible's workers and ssh's multiplexers do.
RUN = """
import os, subprocess, sys, time
subprocess.Popen(["setsid", "sh", "-c", "echo $$ > $0; exec sleep 300", sys.argv[1]])
time.sleep(300)
"""
PATIENCE_SECONDS = 30.0


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def command(tmp_path: Path, *run: str) -> list[str]:
    guard = [sys.executable, "-I", "-S", supervisor.__file__]
    return [*guard, str(tmp_path / "pid"), *run]


def escaped(tmp_path: Path) -> int:
    """The process that left the session, once it is there."""
    path = tmp_path / "escaped"
    wait_for(lambda: path.exists() and path.read_text().strip().isdigit())
    return int(path.read_text())


def test_the_exit_status_is_that_of_the_command(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path, "sh", "-c", "exit 7"), timeout=60)
    assert done.returncode == 7
    done = subprocess.run(command(tmp_path, "no-such-program"), capture_output=True, timeout=60)
    assert done.returncode == 127


def test_what_the_command_left_behind_ends_with_it(tmp_path: Path) -> None:
    script = f"setsid sleep 300 & echo $! > {tmp_path}/escaped"
    subprocess.run(command(tmp_path, "sh", "-c", script), check=True, timeout=60)
    assert not alive(escaped(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything(tmp_path: Path, number: signal.Signals) -> None:
    run = [sys.executable, "-c", RUN, str(tmp_path / "escaped")]
    process = subprocess.Popen(command(tmp_path, *run))
    pid = escaped(tmp_path)
    assert int((tmp_path / "pid").read_text()) == process.pid
    process.send_signal(number)
    assert process.wait(60) == supervisor.ENDED_BY_SIGNAL
    assert not alive(pid)


def test_a_server_that_is_killed_takes_its_runs_along(tmp_path: Path) -> None:
    run = [sys.executable, "-c", RUN, str(tmp_path / "escaped")]
    server = os.fork()
    if server == 0:
        # The server: it holds the other end of the run's terminal, and ignores SIGHUP in children
        # as ansible-runner does.
        child, _ = pty.fork()
        if child == 0:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            os.execv(sys.executable, command(tmp_path, *run))
        time.sleep(300)
        os._exit(0)
    pid = escaped(tmp_path)
    guard = int((tmp_path / "pid").read_text())
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)
    wait_for(lambda: not alive(guard) and not alive(pid))
