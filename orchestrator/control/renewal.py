"""Nodes that are not what their group asks for any more: found, and replaced a few at a time.

Pure.  The order of things: another is made, it comes into service, those who used the old one are
told of the new, and only then the old one goes, after its jobs.  Where the maximum leaves no room
for both, and one may be missing, the old one goes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.control.growth import ceiling, grow
from orchestrator.control.leaving import asked, is_replaced_first
from orchestrator.control.lifecycle import LIVE
from orchestrator.control.planning import Pass
from orchestrator.control.scaling import in_order_of_loss
from orchestrator.control.wish import at_once, is_outdated
from orchestrator.model import Node, NodeGroup, NodeState, Offer
from orchestrator.reasons import reason


def mark(work: Pass) -> None:
    """Note on every living node whether only another host can be what its group asks for; so it is
    with one that was asked to leave and that others need."""
    for group in work.deployment.spec.groups:
        candidates = work.seen.offers.get(group.name, ())
        for node in work.of(group.name):
            if node.state not in LIVE:
                continue
            leaves = asked(work, node) is not None and is_replaced_first(node, group)
            outdated = leaves or is_outdated(node, group, candidates)
            made_for = node.made_for
            if candidates and not outdated:
                made_for = group.requirements
            if (outdated, made_for) != (node.outdated, node.made_for):
                work.after[node.name] = replace(node, outdated=outdated, made_for=made_for)


def outdated(work: Pass, group: NodeGroup) -> list[Node]:
    return [node for node in work.of(group.name) if node.outdated and node.state in LIVE]


def give_up_unborn(work: Pass, group: NodeGroup) -> None:
    """An outdated node that is not in service yet serves nobody: it goes at once."""
    if not _can_be_made(work, group):
        return
    for node in outdated(work, group):
        if node.state is not NodeState.JOINED and work.listing(node.site).is_fresh:
            _retire(work, group, node)


def exchange(work: Pass, group: NodeGroup) -> None:
    """One step of replacing the outdated nodes of ``group``."""
    old = [node for node in outdated(work, group) if node.state is NodeState.JOINED]
    if not old or not _can_be_made(work, group) or not work.machines(group.pool).is_fresh:
        return
    work.reasons.append(
        reason("rebuilding", count=len(old), group=group.name, deployment=work.deployment.id)
    )
    old = [node for node in old if work.listing(node.site).is_fresh]
    nodes = work.of(group.name)
    joined = [node for node in nodes if node.state is NodeState.JOINED]
    draining = [node for node in nodes if node.state is NodeState.DRAINING]
    pace = at_once(len(joined)) - sum(node.outdated for node in draining)
    spare = len(joined) - _needed(work, group)
    if spare > 0:
        # Users follow where there is another to tell of; where all are old, some must go first.
        lasting = any(not node.outdated for node in joined)
        free = _not_in_use(work, group, old) if lasting else old
        _let_go(work, group, free, min(spare, pace))
        return
    live = [node for node in nodes if node.state in LIVE]
    if len(live) > len(joined):
        return  # one is on its way
    beside = ceiling(group) - len(live) - len(draining)
    if beside > 0 and grow(work, group, 1):
        return
    if len(joined) > group.minimum and _is_full(work, group, beside):
        _let_go(work, group, old, min(1, pace))
    else:
        work.reasons.append(reason("rebuild-waits", group=group.name))


def _needed(work: Pass, group: NodeGroup) -> int:
    """How many must be in service: what is promised where jobs say how many there are, what is
    wanted everywhere else."""
    if group.pool and group.vacuum:
        return group.minimum
    return work.wanted[group.name]


def _can_be_made(work: Pass, group: NodeGroup) -> bool:
    """Whether any site has what the group asks for: nothing is given up for what nobody has."""
    candidates = work.seen.offers.get(group.name, ())
    wanted_here = (c for c in candidates if isinstance(c, Offer))
    return any(not group.site or offer.site == group.site for offer in wanted_here)


def _is_full(work: Pass, group: NodeGroup, beside: int) -> bool:
    """Whether there is certainly no room for one more, at the maximum or at the sites."""
    if beside <= 0:
        return True
    placement = work.placements.get(group.name)
    full = placement is not None and placement.reason is not None
    return full and all(quota.is_fresh for quota in work.seen.quotas.values())


def _not_in_use(work: Pass, group: NodeGroup, old: Sequence[Node]) -> list[Node]:
    """Those that no living node has been told of: the others wait until their users follow."""
    users = {user.name for user in work.deployment.spec.groups if group.name in user.uses}
    told: set[str] = set()
    for node in work.after.values():
        if node.group in users and node.state in LIVE and node.group != group.name:
            if node.refreshing:
                return []
            told.update(node.uses)
    return [node for node in old if node.address not in told]


def _let_go(work: Pass, group: NodeGroup, nodes: Sequence[Node], count: int) -> None:
    machines = work.machines(group.pool).value
    for node in in_order_of_loss(group, nodes, machines)[: max(0, count)]:
        _retire(work, group, node)


def _retire(work: Pass, group: NodeGroup, node: Node) -> None:
    why = asked(work, node) or reason("replaced", node=node.name, group=group.name)
    work.give_up(node, group, why)
