"""What ansible-runner tells of a run, as :class:`~orchestrator.configure.base.TaskEvent`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from orchestrator.configure.base import HostToConfigure, TaskEvent, TaskStatus
from orchestrator.configure.run_files import FAILED_TASK, FINISHED_TASK
from orchestrator.model import NodeName

LONGEST_MESSAGE = 2000
SHORTEST_SECRET = 4
HIDDEN = "(hidden)"
INCLUDES = frozenset({"include_role", "include_tasks"})

# What ssh and Mitogen say of a host whose key is not the one that we know.
_OTHER_HOST_KEY = re.compile(
    r"host key verification failed|remote host identification has changed|mismatching host key",
    re.IGNORECASE,
)
_MITOGEN_FAULT = re.compile(r"mitogen|Traceback \(most recent call last\)|ModuleNotFoundError")


def redactor(hosts: Sequence[HostToConfigure]) -> Callable[[str], str]:
    """A function that takes every secret of ``hosts`` out of a text."""
    found = secrets_of(hosts)
    if not found:
        return lambda text: text
    pattern = re.compile("|".join(re.escape(secret) for secret in found))
    return lambda text: pattern.sub(HIDDEN, text)


def secrets_of(hosts: Sequence[HostToConfigure]) -> list[str]:
    """Every secret text of ``hosts``, the longest first."""
    secrets: set[str] = set()
    for host in hosts:
        for call in host.roles:
            for name in call.secret:
                secrets.update(_strings(call.variables.get(name)))
    return sorted((s for s in secrets if len(s) >= SHORTEST_SECRET), key=len, reverse=True)


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
        yield value.strip()
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


class Progress:
    """Follows one run: turns its events into ours, and knows which hosts have had their last.

    A task that fails is held back until it is certain that the role does not mend it: then it is
    the host's last event.
    """

    def __init__(
        self, hosts: Sequence[HostToConfigure], clock: Callable[[], float] = time.time
    ) -> None:
        self._redact = redactor(hosts)
        self._clock = clock
        self._failures: dict[NodeName, TaskEvent] = {}
        self.left = {host.node for host in hosts}
        self.any_task_ran = False
        self.complaint = ""  # the last thing Ansible said that belongs to no host

    def take(self, event: Mapping[str, Any]) -> TaskEvent | None:
        """What an event of ansible-runner means to us, if anything."""
        kind, data = event.get("event", ""), event.get("event_data") or {}
        if kind in ("error", "verbose") and "ERROR" in (text := str(event.get("stdout", ""))):
            self.complaint = self._redact(text)[:LONGEST_MESSAGE]
        node = NodeName(str(data.get("host", "")))
        if node not in self.left:
            return None
        match kind:
            case "runner_on_ok":
                return self._ok(node, data)
            case "runner_on_skipped":
                return self._skipped(node, data)
            case "runner_on_failed":
                return self._failed(node, data)
            case "runner_on_unreachable":
                self.left.discard(node)
                message = self._message(data)
                stranger = bool(_OTHER_HOST_KEY.search(message))
                status = TaskStatus.DISTRUSTED if stranger else TaskStatus.UNREACHABLE
                return self._event(node, data, status, message)
        return None

    def mitogen_fault(self, event: TaskEvent) -> bool:
        """Whether a host's failure looks like Mitogen's own."""
        failed = event.status in (TaskStatus.FAILED, TaskStatus.UNREACHABLE)
        return failed and bool(_MITOGEN_FAULT.search(event.message))

    def give_up(self, why: str) -> list[TaskEvent]:
        """The last events of all hosts that have had none: a failure held back, or ``why``."""
        events = []
        for node in sorted(self.left):
            held = self._failures.get(node)
            events.append(held or self._plain(node, TaskStatus.FAILED, "", "the run", why))
        self.left.clear()
        return events

    def _ok(self, node: NodeName, data: Mapping[str, Any]) -> TaskEvent | None:
        task = data.get("task")
        if task == FINISHED_TASK:
            self.left.discard(node)
            return self._plain(node, TaskStatus.FINISHED, "", "finished", "")
        if task == FAILED_TASK:
            self.left.discard(node)
            return self._failures.pop(
                node, self._plain(node, TaskStatus.FAILED, "", "services", "a task failed")
            )
        self.any_task_ran = True
        if str(data.get("task_action")).rpartition(".")[2] in INCLUDES:
            return None  # what it includes tells of itself
        changed = bool((data.get("res") or {}).get("changed"))
        return self._event(node, data, TaskStatus.CHANGED if changed else TaskStatus.OK, "")

    def _skipped(self, node: NodeName, data: Mapping[str, Any]) -> TaskEvent | None:
        # Without a role it is one of the play's own: a service of another host.
        return self._event(node, data, TaskStatus.SKIPPED, "") if data.get("role") else None

    def _failed(self, node: NodeName, data: Mapping[str, Any]) -> TaskEvent | None:
        self.any_task_ran = True
        message = self._message(data)
        if data.get("ignore_errors"):
            return self._event(node, data, TaskStatus.OK, message)
        self._failures[node] = self._event(node, data, TaskStatus.FAILED, message)
        return None

    def _event(
        self, node: NodeName, data: Mapping[str, Any], status: TaskStatus, message: str
    ) -> TaskEvent:
        return TaskEvent(
            node=node,
            at=self._clock(),
            role=str(data.get("role") or ""),
            task=self._redact(str(data.get("task") or "")),
            status=status,
            message=message,
            seconds=float(data.get("duration") or 0.0),
        )

    def _plain(
        self, node: NodeName, status: TaskStatus, role: str, task: str, message: str
    ) -> TaskEvent:
        return TaskEvent(node, self._clock(), role, task, status, self._redact(message))

    def _message(self, data: Mapping[str, Any]) -> str:
        """Why a task failed: its message and the end of what it wrote."""
        result = data.get("res") or {}
        if "censored" in result:
            return "the task's output is hidden because it may hold a secret"
        parts = [str(result.get("msg") or "")]
        for stream in ("stderr", "stdout"):
            text = str(result.get(stream) or "").strip()
            if text and text not in parts[0]:
                parts.append(text[-LONGEST_MESSAGE // 2 :])
                break
        return self._redact("\n".join(part for part in parts if part))[:LONGEST_MESSAGE]
