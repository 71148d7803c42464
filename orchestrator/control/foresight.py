"""What the loop would come to if the world did as it is asked.  Pure.

The planner itself decides, pass after pass; between two passes the world takes its step: what was
asked for is there, hosts answer, runs succeed, machines join, jobs of draining machines end.  What
cannot be seen stays unseen.  So a plan that is shown is the plan that is carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from orchestrator.control.plan import make_plan
from orchestrator.model import (
    Action,
    ConfigureNodes,
    CreateInstance,
    DeleteInstance,
    Deployment,
    Instance,
    InstanceId,
    InstanceState,
    Machine,
    Node,
    NodeName,
    NodeState,
    Observed,
    Outcome,
    OutcomeKind,
    Patience,
    Plan,
    PoolName,
    Quota,
    RenewCredential,
    RevokeCredentials,
    Run,
    RunState,
    Seen,
    SiteName,
)

STEP_SECONDS = 0.01
# A plan must not keep a person waiting: a pass costs what its nodes cost.
_MOST_WORK = 30_000
_FEWEST_PASSES, _MOST_PASSES = 40, 400
_DONE = Outcome(OutcomeKind.DONE)


@dataclass
class Foresight:
    """How it ends: ``nodes`` with all that came and went, those ``configured`` while in service,
    and ``complete`` where nothing is left to do or to wait for; ``first`` is the next pass."""

    first: Plan
    last: Plan
    nodes: dict[NodeName, Node]
    seen: Seen
    configured: set[NodeName] = field(default_factory=set)
    complete: bool = False


def foresee(
    deployment: Deployment, nodes: Iterable[Node], seen: Seen, now: float, patience: Patience
) -> Foresight:
    """Follow the planner to where it comes to rest, or for as many passes as a person can wait."""
    known = {node.name: node for node in nodes}
    plan = make_plan(deployment, known.values(), seen, now, patience)
    foresight = Foresight(plan, plan, known, seen)
    for number in range(1, _passes(len(known) + len(plan.nodes))):
        foresight.nodes |= {node.name: node for node in plan.nodes}
        foresight.configured |= _in_service(foresight.nodes, plan.actions)
        after = _step(foresight.seen, foresight.nodes, plan.actions)
        if plan.empty and after == foresight.seen:
            foresight.complete = True
            break
        foresight.seen = after
        later = now + number * STEP_SECONDS
        plan = make_plan(deployment, foresight.nodes.values(), after, later, patience)
        foresight.last = plan
    return foresight


def _passes(count: int) -> int:
    return max(_FEWEST_PASSES, min(_MOST_PASSES, _MOST_WORK // max(1, count)))


def _in_service(nodes: Mapping[NodeName, Node], actions: Iterable[Action]) -> set[NodeName]:
    names = [n for a in actions if isinstance(a, ConfigureNodes) for n in a.nodes]
    return {name for name in names if nodes[name].refreshing}


def _step(seen: Seen, nodes: Mapping[NodeName, Node], actions: Iterable[Action]) -> Seen:
    """The world a moment later, as obliging as it can be."""
    actions = tuple(actions)
    created = [nodes[a.node] for a in actions if isinstance(a, CreateInstance)]
    deleted = {(a.site, a.instance) for a in actions if isinstance(a, DeleteInstance)}
    gone = [n for n in nodes.values() if (n.site, n.instance) in deleted]
    runs = {n: run for n, run in seen.runs.items() if run.state is RunState.FAILED}
    runs |= {
        name: Run(name, node.attempts, RunState.SUCCEEDED)
        for name, node in nodes.items()
        if name not in runs or runs[name].attempt != node.attempts
    }
    revoked = {a.pool for a in actions if isinstance(a, RevokeCredentials)}
    return replace(
        seen,
        instances={
            site: _listing(site, listing, created, deleted)
            for site, listing in seen.instances.items()
        },
        quotas={site: _quota(site, quota, created, gone) for site, quota in seen.quotas.items()},
        machines={pool: _machines(pool, m, nodes) for pool, m in seen.machines.items()},
        reachable=frozenset(nodes),
        runs=runs,
        renewals={
            **seen.renewals,
            **{a.node: _DONE for a in actions if isinstance(a, RenewCredential)},
        },
        creates={**seen.creates, **{n.name: _DONE for n in created}},
        revoked=seen.revoked | revoked,
    )


def _listing(
    site: SiteName,
    listing: Observed[tuple[Instance, ...]],
    created: Iterable[Node],
    deleted: set[tuple[SiteName, InstanceId]],
) -> Observed[tuple[Instance, ...]]:
    if not listing.is_fresh:
        return listing
    there = [_up(one) for one in listing.value if (site, one.id) not in deleted]
    known = {one.name for one in there}
    there += [_made(node) for node in created if node.site == site and node.name not in known]
    return Observed.fresh(tuple(there), listing.at)


def _up(instance: Instance) -> Instance:
    if instance.state is not InstanceState.STARTING:
        return instance
    address = instance.address or f"address of {instance.name}"
    return replace(instance, state=InstanceState.RUNNING, address=address)


def _made(node: Node) -> Instance:
    return Instance(
        id=InstanceId(f"instance of {node.name}"),
        name=node.name,
        state=InstanceState.RUNNING,
        owner=node.deployment,
        node=node.name,
        address=f"address of {node.name}",
    )


def _quota(
    site: SiteName, observed: Observed[Quota], created: Iterable[Node], gone: Iterable[Node]
) -> Observed[Quota]:
    if not observed.is_fresh:
        return observed
    quota = observed.value
    for sign, nodes in ((1, created), (-1, gone)):
        mine = [node for node in nodes if node.site == site]
        quota = replace(
            quota,
            instances_used=quota.instances_used + sign * len(mine),
            cores_used=quota.cores_used + sign * sum(node.cores for node in mine),
            memory_mb_used=quota.memory_mb_used + sign * sum(node.memory_mb for node in mine),
        )
    return Observed.fresh(quota, observed.at)


def _machines(
    pool: PoolName, observed: Observed[tuple[Machine, ...]], nodes: Mapping[NodeName, Node]
) -> Observed[tuple[Machine, ...]]:
    if not observed.is_fresh:
        return observed
    there = []
    for machine in observed.value:
        node = nodes.get(machine.node)
        if node is None or node.state not in (NodeState.DRAINING, NodeState.DELETING):
            there.append(machine)
        elif node.state is NodeState.DRAINING:
            there.append(replace(machine, draining=True, jobs=0))
    known = {machine.node for machine in there}
    there += [
        _joined(node)
        for node in nodes.values()
        if node.pool == pool and node.state is NodeState.JOINING and node.name not in known
    ]
    return Observed.fresh(tuple(there), observed.at)


def _joined(node: Node) -> Machine:
    return Machine(
        name=node.name,
        node=node.name,
        deployment=node.deployment,
        cores=node.cores,
        cores_free=node.cores,
        memory_mb=node.memory_mb,
        memory_mb_free=node.memory_mb,
        jobs=0,
    )
