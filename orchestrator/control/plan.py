"""One pass, decided: what is wished and what was seen become nodes, actions and reasons.

Pure: the same input gives the same plan, and the plan of a converged world is empty.  The order is
fixed: every node takes its step, then each group says how many it wants and is scaled, then
orphans are reaped, then the status follows from what the nodes have become.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.control import renewal, scaling
from orchestrator.control.configuring import configure_ready
from orchestrator.control.credentials import renew_credentials
from orchestrator.control.growth import grow, room
from orchestrator.control.leaving import let_leave
from orchestrator.control.lifecycle import LIVE, Sight, advance, retire
from orchestrator.control.planning import Pass, alive
from orchestrator.control.scaling import Wanted
from orchestrator.control.standing import all_reasons, look_again, standing
from orchestrator.control.wish import lost_addresses
from orchestrator.model import (
    DeleteInstance,
    Deployment,
    Freshness,
    Node,
    NodeGroup,
    NodeState,
    Observed,
    OutcomeKind,
    Patience,
    Plan,
    Quota,
    RevokeCredentials,
    Seen,
    SiteName,
)
from orchestrator.reasons import reason


def make_plan(
    deployment: Deployment, nodes: Iterable[Node], seen: Seen, now: float, patience: Patience
) -> Plan:
    """The plan of one pass.  ``nodes`` may hold GONE ones: they tell of failures in a row."""
    before = {node.name: node for node in nodes}
    work = Pass(deployment, seen, now, patience, before, room=_room(seen))
    groups = _by_dependence(deployment.spec.groups)
    for node in work.before.values():
        work.take(advance(node, _sight(work, node), work.context(work.group_of(node))))
    _tell_of_failed_deletions(work)
    if deployment.deleting:
        _empty(work)
    else:
        renewal.mark(work)
        let_leave(work)
        _retire_strangers(work)
        _retire_cut_off(work)
        for group in groups:
            _want(work, group)
        for group in reversed(groups):
            _scale(work, group)
    configure_ready(work)
    renew_credentials(work)
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


def _room(seen: Seen) -> dict[SiteName, Observed[Quota]]:
    """The sites' quotas; of a site that does not list its instances none is believed."""
    quotas = dict(seen.quotas)
    for site, listing in seen.instances.items():
        if site in quotas and not listing.is_fresh:
            quotas[site] = Observed(Freshness.UNKNOWN, listing.at, reason=listing.reason)
    return quotas


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


def _sight(work: Pass, node: Node) -> Sight:
    group = work.group_of(node)
    machine = None
    if group.pool:
        machine = work.only(work.machines(group.pool), node.name)
    return Sight(
        instance=work.only(work.listing(node.site), node.name),
        machine=machine,
        reachable=node.name in work.seen.reachable,
        run=work.seen.runs.get(node.name),
        create=work.seen.creates.get(node.name),
    )


# --- deletion and scaling -----------------------------------------------------------------------


def _empty(work: Pass) -> None:
    """Every node goes; hosts that serve others stay until those are gone."""
    for node in list(work.after.values()):
        group = work.group_of(node)
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
            work.take(retire(node, work.context(work.group_of(node)), why))


def _retire_cut_off(work: Pass) -> None:
    """A node that was told of a cache which is gone, where there is no other to tell it of, is of
    no use: another takes its place, and is told of the one there will be."""
    used = {name for group in work.deployment.spec.groups for name in group.uses}
    others = [node for node in work.after.values() if node.group in used]
    for node in list(work.after.values()):
        group = work.group_of(node)
        lost = lost_addresses(node, group, others)
        if not lost or node.state not in LIVE or node.refreshing:
            continue
        if not work.listing(node.site).is_fresh:
            continue
        if node.state is NodeState.JOINED and _all_served(work, group):
            continue  # it is told of them
        work.give_up(node, group, reason("service-lost", node=node.name, address=", ".join(lost)))


def _all_served(work: Pass, group: NodeGroup) -> bool:
    return all(
        any(node.state is NodeState.JOINED for node in work.of(used))
        for used in group.uses
        if used != group.name
    )


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
    cut_off = work.seen.unjoinable.get(group.pool) if group.pool else None
    if cut_off:
        work.reasons.append(cut_off)  # what is there is left as it is: nothing could replace it
    else:
        renewal.give_up_unborn(work, group)
    wanted = work.wanted[group.name]
    nodes = work.of(group.name)
    live = [node for node in nodes if node.state in LIVE]
    # Another stands beside the one it replaces.
    beside = 1 if renewal.outdated(work, group) else 0
    if len(live) < wanted:
        if not cut_off:
            _grow(work, group, nodes, wanted - len(live))
    elif len(live) > wanted + beside:
        _shrink(work, group, nodes, wanted + beside)
    elif not beside:
        _retire_idle(work, group, live)
    _retire_named(work, group)
    if not cut_off:
        renewal.exchange(work, group)


def _grow(work: Pass, group: NodeGroup, nodes: Sequence[Node], more: int) -> None:
    allowed = room(group, nodes)
    if allowed < more:
        draining = sum(node.state is NodeState.DRAINING for node in nodes)
        fields = {"group": group.name, "maximum": group.maximum, "deployment": work.deployment.id}
        work.reasons.append(reason("maximum-draining", draining=draining, **fields))
    if allowed:
        grow(work, group, min(more, allowed))


def _shrink(work: Pass, group: NodeGroup, nodes: Sequence[Node], count: int) -> None:
    observed = work.machines(group.pool)
    if not observed.is_fresh:
        return
    for node in scaling.surplus(group, nodes, observed.value, count):
        if group.pool is None and group.vacuum:
            why = reason("no-dependants", group=group.name)
        else:
            why = reason("no-longer-wanted", node=node.name, group=group.name)
        work.give_up(node, group, why)


def _retire_named(work: Pass, group: NodeGroup) -> None:
    """Where jobs say how many nodes there are, those of the removal list go as soon as the promised
    number does not need them."""
    if group.pool is None or group.vacuum is None or not work.machines(group.pool).is_fresh:
        return
    live = [node for node in work.of(group.name) if node.state in LIVE]
    named = [node for node in live if scaling.is_named(group, node)]
    for node in named[: max(0, len(live) - group.minimum)]:
        why = reason("no-longer-wanted", node=node.name, group=group.name)
        work.give_up(node, group, why)


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
