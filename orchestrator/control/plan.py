"""One pass, decided: what is wished and what was seen become nodes, actions and reasons.

Pure: the same input gives the same plan, and the plan of a converged world is empty.  The order is
fixed: every node takes its step, then each group says how many it wants and is scaled, then
orphans are reaped, then the status follows from what the nodes have become.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from orchestrator.control import scaling
from orchestrator.control.lifecycle import LIVE, Sight, advance, configure, retire
from orchestrator.control.placement import place
from orchestrator.control.planning import Pass, alive
from orchestrator.control.scaling import Wanted
from orchestrator.control.standing import all_reasons, look_again, standing
from orchestrator.model import (
    ConfigureNodes,
    CreateInstance,
    DeleteInstance,
    Deployment,
    GroupName,
    Instance,
    Machine,
    Node,
    NodeGroup,
    NodeName,
    NodeState,
    Observed,
    Offer,
    OutcomeKind,
    Patience,
    Plan,
    Requirements,
    RevokeCredentials,
    Seen,
)
from orchestrator.reasons import reason

GATHER_SECONDS = 2.0
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"

Thing = TypeVar("Thing", Instance, Machine)


def make_plan(
    deployment: Deployment, nodes: Iterable[Node], seen: Seen, now: float, patience: Patience
) -> Plan:
    """The plan of one pass.  ``nodes`` may hold GONE ones: they tell of failures in a row."""
    before = {node.name: node for node in nodes}
    work = Pass(deployment, seen, now, patience, before, room=seen.quotas)
    groups = _by_dependence(deployment.spec.groups)
    for node in work.before.values():
        work.take(advance(node, _sight(work, node), work.context(_group(deployment, node))))
    _tell_of_failed_deletions(work)
    if deployment.deleting:
        _empty(work)
    else:
        _retire_strangers(work)
        _retire_cut_off(work)
        for group in groups:
            _want(work, group)
        for group in reversed(groups):
            _scale(work, group)
    _configure(work)
    _reap_orphans(work)
    status, why = standing(work)
    changed = tuple(n for n in work.after.values() if n != work.before.get(n.name))
    return Plan(
        nodes=changed,
        actions=tuple(work.actions),
        reasons=all_reasons(work),
        status=status,
        status_reason=why,
        wanted=work.wanted,
        look_again=look_again(work),
    )


def _tell_of_failed_deletions(work: Pass) -> None:
    """They are tried again until they work; meanwhile somebody should know."""
    for name, outcome in work.seen.deletes.items():
        node = work.after.get(name)
        if node and node.state is NodeState.DELETING and outcome.kind is OutcomeKind.FAILED:
            text = reason("delete-failed", site=node.site, node=name, why=outcome.why)
            work.reasons.append(text)


def _by_dependence(groups: Sequence[NodeGroup]) -> list[NodeGroup]:
    """Users before those they use: a support group's wish follows from its users' nodes."""
    ordered: list[NodeGroup] = []
    left = list(groups)
    while left:
        used = {name for group in left for name in group.uses if name != group.name}
        free = [group for group in left if group.name not in used] or left[:1]
        ordered += free
        left = [group for group in left if group not in free]
    return ordered


def _group(deployment: Deployment, node: Node) -> NodeGroup:
    """The node's group; a group that an update took out of the template wants no nodes."""
    for group in deployment.spec.groups:
        if group.name == node.group:
            return group
    return NodeGroup(name=node.group, requirements=Requirements(), count=0, pool=node.pool)


def _sight(work: Pass, node: Node) -> Sight:
    group = _group(work.deployment, node)
    machine = None
    if group.pool:
        machine = _only(work.machines(group.pool), node.name)
    return Sight(
        instance=_only(work.listing(node.site), node.name),
        machine=machine,
        reachable=node.name in work.seen.reachable,
        run=work.seen.runs.get(node.name),
        create=work.seen.creates.get(node.name),
    )


