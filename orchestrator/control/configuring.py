"""Which hosts Ansible is to work on now: new ones, and those in service whose wish changed.  Pure.

All that are ready go into one run.  Hosts in service are changed a few at a time, and no more while
one of their group could not be changed: a mistake in a template reaches some nodes, never all.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.control.credentials import is_given_one
from orchestrator.control.lifecycle import CONFIGURED, LIVE, configure
from orchestrator.control.planning import Pass
from orchestrator.control.refresh import refresh
from orchestrator.control.scaling import in_order_of_loss
from orchestrator.control.values import serving
from orchestrator.control.wish import at_once, lost_addresses, settled, used_addresses
from orchestrator.model import ConfigureNodes, Node, NodeGroup, NodeName, NodeState
from orchestrator.reasons import reason

GATHER_SECONDS = 2.0


def configure_ready(work: Pass) -> None:
    """Put all nodes that are ready into one run.

    Hosts that were asked for together boot within moments of each other; a run for all of them
    costs little more than one for the first, so the first waits a moment for the others.
    """
    if _worth_waiting(work):
        return
    names = _new_hosts(work)
    for group in work.deployment.spec.groups:
        if group.pool not in work.seen.unjoinable:
            names += _changed_hosts(work, group)
    if names:
        work.actions.append(ConfigureNodes(tuple(names)))


def _worth_waiting(work: Pass) -> bool:
    ready = {node.name for node in work.ready}
    booting = [n for n in work.after.values() if n.state is NodeState.BOOTING]
    newest = max((node.since for node in booting), default=0.0)
    others = [node for node in booting if node.name not in ready]
    return bool(others) and work.now - newest < GATHER_SECONDS


def _new_hosts(work: Pass) -> list[NodeName]:
    names = []
    digests: dict[str, str | None] = {}
    for node in work.ready:
        node = work.after[node.name]
        if node.state not in LIVE or node.refreshing:
            continue
        group = work.group_of(node)
        if group.pool in work.seen.unjoinable:
            continue
        missing = _missing_address(work, node, group)
        if missing:
            why = reason("waiting-for-group", node=node.name, group=missing)
            if node.reason != why:
                work.after[node.name] = replace(node, reason=why)
            continue
        addresses = used_addresses(group, list(work.after.values()))
        if group.name not in digests:
            digests[group.name] = work.digest(group)
        entered = configure(node, digests[group.name] or "", work.now)
        work.after[node.name] = replace(
            entered,
            uses=addresses,
            roles=_roles(group),
            credential_at=work.now if is_given_one(group) else 0.0,
            renewal_at=0.0,
        )
        names.append(node.name)
    return names


def _roles(group: NodeGroup) -> tuple[str, ...]:
    return tuple(dict.fromkeys(service.role for service in group.services))


def _missing_address(work: Pass, node: Node, group: NodeGroup) -> str | None:
    for used in group.uses:
        if used != node.group and not serving(work.of(used)):
            return used
    return None


# --- in service -----------------------------------------------------------------------------------


def differs(node: Node, group: NodeGroup, digest: str | None) -> bool:
    """Whether a node in service is configured for something else than ``digest``, which its group
    asks for now."""
    if node.state not in CONFIGURED or node.outdated or node.group != group.name:
        return False
    return digest is not None and node.configured_as != digest


def _changed_hosts(work: Pass, group: NodeGroup) -> list[NodeName]:
    digest = work.digest(group)
    again = {node.name for node in work.ready if node.refreshing}
    nodes = [node for node in work.of(group.name) if node.state in CONFIGURED]
    other = [node for node in nodes if differs(node, group, digest)]
    changed = _may_begin(work, group, [node for node in other if not _in_a_run(node)])
    same = [node for node in nodes if node.refreshing and node not in other]
    due = [node for node in same if node.name in again]
    stuck = any(node.failed_refreshes for node in same)
    busy = len(same) + sum(_in_a_run(node) for node in other)
    free = 0 if stuck else max(0, at_once(len(nodes)) - busy)
    machines = work.machines(group.pool)
    known = machines.value if machines.is_known else ()
    chosen = in_order_of_loss(group, changed, known)[:free]
    if len(other) > len(chosen):
        count = len(other) - len(chosen)
        work.reasons.append(
            reason("change-pending", count=count, group=group.name, deployment=work.deployment.id)
        )
    addresses = used_addresses(group, list(work.after.values()))
    for node in (*due, *chosen):
        told = refresh(node, digest or node.configured_as)
        work.after[node.name] = replace(told, uses=addresses, roles=_roles(group))
    return [node.name for node in (*due, *chosen)]


def _in_a_run(node: Node) -> bool:
    """Whether a run goes on that was begun for an earlier wish: it is let end."""
    return node.refreshing and not node.failed_refreshes


def _may_begin(work: Pass, group: NodeGroup, nodes: list[Node]) -> list[Node]:
    """Those on which a run may begin: their site is in sight, and what they use stands still,
    unless it is gone."""
    everybody = list(work.after.values())
    addresses = used_addresses(group, everybody)
    still = settled(group, everybody)
    others = [node for node in everybody if node.group in group.uses]
    return [
        node
        for node in nodes
        if work.listing(node.site).is_fresh
        and (still or node.uses == addresses or lost_addresses(node, group, others))
    ]
