"""The first process of a configuration run: nothing of the run outlives it, or the server.

Started as ``python -I -S supervisor.py PID_FILE COMMAND…`` on a pseudo-terminal whose other end
the server holds.  When the server dies, however it dies, the kernel closes that end and sends
SIGHUP; SIGTERM ends the run on purpose.  Ansible's workers and ssh's multiplexers leave their
process group, so this process makes itself the one that orphans fall to and ends them all.

Only the standard library: it is started for every run, and has to start at once.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
PR_SET_CHILD_SUBREAPER = 36
ENDED_BY_SIGNAL = 143
PATIENCE_SECONDS = 5.0


class _Ended(Exception):
    """A signal told us to end."""


def _end(signal_number: int, frame: FrameType | None) -> None:
    raise _Ended


def main(arguments: list[str]) -> int:
    pid_file, command = Path(arguments[0]), arguments[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _end)
    try:
        pid_file.write_text(str(os.getpid()))
        status = _wait(_start(command, libc))
    except _Ended:
        status = ENDED_BY_SIGNAL
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    _end_descendants()
    return status


def _start(command: list[str], libc: ctypes.CDLL) -> int:
    child = os.fork()
    if child:
        return child
    try:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.execvp(command[0], command)  # noqa: S606 - the command is the server's own
    finally:
        os._exit(127)


def _wait(child: int) -> int:
    """The exit status of ``child``; orphans that end meanwhile are laid to rest."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _end_descendants() -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for pid in _descendants():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def _descendants() -> list[int]:
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            # The name, in parentheses, may hold spaces; the parent is the second field after it.
            parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
    found: list[int] = []
    generation = {os.getpid()}
    while generation:
        generation = {pid for pid, parent in parents.items() if parent in generation}
        found += generation
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
