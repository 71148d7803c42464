"""How many nodes a group wants: from demand, floors and ceilings.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.control.lifecycle import BEFORE_JOINED, LIVE, failed
from orchestrator.model import (
    Demand,
    Machine,
    Node,
    NodeGroup,
    NodeState,
    Observed,
)
from orchestrator.reasons import Reason, reason

# After failures in a row the next try waits this long, doubled each time, up to the maximum.
BACKOFF_SECONDS = 5.0
BACKOFF_MAXIMUM_SECONDS = 300.0
# How much longer than its idle time a machine that should leave by itself may stay.
IDLE_GRACE_SECONDS = 60.0


@dataclass(frozen=True)
class Wanted:
    """``count`` live nodes are wanted of a group, and why it is not more or less."""

    count: int
    reasons: tuple[Reason, ...] = ()


@dataclass
class _Room:
    cores: int
    memory_mb: int

    def take(self, cores: int, memory_mb: int, count: int) -> int:
        """Put up to ``count`` jobs of one shape here; answers how many fitted."""
        fits = min(count, self.cores // cores if cores else count)
        if memory_mb:
            fits = min(fits, self.memory_mb // memory_mb)
        self.cores -= fits * cores
        self.memory_mb -= fits * memory_mb
        return fits


def machines_for(
    demand: Demand, size: tuple[int, int], free: Iterable[tuple[int, int]], most: int
) -> int:
    """How many machines of ``size`` (cores, MiB), at most ``most``, the demand still needs once
    the ``free`` room of machines that are there or on their way is filled.

    First fit, largest jobs first; jobs that fit no machine of that size ask for none.
    """
    rooms = [_Room(cores, memory) for cores, memory in free]
    needed = 0
    for shape in sorted(demand.shapes, key=lambda s: (s.cores, s.memory_mb), reverse=True):
        left = shape.count
        for room in rooms:
            left -= room.take(shape.cores, shape.memory_mb, left)
        while left and needed < most:
            room = _Room(*size)
            fitted = room.take(shape.cores, shape.memory_mb, left)
            if not fitted:
                break
            rooms.append(room)
            needed += 1
            left -= fitted
    return needed


def of_pool(
    group: NodeGroup,
    nodes: Sequence[Node],
    demand: Observed[Demand],
    machines: Observed[tuple[Machine, ...]],
) -> Wanted:
    """A group that joins a pool: as many as the waiting jobs need, between floor and ceiling.

    Without a fresh look at the queue and the machines the number stays what it is.
    """
    live = [node for node in nodes if node.state in LIVE]
    floor = max(len(live), group.minimum)
    if not demand.is_fresh or not machines.is_fresh:
        blind = demand.reason or machines.reason
        return Wanted(min(floor, group.maximum), (blind,) if blind else ())
    size = (group.requirements.cores, group.requirements.memory_mb)
    free = _free(live, size, machines.value)
    more = machines_for(demand.value, size, free, most=group.maximum + 1)
    count = max(group.minimum, min(len(live) + more, group.maximum))
    return Wanted(count, _why(group, demand.value, len(live), more, count))


def _free(
    live: Sequence[Node], size: tuple[int, int], machines: Sequence[Machine]
) -> list[tuple[int, int]]:
    by_node = {machine.node: machine for machine in machines}
    free = []
    for node in live:
        machine = by_node.get(node.name)
        if machine is None:
            # On its way; one that was in the pool and is not now offers nothing.
            free.append(size if node.state in BEFORE_JOINED else (0, 0))
        elif not machine.draining:
            free.append((machine.cores_free, machine.memory_mb_free))
    return free


def _why(group: NodeGroup, demand: Demand, live: int, more: int, count: int) -> tuple[Reason, ...]:
    if not demand.jobs:
        return ()
    oldest = round(demand.oldest_wait_seconds)
    waiting = reason(
        "jobs-wait",
        jobs=demand.jobs,
        cores=demand.cores,
        pool=group.pool,
        group=group.name,
        oldest=oldest,
    )
    return (waiting,) if live + more <= count else (waiting, _ceiling(group, count))


def _ceiling(group: NodeGroup, count: int) -> Reason:
    return reason("at-maximum", group=group.name, count=count)


def of_support(group: NodeGroup, dependants_live: bool) -> Wanted:
    """A group without a pool under a vacuum policy lives as long as somebody uses it."""
    if not dependants_live:
        return Wanted(group.minimum)
    return Wanted(max(group.minimum, min(max(group.count, 1), group.maximum)))


def backoff(nodes: Iterable[Node], now: float) -> tuple[int, float]:
    """(failures in a row, seconds until the next try) of a group, GONE nodes included.

    A node that came into service ends the row.
    """
    last_success = max((n.joined_at for n in nodes if n.joined_at), default=0.0)
    failures = [
        n.since
        for n in nodes
        if failed(n) and n.state in (NodeState.GONE, NodeState.DELETING) and n.since > last_success
    ]
    if not failures:
        return 0, 0.0
    # The exponent is bounded: a row of thousands must not make a huge integer.
    pause = min(BACKOFF_MAXIMUM_SECONDS, BACKOFF_SECONDS * 2 ** min(len(failures) - 1, 10))
    return len(failures), max(0.0, max(failures) + pause - now)


def idle_too_long(group: NodeGroup, live: Sequence[Node], now: float) -> list[Node]:
    """The joined nodes whose idle time is over, longest idle first."""
    if group.vacuum is None:
        return []
    leaves_by_itself = group.minimum == 0
    patience = group.vacuum.idle_seconds + (IDLE_GRACE_SECONDS if leaves_by_itself else 0)
    idle = [
        (node.idle_since, node)
        for node in live
        if node.state is NodeState.JOINED
        and node.idle_since is not None
        and now - node.idle_since > patience
    ]
    return [node for _, node in sorted(idle, key=lambda pair: pair[0])]


def surplus(
    group: NodeGroup, nodes: Sequence[Node], machines: Sequence[Machine], count: int
) -> list[Node]:
    """The live nodes to give up when only ``count`` are wanted."""
    live = [node for node in nodes if node.state in LIVE]
    return in_order_of_loss(group, live, machines)[: max(0, len(live) - count)]


def in_order_of_loss(
    group: NodeGroup, nodes: Iterable[Node], machines: Iterable[Machine]
) -> list[Node]:
    """``nodes`` in the order in which they can be missed: those of the removal list, those not yet
    in service, those with the fewest running jobs, those to be replaced, the youngest."""
    jobs = {machine.node: machine.jobs for machine in machines}
    return sorted(
        nodes,
        key=lambda node: (
            not is_named(group, node),
            node.state is NodeState.JOINED,
            jobs.get(node.name, 0),
            not node.outdated,
            -node.created_at,
            node.name,
        ),
    )


def is_named(group: NodeGroup, node: Node) -> bool:
    """Whether the template's ``removal_list`` names the node, by its name or its instance's id."""
    return node.name in group.removal_list or node.instance in group.removal_list
