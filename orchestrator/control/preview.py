"""What a plan would do, for people: the planner's own decisions, grouped.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.control.placement import place
from orchestrator.model import (
    Deployment,
    DeploymentSpec,
    GroupName,
    Node,
    NodeGroup,
    NodeState,
    Offer,
    Plan,
    Rejection,
    Seen,
    SiteName,
)
from orchestrator.reasons import Reason


@dataclass(frozen=True)
class ServicePreview:
    action: str  # + ~ - =
    template: str
    role: str


@dataclass(frozen=True)
class GroupPreview:
    """One group: ``now`` nodes, ``wanted`` after the pass; where a next node would go."""

    name: GroupName
    action: str  # + ~ - =
    now: int
    wanted: int
    minimum: int
    maximum: int
    site: SiteName | None
    flavour: str | None
    image: str | None
    price_per_hour: float | None
    rejected: tuple[Rejection, ...]
    services: tuple[ServicePreview, ...]
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Preview:
    """What the next pass, or an update, would do."""

    groups: tuple[GroupPreview, ...]
    imports: tuple[tuple[str, str], ...]

    def count(self, action: str) -> int:
        return sum(group.action == action for group in self.groups)

    @property
    def create(self) -> int:
        return self.count("+")

    @property
    def change(self) -> int:
        return self.count("~")

    @property
    def delete(self) -> int:
        return self.count("-")


def make_preview(
    before: DeploymentSpec | None,
    deployment: Deployment,
    nodes: Sequence[Node],
    seen: Seen,
    plan: Plan,
) -> Preview:
    """``before`` is the wish as it stands, None for a deployment that does not exist yet;
    ``deployment`` carries the wish that ``plan`` was made for."""
    groups = [_group(before, g, nodes, seen, plan) for g in deployment.spec.groups]
    names = {group.name for group in deployment.spec.groups}
    if before is not None:
        groups += [_leaving(g, nodes) for g in before.groups if g.name not in names]
    return Preview(tuple(groups), deployment.spec.imports)


def _group(
    before: DeploymentSpec | None,
    group: NodeGroup,
    nodes: Sequence[Node],
    seen: Seen,
    plan: Plan,
) -> GroupPreview:
    old = _old(before, group)
    now = _alive(nodes, group.name)
    wanted = plan.wanted.get(group.name, now)
    placement = place(group, 1, seen.offers.get(group.name, ()), seen.quotas)
    offer: Offer | None = placement.chosen[0] if placement.chosen else None
    return GroupPreview(
        name=group.name,
        action=_action(old, group, now, wanted),
        now=now,
        wanted=wanted,
        minimum=group.minimum,
        maximum=group.maximum,
        site=offer.site if offer else None,
        flavour=offer.flavour if offer else None,
        image=offer.image if offer else None,
        price_per_hour=offer.price_per_hour if offer else None,
        rejected=placement.rejected,
        services=_services(old, group),
        reasons=(placement.reason,) if placement.reason else (),
    )


def _old(before: DeploymentSpec | None, group: NodeGroup) -> NodeGroup | None:
    groups = before.groups if before else ()
    return next((old for old in groups if old.name == group.name), None)


def _alive(nodes: Sequence[Node], group: GroupName) -> int:
    return sum(n.group == group and n.state is not NodeState.GONE for n in nodes)


def _action(old: NodeGroup | None, group: NodeGroup, now: int, wanted: int) -> str:
    if old is None or wanted > now:
        return "+"
    if wanted < now:
        return "-"
    return "=" if old == group else "~"


def _services(old: NodeGroup | None, group: NodeGroup) -> tuple[ServicePreview, ...]:
    known = {service.template: service for service in old.services} if old else {}
    previews = []
    for service in group.services:
        was = known.pop(service.template, None)
        action = "+" if was is None else "=" if was == service else "~"
        previews.append(ServicePreview(action, service.template, service.role))
    previews += [ServicePreview("-", s.template, s.role) for s in known.values()]
    return tuple(previews)


def _leaving(group: NodeGroup, nodes: Sequence[Node]) -> GroupPreview:
    return GroupPreview(
        name=group.name,
        action="-",
        now=_alive(nodes, group.name),
        wanted=0,
        minimum=0,
        maximum=0,
        site=None,
        flavour=None,
        image=None,
        price_per_hour=None,
        rejected=(),
        services=tuple(ServicePreview("-", s.template, s.role) for s in group.services),
        reasons=(),
    )
