"""What a configuration run did on a host: the tasks that count."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import yaml

from orchestrator.configure.base import TaskEvent, TaskStatus

ROLES = Path(__file__).resolve().parent.parent / "ansible" / "roles"


def names_of(events: Iterable[TaskEvent]) -> list[str]:
    """The tasks that ran: neither what was skipped nor what only includes other tasks."""
    ran = (TaskStatus.OK, TaskStatus.CHANGED)
    return [event.task for event in events if event.status in ran and event.role]


def on_the_host(tasks: Iterable[str]) -> list[str]:
    """Of these tasks those that do something on the host; the others only check values."""
    checks = _checks()
    return [t for t in tasks if t not in checks and not t.startswith("Validating arguments")]


@lru_cache(maxsize=1)
def _checks() -> frozenset[str]:
    files = ROLES.glob("*/tasks/*.yml")
    tasks = (task for file in files for task in yaml.safe_load(file.read_text()) or [])
    return frozenset(task["name"] for task in tasks if "ansible.builtin.assert" in task)
