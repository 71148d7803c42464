"""One process of Ansible: in its sandbox, below its supervisor, with ansible-runner around it.

What runs inside may be hostile, should all that keeps users' text from being evaluated have failed.
So nothing that the server reads or signals is for the run to write, but the directory of events;
and what is read there is taken as what it is: somebody else's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import re
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator import sandbox
from orchestrator.configure import supervisor
from orchestrator.configure.cell import Cell

log = logging.getLogger(__name__)

IDENT = "run"
POLL_SECONDS = 0.2
END_SECONDS = 15.0
EVENT_BYTES = 32_000_000
# All that Ansible's processes get of the server's environment, and what the runner adds to it.
ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "TZ")
RUNNER_ENVIRONMENT = (
    "ANSIBLE_CALLBACK_PLUGINS",
    "ANSIBLE_STDOUT_CALLBACK",
    "AWX_ISOLATED_DATA_DIR",
)
_EVENT_ID = re.compile(r"[0-9a-fA-F-]{1,64}")


class AnsibleRun:
    """A run that goes on from the moment it is made; ``directory`` has its files."""

    def __init__(self, directory: Path, playbook: Path, cell: Cell, limit_seconds: float) -> None:
        self._directory = directory
        self._playbook = playbook
        self._cell = cell
        self._queue: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._deadline = time.monotonic() + limit_seconds
        self._limit_seconds = limit_seconds
        self._ending = threading.Event()
        self._fault = ""
        self.overdue = False
        self._thread = threading.Thread(target=self._follow, name="ansible-run", daemon=True)
        self._thread.start()

    def events(self) -> Iterator[Mapping[str, Any]]:
        """The runner's events as they come, until the run has ended or its time is up."""
        while True:
            try:
                wait = max(0.0, self._deadline - time.monotonic())
                event = self._queue.get(timeout=wait)
            except queue.Empty:
                self.overdue = True
                return
            if event is None:
                return
            yield event

    def why(self, complaint: str) -> str:
        """Why the run ended before a host did."""
        if self.overdue:
            return f"it was not done after {self._limit_seconds:g} s"
        return self._fault or complaint or "Ansible ended before the host was done"

    def end(self) -> None:
        """End the run and all its processes; returns when they are gone."""
        self._ending.set()
        pid_file = self._directory / "supervisor.pid"
        deadline = time.monotonic() + END_SECONDS
        while self._thread.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(pid_file.read_text()), signal.SIGTERM)
            self._thread.join(POLL_SECONDS)

    def _follow(self) -> None:
        try:
            self._run()
        except Exception as error:
            log.exception("ansible-runner failed")
            self._fault = f"ansible-runner failed: {type(error).__name__}"
        finally:
            self._queue.put(None)

    def _run(self) -> None:
        # Imported here: it takes a tenth of a second, and only servers need it.
        from ansible_runner.interface import init_runner

        runner = init_runner(
            private_data_dir=str(self._directory),
            playbook=str(self._playbook),
            inventory=str(self._directory / "inventory.yml"),
            ident=IDENT,
            quiet=True,
            settings={"pexpect_timeout": POLL_SECONDS, "suppress_ansible_output": True},
            cancel_callback=self._abandoned,
        )
        events = self._directory / "artifacts" / IDENT / "job_events"
        events.mkdir(parents=True, mode=0o700)
        runner.config.env = self._environment(runner.config.env)
        runner.config.command = self._command(events)
        runner.config.cwd = str(self._directory)
        handle = os.open(events, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # The runner's own would follow a link that the run has put there.
            runner.event_callback = lambda event: self._queue.put(event | details(handle, event))
            runner.run()
        finally:
            os.close(handle)

    def _abandoned(self) -> bool:
        # The supervisor ends the run; this is for one that never came up.
        return self._ending.is_set() and not (self._directory / "supervisor.pid").exists()

    def _command(self, events: Path) -> list[str]:
        guard = [sys.executable, "-I", "-S", supervisor.__file__]
        inventory = str(self._directory / "inventory.yml")
        # The package, not the script on PATH: a virtual environment need not be activated.
        ansible = [sys.executable, "-m", "ansible.cli.playbook", "-i", inventory]
        inside = self._cell.command(self._directory, events, [*ansible, str(self._playbook)])
        return [*guard, str(self._directory / "supervisor.pid"), *inside]

    def _environment(self, runners: Mapping[str, str]) -> dict[str, str]:
        own = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        own |= {name: runners[name] for name in RUNNER_ENVIRONMENT if name in runners}
        if self._cell.sandbox:
            own["TMPDIR"] = str(sandbox.SCRATCH)
        return own | {
            "ANSIBLE_CONFIG": str(self._directory / "ansible.cfg"),
            # The runner would switch it off where nobody says otherwise.
            "ANSIBLE_HOST_KEY_CHECKING": "True",
            "LC_ALL": "C.UTF-8",
        }


def details(directory: int, event: Mapping[str, Any]) -> dict[str, Any]:
    """What the run has written down of ``event`` in the open ``directory``, which is then removed;
    nothing where that is not a plain file of a reasonable size with a JSON object in it."""
    identifier = event.get("uuid")
    if not isinstance(identifier, str) or not _EVENT_ID.fullmatch(identifier):
        return {}
    name = f"{identifier}-partial.json"
    try:
        found = json.loads(_content(directory, name))
        os.unlink(name, dir_fd=directory)
    except (OSError, ValueError, RecursionError):
        return {}  # most lines of output have none
    return found if isinstance(found, dict) else {}


def _content(directory: int, name: str) -> bytes:
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{name} is not a file")
        content = file.read(EVENT_BYTES + 1)
    if len(content) > EVENT_BYTES:
        raise OSError(f"{name} is too long")
    return content
