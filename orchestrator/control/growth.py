"""How a group gets another node: whether it may, where, and under what name.  Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestrator.control import scaling
from orchestrator.control.lifecycle import LIVE
from orchestrator.control.placement import place
from orchestrator.control.planning import Pass
from orchestrator.model import (
    CreateInstance,
    GroupName,
    Node,
    NodeGroup,
    NodeName,
    NodeState,
    Offer,
)
from orchestrator.reasons import reason

_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


def ceiling(group: NodeGroup) -> int:
    """How many machines of a group there may be at a time, those that drain included.

    One whose number is fixed may have one more while one of its nodes is replaced.
    """
    return group.maximum + 1 if group.minimum == group.maximum else group.maximum


def room(group: NodeGroup, nodes: Sequence[Node]) -> int:
    """How many nodes may be added: a draining one is still paid for, so it counts towards the
    maximum; it never keeps the group below its minimum."""
    live = sum(node.state in LIVE for node in nodes)
    draining = sum(node.state is NodeState.DRAINING for node in nodes)
    return max(group.minimum - live, group.maximum - live - draining, 0)


def grow(work: Pass, group: NodeGroup, more: int) -> int:
    """Ask for up to ``more`` nodes of ``group``; answers how many were placed."""
    if any(not _live(work, used) for used in group.uses if used != group.name):
        return 0  # why there is none of those is told where they are placed
    row, pause = scaling.backoff(of_this_wish(work, group), work.now)
    if pause > 0:
        text = reason("too-many-failures", count=row, group=group.name, seconds=round(pause))
        work.reasons.append(text)
        return 0
    if row:
        more = 1  # after a failure one node tries the way for the others
    alive = sum(node.state is not NodeState.GONE for node in work.after.values())
    more = min(more, max(0, work.patience.nodes - alive))
    placement = place(group, more, work.seen.offers.get(group.name, ()), work.room)
    work.room = placement.room
    work.placements[group.name] = placement
    if placement.reason:
        work.reasons.append(placement.reason)
    for offer in placement.chosen:
        node = _new_node(work, group, offer)
        work.after[node.name] = node
        work.actions.append(CreateInstance(node.name))
    return len(placement.chosen)


def of_this_wish(work: Pass, group: NodeGroup) -> list[Node]:
    """The group's nodes without those that failed under an earlier wish: what failed then says
    nothing of what is asked for now."""
    digest = work.digest(group)
    return [
        node
        for node in work.of(group.name)
        if node.made_for in (None, group.requirements)
        and (not node.configured_as or digest is None or node.configured_as == digest)
    ]


def _live(work: Pass, group: GroupName) -> bool:
    return any(node.state in LIVE for node in work.of(group))


def _new_node(work: Pass, group: NodeGroup, offer: Offer) -> Node:
    unique = f"{_short(work.deployment.id)}-{_stamp(work.now)}{_new_so_far(work, group)}"
    name = NodeName(f"{_host_word(group.name)}-{unique}")
    return Node(
        name=name,
        deployment=work.deployment.id,
        group=group.name,
        site=offer.site,
        flavour=offer.flavour,
        cores=offer.cores,
        memory_mb=offer.memory_mb,
        state=NodeState.REQUESTED,
        since=work.now,
        created_at=work.now,
        image=offer.image,
        pool=group.pool,
        reason=reason("machine-requested", node=name, site=offer.site),
        made_for=group.requirements,
        base_image=offer.prepared_from or offer.image,
    )


def _new_so_far(work: Pass, group: NodeGroup) -> int:
    return sum(node.name not in work.before for node in work.of(group.name))


def _host_word(name: str) -> str:
    """A group's name as part of a host name (RFC 1123: letters, digits, hyphens)."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:30] or "node"


def _short(deployment: str) -> str:
    return re.sub(r"[^a-z0-9]", "", deployment.lower())[:6]


def _stamp(now: float) -> str:
    """The time in milliseconds, base 36: unique within a deployment, since passes do not overlap
    and a pass adds the index."""
    number = round(now * 1000)
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _BASE36[digit] + digits
    return digits