def _only(all_of_them: Observed[tuple[Thing, ...]], name: NodeName) -> Observed[tuple[Thing, ...]]:
    if not all_of_them.is_known:
        return all_of_them
    mine = tuple(thing for thing in all_of_them.value if thing.node == name)
    return Observed(all_of_them.freshness, all_of_them.at, mine, all_of_them.reason)


# --- deletion and scaling -----------------------------------------------------------------------


def _empty(work: Pass) -> None:
    """Every node goes; hosts that serve others stay until those are gone."""
    for node in list(work.after.values()):
        group = _group(work.deployment, node)
        if not group.pool and not work.deployment.forced and _dependants(work, group):
            continue
        work.take(retire(node, work.context(group), reason("deployment-is-deleted")))
    for pool in {g.pool for g in work.deployment.spec.groups if g.pool}:
        if not alive(work.after.values()) and pool not in work.seen.revoked:
            work.actions.append(RevokeCredentials(pool))


def _dependants(work: Pass, group: NodeGroup) -> bool:
    users = {user.name for user in work.deployment.spec.groups if group.name in user.uses}
    return any(alive(work.of(user)) for user in users)


def _retire_strangers(work: Pass) -> None:
    names = {group.name for group in work.deployment.spec.groups}
    for node in list(work.after.values()):
        if node.group not in names:
            why = reason("no-longer-wanted", node=node.name, group=node.group)
            work.take(retire(node, work.context(_group(work.deployment, node)), why))


def _retire_cut_off(work: Pass) -> None:
    """A node that was told of a cache which is gone is of no use: another takes its place, and is
    told of the one there is."""
    for node in list(work.after.values()):
        lost = sorted(set(node.uses) - _used_addresses(work, node))
        if lost and node.state in LIVE:
            group = _group(work.deployment, node)
            why = reason("service-lost", node=node.name, address=", ".join(lost))
            work.take(retire(node, work.context(group), why))
            work.ready = [ready for ready in work.ready if ready.name != node.name]


def _used_addresses(work: Pass, node: Node) -> set[str]:
    """The addresses of the living nodes that a node's group uses."""
    used = {name for name in _group(work.deployment, node).uses if name != node.group}
    return {
        other.address
        for other in work.after.values()
        if other.group in used and other.address and other.state in LIVE
    }


def _want(work: Pass, group: NodeGroup) -> None:
    """Users are asked before those they use."""
    wanted = _wanted(work, group)
    work.wanted[group.name] = wanted.count
    work.reasons.extend(wanted.reasons)


def _wanted(work: Pass, group: NodeGroup) -> Wanted:
    if group.vacuum is None:
        return Wanted(group.count)
    if group.pool is None:
        users = [user for user in work.deployment.spec.groups if group.name in user.uses]
        coming = any(work.wanted.get(user.name) for user in users)
        return scaling.of_support(group, coming or _dependants(work, group))
    machines = work.machines(group.pool)
    return scaling.of_pool(group, work.of(group.name), work.demand(group), machines)


def _scale(work: Pass, group: NodeGroup) -> None:
    """Those who are used are placed before their users: a site must not fill up with workers that
    wait for a cache that has no room any more."""
    wanted = work.wanted[group.name]
    nodes = work.of(group.name)
    live = [node for node in nodes if node.state in LIVE]
    if len(live) < wanted:
        _grow(work, group, nodes, wanted - len(live))
    elif len(live) > wanted:
        _shrink(work, group, nodes, wanted)
    else:
        _retire_idle(work, group, live)


