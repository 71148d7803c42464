"""Calls that are owed to users' callbacks: one row for each change of a deployment's status, or of
whether its owner has to act.

A row is written in the transaction of the change and goes when the receiver has taken it, or when
it is given up.  Before a call its attempt is counted and the next one set, so that a server that
dies meanwhile calls again: at least once, never not at all.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from orchestrator.model import Deployment, DeploymentId, DeploymentStatus
from orchestrator.reasons import FOR_THE_OWNER, Reason
from orchestrator.store.schema import callbacks


@dataclass(frozen=True)
class Call:
    """One call: ``status``, ``status_reason`` and ``changed_at`` are what it is to tell.

    ``id`` is the same for each attempt; ``attempts`` counts those that were begun.
    """

    id: str
    deployment: DeploymentId
    url: str
    status: DeploymentStatus
    status_reason: Reason | None
    changed_at: float
    attempts: int
    retry_at: float


def owe(connection: Connection, before: Deployment, after: Deployment) -> None:
    """Remember to tell of the change, where there is one and somebody to tell."""
    if after.callback is None or not (after.status is not before.status or _is_news(before, after)):
        return
    connection.execute(
        insert(callbacks).values(
            id=uuid.uuid4().hex,
            deployment=after.id,
            url=after.callback,
            status=after.status.value,
            status_reason=after.status_reason,
            changed_at=after.updated_at,
            attempts=0,
            retry_at=0.0,
        )
    )


def _is_news(before: Deployment, after: Deployment) -> bool:
    """Whether its owner has to act now and had not to, or the other way round."""
    codes = [why.code if why else "" for why in (before.status_reason, after.status_reason)]
    return codes[0] != codes[1] and not FOR_THE_OWNER.isdisjoint(codes)


def due(connection: Connection, now: float, limit: int) -> Sequence[Call]:
    """The oldest call of each deployment, where its time has come: a later change is not told
    before an earlier one."""
    first = select(func.min(callbacks.c.number)).group_by(callbacks.c.deployment)
    query = (
        select(callbacks)
        .where(callbacks.c.number.in_(first), callbacks.c.retry_at <= now)
        .order_by(callbacks.c.retry_at, callbacks.c.number)
        .limit(limit)
    )
    return [_call(row) for row in connection.execute(query)]


def begin(connection: Connection, call: Call, retry_at: float) -> bool:
    """Count an attempt before it is made; False where another server makes it."""
    changed = connection.execute(
        update(callbacks)
        .where(callbacks.c.id == call.id, callbacks.c.attempts == call.attempts)
        .values(attempts=call.attempts + 1, retry_at=retry_at)
    )
    return changed.rowcount == 1


def settle(connection: Connection, call: Call) -> None:
    """The receiver has it, or it is given up."""
    connection.execute(delete(callbacks).where(callbacks.c.id == call.id))


def _call(row: Row[Any]) -> Call:
    values = {name: row._mapping[name] for name in Call.__dataclass_fields__}
    return Call(**values | {"status": DeploymentStatus(row.status)})
