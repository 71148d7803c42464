"""How a deployment stands once a pass is decided: status, reasons, the next look.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.control import scaling
from orchestrator.control.configuring import differs
from orchestrator.control.growth import of_this_wish
from orchestrator.control.lifecycle import LIVE
from orchestrator.control.planning import Pass, alive
from orchestrator.model import DeploymentStatus, NodeGroup, NodeState
from orchestrator.reasons import FOR_THE_OWNER, Reason

# Failures in a row after which a deployment that never came up is called failed; it is tried on.
FAILED_AFTER = 3
SETTLED_LOOK_AGAIN_SECONDS = 5.0


def standing(work: Pass) -> tuple[DeploymentStatus, Reason | None]:
    current = work.deployment.status
    if work.deployment.deleting:
        return _deletion_status(work)
    updating = current in (DeploymentStatus.UPDATE_IN_PROGRESS, DeploymentStatus.UPDATE_FAILED)
    verb = "UPDATE" if updating or current is DeploymentStatus.UPDATE_COMPLETE else "CREATE"
    groups = work.deployment.spec.groups
    owners = _for_the_owner(work)
    short = [g for g in groups if _in_service(work, g) < g.minimum or _changes(work, g)]
    if not short:
        return DeploymentStatus(f"{verb}_COMPLETE"), owners
    if current in (DeploymentStatus.CREATE_COMPLETE, DeploymentStatus.UPDATE_COMPLETE):
        return current, owners  # it was up; what is missing now is being replaced
    why = _hopeless(work, short)
    return DeploymentStatus(f"{verb}_FAILED" if why else f"{verb}_IN_PROGRESS"), why or owners


def _for_the_owner(work: Pass) -> Reason | None:
    """What the owner has to do so that the deployment can go on to change."""
    pools = {group.pool for group in work.deployment.spec.groups}
    found = (why for pool, why in work.seen.unjoinable.items() if pool in pools)
    return next((why for why in found if why.code in FOR_THE_OWNER), None)


def _changes(work: Pass, group: NodeGroup) -> bool:
    """Whether a node of the group is not yet what the group asks for."""
    digest = work.digest(group)
    return any(
        node.refreshing or node.outdated or differs(node, group, digest)
        for node in work.of(group.name)
        if node.state in LIVE
    )


def _in_service(work: Pass, group: NodeGroup) -> int:
    return sum(node.state is NodeState.JOINED for node in work.of(group.name))


def _hopeless(work: Pass, groups: Sequence[NodeGroup]) -> Reason | None:
    for group in groups:
        nodes = work.of(group.name)
        row, _ = scaling.backoff(of_this_wish(work, group), work.now)
        if row >= FAILED_AFTER:
            last = max((n for n in nodes if n.reason), key=lambda n: n.since)
            return last.reason
        for node in nodes:
            if node.failed_refreshes >= FAILED_AFTER and node.state in LIVE:
                return node.reason
        placement = work.placements.get(group.name)
        if placement and placement.reason and placement.reason.code == "no-offer":
            return placement.reason
    return None


def _deletion_status(work: Pass) -> tuple[DeploymentStatus, Reason | None]:
    pools = {group.pool for group in work.deployment.spec.groups if group.pool}
    seen_empty = all(
        listing.is_fresh and not listing.value for listing in work.seen.instances.values()
    )
    if seen_empty and not alive(work.after.values()) and pools <= work.seen.revoked:
        return DeploymentStatus.DELETE_COMPLETE, None
    blind = next((o.reason for o in work.seen.instances.values() if not o.is_fresh), None)
    return DeploymentStatus.DELETE_IN_PROGRESS, blind


def all_reasons(work: Pass) -> tuple[Reason, ...]:
    """Why anything waits: sites and pools that cannot be seen, then groups, then nodes."""
    blind = [o.reason for o in work.seen.instances.values() if o.reason]
    blind += [o.reason for o in work.seen.machines.values() if o.reason]
    nodes = [n.reason for n in work.after.values() if n.reason and n.state is not NodeState.GONE]
    return tuple(dict.fromkeys([*blind, *work.reasons, *nodes]))


def look_again(work: Pass) -> float:
    """At once while a host comes up, soon while something moves or a queue may fill, seldom when
    all is settled."""
    states = {node.state for node in work.after.values()}
    elastic = any(group.pool and group.vacuum for group in work.deployment.spec.groups)
    if states & {NodeState.REQUESTED, NodeState.BOOTING}:
        return work.patience.poll_seconds / 4
    if states - {NodeState.JOINED, NodeState.GONE} or elastic or work.deployment.deleting:
        return work.patience.poll_seconds
    return SETTLED_LOOK_AGAIN_SECONDS
