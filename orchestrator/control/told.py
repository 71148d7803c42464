"""What a host's tasks are in the list of events, however they were learned."""

from __future__ import annotations

from orchestrator.configure.base import TaskEvent
from orchestrator.model import DeploymentId, Event, EventKind, NodeState


def event_of(deployment: DeploymentId, task: TaskEvent) -> Event:
    name = f"{task.role.rpartition('.')[2]}: {task.task}" if task.role else task.task
    message = f"{task.status.value} {name}" + (f": {task.message}" if task.message else "")
    return Event(
        at=task.at,
        kind=EventKind.TASK,
        deployment=deployment,
        message=message,
        node=task.node,
        phase=NodeState.CONFIGURING,
        failed=task.status.failed,
    )
