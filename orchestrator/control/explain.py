"""Why it is as it is: the cause first, then the evidence, then one command.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.model import (
    Deployment,
    DeploymentStatus,
    Event,
    GroupName,
    Node,
    NodeState,
    Plan,
    Seen,
)
from orchestrator.reasons import Reason, reason

# Which cause a person should hear of first; codes that are not here come after, in their order.
_FIRST = (
    "store-unavailable",
    "engine-stopped",
    "not-configured",
    "pass-failed",
    "site-unreachable",
    "pool-unreachable",
    "login-ended",
    "login-missing",
    "login-refused",
    "login-unknown",
    "too-many-failures",
    "configure-failed",
    "create-failed",
    "no-offer",
    "quota-exhausted",
    "boot-timed-out",
    "join-timed-out",
    "machine-lost",
    "node-unfit",
    "node-lost",
    "delete-failed",
    "at-maximum",
)
_LAST = ("jobs-wait", "no-work")


@dataclass(frozen=True)
class GroupState:
    """What the last pass saw of a group; None is unknown, which is never 0."""

    wanted: int | None = None
    joined: int | None = None
    busy: int | None = None
    idle: int | None = None
    jobs_running: int | None = None
    jobs_waiting: int | None = None
    cores_waiting: int | None = None
    oldest_wait_seconds: float | None = None


@dataclass(frozen=True)
class Explanation:
    """``cause`` is the one thing to know; ``evidence`` are reasons and plain remarks."""

    subject: str
    cause: Reason
    evidence: tuple[Reason | str, ...] = ()
    next_command: str = ""


def group_states(
    deployment: Deployment, nodes: Sequence[Node], seen: Seen, plan: Plan
) -> dict[GroupName, GroupState]:
    """The state of every group, from what one pass saw and decided."""
    states = {}
    for group in deployment.spec.groups:
        mine = {node.name for node in nodes if node.group == group.name}
        joined = sum(n.state is NodeState.JOINED for n in nodes if n.name in mine)
        state = {"wanted": plan.wanted.get(group.name), "joined": joined}
        machines = seen.machines.get(group.pool) if group.pool else None
        if machines and machines.is_fresh:
            own = [machine for machine in machines.value if machine.node in mine]
            state["busy"] = sum(machine.jobs > 0 for machine in own)
            state["idle"] = sum(machine.jobs == 0 for machine in own)
            state["jobs_running"] = sum(machine.jobs for machine in own)
        demand = seen.demand.get(group.name)
        oldest = None
        if demand and demand.is_fresh:
            state["jobs_waiting"] = demand.value.jobs
            state["cores_waiting"] = demand.value.cores
            oldest = demand.value.oldest_wait_seconds
        states[group.name] = GroupState(**state, oldest_wait_seconds=oldest)
    return states


def explain_deployment(
    deployment: Deployment, nodes: Sequence[Node], states: Mapping[GroupName, GroupState]
) -> Explanation:
    """The most serious of the reasons that the last pass gave, with counts as evidence."""
    reasons = [r for r in (deployment.status_reason, *deployment.reasons) if r]
    ranked = sorted(dict.fromkeys(reasons), key=_rank)
    remarks = [_remark(deployment, group.name, nodes, states) for group in deployment.spec.groups]
    cause = ranked[0] if ranked else _nothing_waits(deployment, nodes, states)
    return Explanation(
        deployment.id, cause, (*ranked[1:], *filter(None, remarks)), cause.next_command
    )


def explain_node(node: Node, events: Sequence[Event]) -> Explanation:
    """The node's own reason, and the last things that failed on it."""
    if node.reason:
        cause = node.reason
    elif node.state is NodeState.GONE:
        cause = reason("node-gone", node=node.name)
    else:
        cause = reason("node-in-service", node=node.name)
    remarks = [f"The node is {node.state.value} at site {node.site}, flavour {node.flavour}."]
    remarks += [event.message for event in events[-5:]]
    return Explanation(node.name, cause, tuple(remarks), cause.next_command)


def explain_job(job: str, reasons: Sequence[Reason]) -> Explanation | None:
    """What the pools say of a job; None when none of them knows why it would wait."""
    if not reasons:
        return None
    ranked = sorted(reasons, key=_rank)
    return Explanation(job, ranked[0], tuple(ranked[1:]), ranked[0].next_command)


def _rank(why: Reason) -> int:
    if why.code in _FIRST:
        return _FIRST.index(why.code)
    return len(_FIRST) + (why.code in _LAST)


def _nothing_waits(
    deployment: Deployment, nodes: Sequence[Node], states: Mapping[GroupName, GroupState]
) -> Reason:
    if deployment.status is DeploymentStatus.DELETE_COMPLETE:
        return reason("deleted")
    alive = any(node.state is not NodeState.GONE for node in nodes)
    for group in deployment.spec.groups:
        state = states.get(group.name)
        if not alive and group.pool and group.vacuum and state and state.jobs_waiting == 0:
            return reason("no-work", pool=group.pool, group=group.name, deployment=deployment.id)
    return reason("as-wished")


def _remark(
    deployment: Deployment,
    group: GroupName,
    nodes: Sequence[Node],
    states: Mapping[GroupName, GroupState],
) -> str:
    spec = deployment.spec.group(group)
    alive = [n for n in nodes if n.group == group and n.state is not NodeState.GONE]
    joined = sum(node.state is NodeState.JOINED for node in alive)
    text = f"Group {group} has {len(alive)} nodes, {joined} in service ({spec.minimum} to "
    text += f"{spec.maximum} allowed)"
    state = states.get(group)
    if state and state.jobs_waiting is not None:
        text += f"; {state.jobs_waiting} jobs wait, {state.jobs_running or 0} run"
    return text + "."
