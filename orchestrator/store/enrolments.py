"""What nodes that configure themselves show: credentials, and the runs that they report.

Only hashes are stored, and every look is by hash: whoever reads the table can show nothing, and
how long a look takes tells nothing about a credential.  A node counts as long as it is on its way
to being configured; after that all that it was given is worthless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    delete,
    exists,
    insert,
    select,
    update,
)

from orchestrator.model import DeploymentId, IntentId, NodeName, NodeState, RunState
from orchestrator.store.schema import enrolments, nodes, runs

_OVER = [state.value for state in (NodeState.DELETING, NodeState.GONE)]
_RUNNING = RunState.RUNNING.value


@dataclass(frozen=True)
class Enrolled:
    """A node that showed what it should."""

    deployment: DeploymentId
    node: NodeName


@dataclass(frozen=True)
class PullRun:
    """A run that a node does by itself; ``reported`` counts the events that it has told."""

    intent: IntentId
    deployment: DeploymentId
    node: NodeName
    attempt: int
    deadline: float
    reported: int


def issue(connection: Connection, node: Enrolled, credential: str, expires_at: float) -> None:
    connection.execute(
        insert(enrolments).values(
            credential=credential,
            deployment=node.deployment,
            node=node.node,
            expires_at=expires_at,
            host_keys=(),
        )
    )


def enrol(connection: Connection, credential: str, secret: str, now: float) -> Enrolled | None:
    """Use ``credential`` up for ``secret``; None where it is worth nothing.

    Whoever has both may repeat it and gets the same answer, so that a lost answer loses nothing.
    """
    used = and_(
        enrolments.c.credential == credential,
        enrolments.c.secret.is_(None),
        enrolments.c.expires_at > now,
        _wanted(),
    )
    connection.execute(update(enrolments).where(used).values(secret=secret))
    found = connection.execute(
        select(enrolments.c.deployment, enrolments.c.node).where(
            enrolments.c.credential == credential, enrolments.c.secret == secret, _wanted()
        )
    ).first()
    if found is None:
        return None
    # A creation that was repeated issued one each time; the host has one of them.
    connection.execute(
        delete(enrolments).where(
            enrolments.c.deployment == found.deployment,
            enrolments.c.node == found.node,
            enrolments.c.credential != credential,
        )
    )
    return Enrolled(DeploymentId(found.deployment), NodeName(found.node))


def of_credential(connection: Connection, credential: str) -> Enrolled | None:
    """Whose this is or was, whatever it is worth."""
    query = select(enrolments.c.deployment, enrolments.c.node)
    found = connection.execute(query.where(enrolments.c.credential == credential)).first()
    return Enrolled(DeploymentId(found.deployment), NodeName(found.node)) if found else None


def of_secret(connection: Connection, secret: str) -> Enrolled | None:
    query = select(enrolments.c.deployment, enrolments.c.node)
    found = connection.execute(query.where(enrolments.c.secret == secret, _wanted())).first()
    return Enrolled(DeploymentId(found.deployment), NodeName(found.node)) if found else None


def enrolled(connection: Connection, deployment: DeploymentId) -> frozenset[NodeName]:
    query = select(enrolments.c.node).where(
        enrolments.c.deployment == deployment, enrolments.c.secret.is_not(None)
    )
    return frozenset(NodeName(name) for name in connection.execute(query).scalars())


def host_keys(connection: Connection, node: Enrolled) -> tuple[str, ...]:
    query = select(enrolments.c.host_keys).where(
        enrolments.c.deployment == node.deployment,
        enrolments.c.node == node.node,
        enrolments.c.secret.is_not(None),
    )
    found: tuple[str, ...] | None = connection.execute(query).scalar()
    return found or ()


def tell_host_keys(connection: Connection, node: Enrolled, keys: Sequence[str]) -> None:
    connection.execute(
        update(enrolments)
        .where(enrolments.c.deployment == node.deployment, enrolments.c.node == node.node)
        .values(host_keys=tuple(keys))
    )


# --- runs ---------------------------------------------------------------------------------------


def offer(
    connection: Connection, intent: IntentId, names: Sequence[NodeName], deadline: float
) -> None:
    """From now on these runs are the nodes' own: they outlive this server."""
    connection.execute(
        update(runs)
        .where(runs.c.intent == intent, runs.c.node.in_(names), runs.c.state == _RUNNING)
        .values(deadline=deadline)
    )


def offered(connection: Connection, node: Enrolled, now: float) -> PullRun | None:
    """The run that the node is to do now."""
    query = (
        select(runs)
        .where(runs.c.deployment == node.deployment, runs.c.node == node.node)
        .order_by(runs.c.number.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    if row is None or row.state != _RUNNING or row.deadline is None or row.deadline <= now:
        return None
    return _run(row)


def hand_out(connection: Connection, run: PullRun, reporter: str) -> bool:
    """From now on the run is reported with ``reporter`` and with no earlier one, from the start;
    False where it has ended meanwhile."""
    changed = connection.execute(
        update(runs)
        .where(runs.c.intent == run.intent, runs.c.node == run.node, runs.c.state == _RUNNING)
        .values(reporter=reporter, reported=0)
    )
    return changed.rowcount == 1


def of_reporter(connection: Connection, reporter: str, now: float) -> PullRun | None:
    query = select(runs).where(
        runs.c.reporter == reporter, runs.c.state == _RUNNING, runs.c.deadline > now
    )
    row = connection.execute(query).first()
    return _run(row) if row else None


def count(connection: Connection, run: PullRun, reported: int) -> bool:
    """Note that ``reported`` events are known; False where somebody else noted more meanwhile."""
    changed = connection.execute(
        update(runs)
        .where(
            runs.c.intent == run.intent,
            runs.c.node == run.node,
            runs.c.reported == run.reported,
            runs.c.state == _RUNNING,
        )
        .values(reported=reported)
    )
    return changed.rowcount == 1


def _wanted() -> ColumnElement[bool]:
    return exists().where(
        nodes.c.deployment == enrolments.c.deployment,
        nodes.c.name == enrolments.c.node,
        nodes.c.state.not_in(_OVER),
    )


def _run(row: Row[Any]) -> PullRun:
    return PullRun(
        IntentId(row.intent),
        DeploymentId(row.deployment),
        NodeName(row.node),
        row.attempt,
        row.deadline,
        row.reported,
    )