def _grow(work: Pass, group: NodeGroup, nodes: Sequence[Node], more: int) -> None:
    if any(not _live(work, used) for used in group.uses if used != group.name):
        return  # why there is none of those is told where they are placed
    row, pause = scaling.backoff(nodes, work.now)
    if pause > 0:
        text = reason("too-many-failures", count=row, group=group.name, seconds=round(pause))
        work.reasons.append(text)
        return
    if row:
        more = 1  # after a failure one node tries the way for the others
    alive = sum(node.state is not NodeState.GONE for node in work.after.values())
    more = min(more, max(0, work.patience.nodes - alive))
    placement = place(group, more, work.seen.offers.get(group.name, ()), work.room)
    work.room = placement.room
    work.placements[group.name] = placement
    if placement.reason:
        work.reasons.append(placement.reason)
    for index, offer in enumerate(placement.chosen):
        node = _new_node(work, group, offer, index)
        work.after[node.name] = node
        work.actions.append(CreateInstance(node.name))


def _live(work: Pass, group: GroupName) -> bool:
    return any(node.state in LIVE for node in work.of(group))


def _shrink(work: Pass, group: NodeGroup, nodes: Sequence[Node], count: int) -> None:
    observed = work.machines(group.pool)
    if not observed.is_fresh:
        return
    for node in scaling.surplus(nodes, observed.value, count):
        if group.pool is None and group.vacuum:
            why = reason("no-dependants", group=group.name)
        else:
            why = reason("no-longer-wanted", node=node.name, group=group.name)
        work.take(retire(node, work.context(group), why))
        work.ready = [ready for ready in work.ready if ready.name != node.name]


def _retire_idle(work: Pass, group: NodeGroup, live: Sequence[Node]) -> None:
    """End machines that have been idle too long, down to the floor.

    A startd leaves by itself; this is for one that does not, and for groups with a floor, whose
    startds must stay until somebody who can count tells them.
    """
    demand = work.demand(group)
    if group.pool is None or not demand.is_fresh or demand.value.jobs:
        return
    for node in scaling.idle_too_long(group, live, work.now)[: len(live) - group.minimum]:
        why = reason("no-longer-wanted", node=node.name, group=group.name)
        work.take(retire(node, work.context(group), why))


def _new_node(work: Pass, group: NodeGroup, offer: Offer, index: int) -> Node:
    unique = f"{_short(work.deployment.id)}-{_stamp(work.now)}{index}"
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
    )


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


# --- configuration, orphans, status -------------------------------------------------------------


def _configure(work: Pass) -> None:
    """All nodes that are ready go into one run, once the groups they use have addresses.

    Hosts that were asked for together boot within moments of each other; a run for all of them
    costs little more than one for the first, so the first waits a moment for the others.
    """
    ready = {node.name for node in work.ready}
    booting = [n for n in work.after.values() if n.state is NodeState.BOOTING]
    newest = max((node.since for node in booting), default=0.0)
    others = [node for node in booting if node.name not in ready]
    if others and work.now - newest < GATHER_SECONDS:
        return
    names = []
    for node in work.ready:
        node = work.after[node.name]
        if node.state not in LIVE:
            continue
        missing = _missing_address(work, node)
        if missing:
            why = reason("waiting-for-group", node=node.name, group=missing)
            if node.reason != why:
                work.after[node.name] = replace(node, reason=why)
            continue
        addresses = tuple(sorted(_used_addresses(work, node)))
        work.after[node.name] = replace(configure(node, work.now), uses=addresses)
        names.append(node.name)
    if names:
        work.actions.append(ConfigureNodes(tuple(names)))


def _missing_address(work: Pass, node: Node) -> str | None:
    for used in _group(work.deployment, node).uses:
        if used != node.group and not any(
            other.address and other.state in LIVE for other in work.of(used)
        ):
            return used
    return None


def _reap_orphans(work: Pass) -> None:
    """Instances that carry our tag and that no living node of ours accounts for."""
    for site, listing in work.seen.instances.items():
        if not listing.is_fresh:
            continue
        for instance in listing.value:
            node = work.after.get(instance.node)
            if node is None or node.state is NodeState.GONE:
                why = reason("orphan-reaped", instance=instance.name, site=site)
                work.actions.append(DeleteInstance(site, instance.id, None, why))
                work.reasons.append(why)
