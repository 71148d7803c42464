"""What the loop works with: nodes, the intents of its actions, configuration runs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, exists, func, insert, not_, or_, select, update

from orchestrator.errors import LeaseLost
from orchestrator.model import (
    Action,
    ConfigureNodes,
    CreateInstance,
    DeploymentId,
    Intent,
    IntentId,
    Node,
    NodeName,
    NodeState,
    Outcome,
    OutcomeKind,
    RenewCredential,
    Run,
    RunState,
)
from orchestrator.store import codec
from orchestrator.store.leases import Lease
from orchestrator.store.schema import drains, enrolments, intents, nodes, runs

_GONE = NodeState.GONE.value
_RUNNING = RunState.RUNNING.value


# --- nodes --------------------------------------------------------------------------------------


def read_nodes(
    connection: Connection, id: DeploymentId, gone_since: float | None
) -> tuple[Node, ...]:
    query = select(nodes.c.node).where(nodes.c.deployment == id)
    if gone_since is None:
        query = query.where(nodes.c.state != _GONE)
    else:
        query = query.where((nodes.c.state != _GONE) | (nodes.c.since >= gone_since))
    return tuple(connection.execute(query.order_by(nodes.c.number)).scalars())


def write_nodes(connection: Connection, id: DeploymentId, changed: Sequence[Node]) -> None:
    for node in changed:
        if node.deployment != id:
            raise ValueError(f"node {node.name} is not of deployment {id}")
        row = {"state": node.state.value, "since": node.since, "node": node}
        there = connection.execute(
            update(nodes).where(nodes.c.deployment == id, nodes.c.name == node.name).values(**row)
        )
        if there.rowcount == 0:
            connection.execute(insert(nodes).values(deployment=id, name=node.name, **row))


# --- intents and runs ---------------------------------------------------------------------------


def open_intents(
    connection: Connection, lease: Lease, actions: Sequence[Action], now: float
) -> tuple[Intent, ...]:
    """One intent per action, in their order; for a ConfigureNodes also one run per node."""
    opened = []
    for action in actions:
        intent = Intent(IntentId(uuid.uuid4().hex), lease.deployment, action, lease.holder, now)
        kind = type(action).__name__
        number: int = connection.execute(
            insert(intents)
            .values(
                id=intent.id,
                deployment=intent.deployment,
                kind=kind,
                node=getattr(action, "node", None),
                action=codec.to_json(action, codec.ACTIONS[kind]),
                holder=intent.holder,
                decided_at=now,
            )
            .returning(intents.c.number)
        ).scalar_one()
        if isinstance(action, ConfigureNodes):
            _open_runs(connection, intent, number, action)
        opened.append(intent)
    return tuple(opened)


def _open_runs(connection: Connection, intent: Intent, number: int, action: ConfigureNodes) -> None:
    attempts = {n.name: n.attempts for n in read_nodes(connection, intent.deployment, None)}
    if unknown := [name for name in action.nodes if name not in attempts]:
        raise ValueError(f"nodes {', '.join(unknown)} are to be configured and do not exist")
    rows = [
        {
            "intent": intent.id,
            "node": name,
            "number": number,
            "deployment": intent.deployment,
            "attempt": attempts[name],
            "state": _RUNNING,
            "why": "",
        }
        for name in action.nodes
    ]
    if rows:
        connection.execute(insert(runs), rows)


def finish(connection: Connection, id: IntentId, outcome: Outcome, now: float) -> None:
    """Settle an open intent.  Runs of it that never said how they ended end with it, but for
    those that are the nodes' own."""
    changed = connection.execute(
        update(intents)
        .where(intents.c.id == id, intents.c.finished_at.is_(None))
        .values(outcome=outcome, finished_at=now)
    )
    if changed.rowcount != 1:
        raise LeaseLost(f"Intent {id} is settled already, or no longer there.")
    state = RunState.FAILED if outcome.kind is OutcomeKind.FAILED else RunState.LOST
    connection.execute(
        update(runs)
        .where(runs.c.intent == id, runs.c.state == _RUNNING, runs.c.deadline.is_(None))
        .values(state=state.value, why=outcome.why, finished_at=now)
    )


