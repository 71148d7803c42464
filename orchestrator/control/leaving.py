"""Nodes that somebody asked to leave.  Pure.

One that is in a pool drains: its jobs end, then it goes.  One that serves others in no pool is
replaced first, as one is that its group no longer wants as it is (``renewal``).  Whether another
comes is not decided here: its group still wants as many as before.
"""

from __future__ import annotations

from orchestrator.control.lifecycle import LIVE
from orchestrator.control.planning import Pass
from orchestrator.model import Node, NodeGroup, NodeState
from orchestrator.reasons import Reason, reason


def let_leave(work: Pass) -> None:
    """Let those go that need no other in their place first, where their sites can be seen."""
    for node in list(work.after.values()):
        why = asked(work, node)
        group = work.group_of(node)
        if why is None or node.state not in LIVE or is_replaced_first(node, group):
            continue
        if work.listing(node.site).is_fresh:
            work.give_up(node, group, why)


def asked(work: Pass, node: Node) -> Reason | None:
    """Why the node is to leave, if somebody asked it to."""
    who = work.seen.asked_to_leave.get(node.name)
    return reason("drain-asked", node=node.name, who=who) if who else None


def is_replaced_first(node: Node, group: NodeGroup) -> bool:
    return node.state is NodeState.JOINED and group.pool is None
