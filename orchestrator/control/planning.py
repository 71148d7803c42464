"""What one pass gathers while it decides: the state that ``control/plan.py`` fills."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from orchestrator.control.lifecycle import Context, Step, retire
from orchestrator.control.placement import Placement
from orchestrator.control.wish import configuration
from orchestrator.model import (
    Action,
    Demand,
    Deployment,
    GroupName,
    Instance,
    Machine,
    Node,
    NodeGroup,
    NodeName,
    NodeState,
    Observed,
    Patience,
    PoolName,
    Quota,
    Requirements,
    Seen,
    SiteName,
)
from orchestrator.reasons import Reason, reason

Thing = TypeVar("Thing", Instance, Machine)


@dataclass
class Pass:
    """What a pass gathers while it goes through the groups."""

    deployment: Deployment
    seen: Seen
    now: float
    patience: Patience
    before: Mapping[NodeName, Node]
    after: dict[NodeName, Node] = field(default_factory=dict)
    actions: list[Action] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    ready: list[Node] = field(default_factory=list)
    placements: dict[GroupName, Placement] = field(default_factory=dict)
    wanted: dict[GroupName, int] = field(default_factory=dict)
    room: Mapping[SiteName, Observed[Quota]] = field(default_factory=dict)

    _by_node: dict[int, dict[NodeName, list[Any]]] = field(default_factory=dict)

    def only(
        self, seen: Observed[tuple[Thing, ...]], name: NodeName
    ) -> Observed[tuple[Thing, ...]]:
        """Of a listing what belongs to one node.  Each listing is gone through once a pass."""
        if not seen.is_known:
            return seen
        if id(seen) not in self._by_node:
            found: dict[NodeName, list[Any]] = {}
            for one in seen.value:
                found.setdefault(one.node, []).append(one)
            self._by_node[id(seen)] = found
        mine = tuple(self._by_node[id(seen)].get(name, ()))
        return Observed(seen.freshness, seen.at, mine, seen.reason)

    def of(self, group: str) -> list[Node]:
        return [node for node in self.after.values() if node.group == group]

    def group_of(self, node: Node) -> NodeGroup:
        """The node's group; one that an update took out of the template wants no nodes."""
        for group in self.deployment.spec.groups:
            if group.name == node.group:
                return group
        return NodeGroup(name=node.group, requirements=Requirements(), count=0, pool=node.pool)

    def is_stranger(self, node: Node) -> bool:
        return all(group.name != node.group for group in self.deployment.spec.groups)

    def digest(self, group: NodeGroup) -> str | None:
        """What a host of ``group`` would be configured as now; None while that is not known."""
        return configuration(self.deployment.spec, group, tuple(self.after.values()))

    def give_up(self, node: Node, group: NodeGroup, why: Reason) -> None:
        """Let the node go, and begin nothing more with it."""
        self.take(retire(node, self.context(group), why))
        self.ready = [ready for ready in self.ready if ready.name != node.name]

    def take(self, step: Step) -> None:
        self.after[step.node.name] = step.node
        self.actions.extend(step.actions)
        if step.ready:
            self.ready.append(step.node)

    def context(self, group: NodeGroup) -> Context:
        forced = self.deployment.forced and self.deployment.deleting
        return Context(group, self.now, self.patience, forced)

    def machines(self, pool: PoolName | None) -> Observed[tuple[Machine, ...]]:
        if pool is None:
            return Observed.fresh((), self.now)
        return self.seen.machines.get(pool) or self._missing(f"pool {pool}")

    def listing(self, site: SiteName) -> Observed[tuple[Instance, ...]]:
        return self.seen.instances.get(site) or self._missing(f"site {site}")

    def demand(self, group: NodeGroup) -> Observed[Demand]:
        return self.seen.demand.get(group.name) or self._missing(f"pool {group.pool}")

    def _missing(self, what: str) -> Observed[Any]:
        return Observed.unknown(self.now, reason("not-configured", what=what))


def alive(nodes: Iterable[Node]) -> bool:
    return any(node.state is not NodeState.GONE for node in nodes)