def finish_run(
    connection: Connection, id: IntentId, node: NodeName, state: RunState, why: str, now: float
) -> None:
    changed = connection.execute(
        update(runs)
        .where(runs.c.intent == id, runs.c.node == node, runs.c.state == _RUNNING)
        .values(state=state.value, why=why, finished_at=now)
    )
    if changed.rowcount != 1:
        raise LeaseLost(f"The run of node {node} is settled already, or no longer there.")


def read_intents(
    connection: Connection, id: DeploymentId, open_only: bool = False
) -> tuple[Intent, ...]:
    query = select(intents).where(intents.c.deployment == id)
    if open_only:
        query = query.where(intents.c.finished_at.is_(None))
    return tuple(_intent(row) for row in connection.execute(query.order_by(intents.c.number)))


def last_runs(
    connection: Connection, id: DeploymentId, holder: str, now: float
) -> Mapping[NodeName, Run]:
    last = (
        select(func.max(runs.c.number))
        .where(runs.c.deployment == id)
        .group_by(runs.c.node)
        .with_only_columns(runs.c.node, func.max(runs.c.number).label("number"))
        .subquery()
    )
    query = (
        select(runs, intents.c.holder)
        .join(last, and_(runs.c.node == last.c.node, runs.c.number == last.c.number))
        .join(intents, intents.c.id == runs.c.intent)
        .where(living(runs.c.deployment, runs.c.node))
    )
    found = {}
    for row in connection.execute(query):
        found[NodeName(row.node)] = _last_run(row, holder, now)
    return found


def _last_run(row: Row[Any], holder: str, now: float) -> Run:
    """A run that its node does by itself ends at its deadline, whichever server looks."""
    state, why = RunState(row.state), row.why
    if state is RunState.RUNNING and row.deadline is not None:
        if now >= row.deadline:
            state, why = RunState.FAILED, "the node did not report how it ended in time"
    elif state is RunState.RUNNING and row.holder != holder:
        state = RunState.LOST
    return Run(NodeName(row.node), row.attempt, state, why)


def last_outcomes(
    connection: Connection, id: DeploymentId, holder: str, kind: type[Action]
) -> Mapping[NodeName, Outcome]:
    last = (
        select(func.max(intents.c.number))
        .where(intents.c.deployment == id, intents.c.kind == kind.__name__)
        .group_by(intents.c.node)
    )
    query = select(intents).where(
        intents.c.number.in_(last), living(intents.c.deployment, intents.c.node)
    )
    found = {}
    for row in connection.execute(query):
        if row.outcome is not None:
            found[NodeName(row.node)] = row.outcome
        elif row.holder != holder:
            why = "the server that asked for it stopped before it had an answer"
            found[NodeName(row.node)] = Outcome(OutcomeKind.UNKNOWN, why)
    return found


def open_renewal(connection: Connection, id: DeploymentId, node: NodeName) -> IntentId | None:
    query = (
        select(intents.c.id, intents.c.finished_at)
        .where(
            intents.c.deployment == id,
            intents.c.kind == RenewCredential.__name__,
            intents.c.node == node,
        )
        .order_by(intents.c.number.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    return IntentId(row.id) if row and row.finished_at is None else None


def prune(connection: Connection, before: float) -> None:
    """Forget nodes that went before ``before``, and intents decided before it, except the creation
    and the configuration of nodes that are there; and what nodes that are gone were given, or were
    asked."""
    connection.execute(nodes.delete().where(nodes.c.state == _GONE, nodes.c.since < before))
    made_it = and_(
        intents.c.kind == CreateInstance.__name__, living(intents.c.deployment, intents.c.node)
    )
    configured_it = exists().where(
        runs.c.intent == intents.c.id, living(runs.c.deployment, runs.c.node)
    )
    connection.execute(
        intents.delete().where(intents.c.decided_at < before, not_(or_(made_it, configured_it)))
    )
    for table in (enrolments, drains):
        connection.execute(table.delete().where(not_(living(table.c.deployment, table.c.node))))


def living(deployment: Any, node: Any) -> Any:
    """Whether the node that the two columns name is there, and not GONE."""
    return exists().where(
        nodes.c.deployment == deployment, nodes.c.name == node, nodes.c.state != _GONE
    )


def _intent(row: Row[Any]) -> Intent:
    return Intent(
        IntentId(row.id),
        DeploymentId(row.deployment),
        codec.action_from_json(row.kind, row.action),
        row.holder,
        row.decided_at,
        row.outcome,
        row.finished_at,
    )
