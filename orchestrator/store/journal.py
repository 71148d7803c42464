"""Events: append only, in one order that every reader sees alike.

The sequence comes from a counter row, not from the database's own numbering: whoever appends keeps
the row until its transaction ends, so numbers become visible in their order and without gaps.  A
reader that has seen ``n`` and asks for what came since ``n`` misses nothing, on any database.
Append last in a transaction: two that take the counter and other rows in different orders could
block each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, exists, insert, not_, or_, select, update

from orchestrator.model import DeploymentId, Event, EventKind, NodeName, Sight
from orchestrator.store import audit
from orchestrator.store.deployments import seen_by
from orchestrator.store.schema import counters, deployments, events
from orchestrator.store.work import living

_UNPRINTABLE = {0: "\N{REPLACEMENT CHARACTER}"}  # PostgreSQL stores no NUL


@dataclass(frozen=True)
class Filter:
    """Which events are wanted; None and an empty ``kinds`` are all.

    ``sight`` wants those of deployments that are seen by it; who sees everything sees also what is
    of no deployment.
    """

    deployment: DeploymentId | None = None
    node: NodeName | None = None
    kinds: Sequence[EventKind] = ()
    failed: bool | None = None
    sight: Sight | None = None
    phase: str | None = None


def append(connection: Connection, new: Sequence[Event]) -> None:
    if not new:
        return
    last = connection.execute(
        update(counters)
        .where(counters.c.name == "events")
        .values(value=counters.c.value + len(new))
        .returning(counters.c.value)
    ).scalar_one()
    first = last - len(new) + 1
    rows = [_values(event, first + index) for index, event in enumerate(new)]
    connection.execute(insert(events), rows)
    audit.chain(connection, rows)


def last_sequence(connection: Connection) -> int:
    last: int = connection.execute(
        select(counters.c.value).where(counters.c.name == "events")
    ).scalar_one()
    return last


def read(connection: Connection, wanted: Filter, since: int, limit: int) -> tuple[Event, ...]:
    """The first ``limit`` wanted events after ``since``, oldest first."""
    query = _wanted(wanted, since).order_by(events.c.sequence).limit(limit)
    return tuple(_event(row) for row in connection.execute(query))


def read_last(connection: Connection, wanted: Filter, limit: int) -> tuple[Event, ...]:
    """The last ``limit`` wanted events, oldest first."""
    query = _wanted(wanted, 0).order_by(events.c.sequence.desc()).limit(limit)
    return tuple(reversed([_event(row) for row in connection.execute(query)]))


def _wanted(wanted: Filter, since: int) -> Select[Any]:
    query = select(events).where(events.c.sequence > since)
    if wanted.deployment is not None:
        query = query.where(events.c.deployment == wanted.deployment)
    if wanted.node is not None:
        query = query.where(events.c.node == wanted.node)
    if wanted.kinds:
        query = query.where(events.c.kind.in_([kind.value for kind in wanted.kinds]))
    if wanted.failed is not None:
        query = query.where(events.c.failed == wanted.failed)
    if wanted.phase is not None:
        query = query.where(events.c.phase == wanted.phase)
    if wanted.sight is not None and not wanted.sight.everything:
        seen = select(deployments.c.id).where(seen_by(wanted.sight))
        query = query.where(events.c.deployment.in_(seen))
    return query


def prune(connection: Connection, before: float) -> None:
    """Forget events from ``before``, except audits, what concerns a node that is there, and the
    changes of a deployment that is there."""
    living_deployment = exists().where(deployments.c.id == events.c.deployment)
    kept = or_(
        events.c.kind == EventKind.AUDIT.value,
        living(events.c.deployment, events.c.node),
        and_(events.c.kind == EventKind.DEPLOYMENT.value, living_deployment),
    )
    connection.execute(events.delete().where(events.c.at < before, not_(kept)))


def _values(event: Event, sequence: int) -> dict[str, Any]:
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    # What a console or a task printed may be no text at all; the log takes what can be read.
    message = event.message.encode("utf-8", "replace").decode().translate(_UNPRINTABLE)
    return values | {"message": message, "kind": event.kind.value, "sequence": sequence}


def _event(row: Row[Any]) -> Event:
    return Event(**{**row._mapping, "kind": EventKind(row.kind)})
