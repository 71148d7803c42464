"""What a plan would do, for people: where the planner comes to, told by site, group and node.

Pure.  Nothing is decided here: what becomes of each node is read off the planner's own foresight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.control.difference import changes
from orchestrator.control.foresight import Foresight
from orchestrator.control.lifecycle import CONFIGURED, LIVE
from orchestrator.control.placement import place, split
from orchestrator.control.previewed import (
    Candidate,
    Cost,
    GroupPreview,
    NodePreview,
    Preview,
    ServicePreview,
    SitePreview,
)
from orchestrator.control.wish import configuration, why_outdated
from orchestrator.model import (
    Deployment,
    DeploymentSpec,
    GroupName,
    Node,
    NodeGroup,
    NodeName,
    NodeState,
    Observed,
    Offer,
    Quota,
    Seen,
    SiteName,
)
from orchestrator.reasons import Reason

LEAVING = frozenset({NodeState.DRAINING, NodeState.DELETING})


def make_preview(
    before: DeploymentSpec | None,
    deployment: Deployment,
    nodes: Sequence[Node],
    seen: Seen,
    foresight: Foresight,
) -> Preview:
    """``before`` is the wish as it stands, None for a deployment that does not exist yet;
    ``deployment`` carries the wish that ``foresight`` was made for; ``nodes`` are those that are
    there now."""
    view = _View(before, deployment, {node.name: node for node in nodes}, seen, foresight)
    groups = [view.group(group) for group in deployment.spec.groups]
    names = {group.name for group in deployment.spec.groups}
    old = before.groups if before is not None else ()
    groups += [view.leaving(group) for group in old if group.name not in names]
    return Preview(
        deployment=deployment.id if before is not None else None,
        sites=tuple(view.site(name) for name in dict.fromkeys((*seen.instances, *seen.quotas))),
        groups=tuple(groups),
        cost=_total([group.cost for group in groups]),
        imports=deployment.spec.imports,
        reasons=foresight.first.reasons,
        notes=(*deployment.spec.notes, *_prepared(groups)),
        complete=foresight.complete,
    )


def _prepared(groups: Sequence[GroupPreview]) -> list[str]:
    """What of the plan is ready beforehand."""
    return [
        f"The next host of group {group.name} is made from the prepared image "
        f"{group.offer.image} (its base is {group.offer.prepared_from})."
        for group in groups
        if group.offer and group.offer.prepared_from
    ]


@dataclass(frozen=True)
class _View:
    before: DeploymentSpec | None
    deployment: Deployment
    there: Mapping[NodeName, Node]
    seen: Seen
    foresight: Foresight

    # --- sites ----------------------------------------------------------------------------------

    def site(self, name: SiteName) -> SitePreview:
        quota = self.seen.quotas.get(name)
        after = self.foresight.seen.quotas.get(name)
        here = [node for node in self.foresight.nodes.values() if node.site == name]
        return SitePreview(
            name=name,
            create=sum(node.name not in self.there for node in here),
            remove=sum(node.name in self.there and node.state not in LIVE for node in here),
            before=_known(quota),
            after=_known(after),
            why=_why_unknown(quota),
        )

    # --- groups ---------------------------------------------------------------------------------

    def group(self, group: NodeGroup) -> GroupPreview:
        old = _old(self.before, group)
        nodes = self._nodes(group)
        offer, candidates, why_none = self._candidates(group)
        return GroupPreview(
            name=group.name,
            action=_action(old, group, nodes),
            now=self._alive_now(group.name),
            wanted=sum(node.effect in ("create", "reconfigure", "keep") for node in nodes),
            minimum=group.minimum,
            maximum=group.maximum,
            pool=group.pool,
            requirements=group.requirements,
            changes=changes(old, group),
            candidates=candidates,
            nodes=nodes,
            services=_services(old, group),
            cost=self._cost(group, offer),
            offer=offer,
            reasons=self._reasons(group, why_none),
        )

    def leaving(self, group: NodeGroup) -> GroupPreview:
        """A group that the wish does not have any more."""
        return GroupPreview(
            name=group.name,
            action="-",
            now=self._alive_now(group.name),
            wanted=0,
            minimum=0,
            maximum=0,
            pool=group.pool,
            requirements=group.requirements,
            changes=(),
            candidates=(),
            nodes=self._nodes(group),
            services=tuple(ServicePreview("-", s.template, s.role) for s in group.services),
            cost=self._cost(group, None),
        )

    def _alive_now(self, name: GroupName) -> int:
        return sum(n.group == name and n.state is not NodeState.GONE for n in self.there.values())

    def _reasons(self, group: NodeGroup, why_none: Reason | None) -> tuple[Reason, ...]:
        """What the next pass says of the group, and why a next node would have no place."""
        word = f"group {group.name}"
        said = [r for r in self.foresight.first.reasons if _names(r.sentence, word)]
        said += [r for r in self.foresight.last.reasons if _names(r.sentence, word)]
        return tuple(dict.fromkeys([*said, *([why_none] if why_none else [])]))

    # --- nodes ----------------------------------------------------------------------------------

    def _nodes(self, group: NodeGroup) -> tuple[NodePreview, ...]:
        mine = [node for node in self.foresight.nodes.values() if node.group == group.name]
        was = [n for n in mine if n.name in self.there and n.state is not None]
        new = [n for n in mine if n.name not in self.there and n.state in LIVE]
        digest = configuration(self.deployment.spec, group, tuple(self.foresight.nodes.values()))
        known = [self._known(node, group, digest) for node in was]
        return (*known, *(_shown(node, "+", "create", None) for node in new))

    def _known(self, node: Node, group: NodeGroup, digest: str | None) -> NodePreview:
        """A node that is there, by what the planner came to make of it."""
        state = self.there[node.name].state
        if node.state not in LIVE or (node.outdated and not self.foresight.complete):
            effect = "replace" if node.outdated else "remove"
            why = why_outdated(node, group) if node.outdated else _sentence(node)
            if state in LEAVING:
                why = "it is on its way out already"
            return _shown(node, "-", effect, state, why)
        differs = digest is not None and node.configured_as != digest
        later = differs and state in CONFIGURED and not self.foresight.complete
        if node.name in self.foresight.configured or node.refreshing or later:
            return _shown(node, "~", "reconfigure", state)
        why = f"to be replaced ({why_outdated(node, group)}), which waits" if node.outdated else ""
        return _shown(node, "=", "keep", state, why)

    # --- where and for how much -----------------------------------------------------------------

    def _candidates(
        self, group: NodeGroup
    ) -> tuple[Offer | None, tuple[Candidate, ...], Reason | None]:
        seen = self.seen.offers.get(group.name, ())
        placement = place(group, 1, seen, self.seen.quotas)
        offers, _ = split(group, seen)
        chosen = self._taken(group, offers) or next(iter(placement.chosen), None)
        why = {(r.site, r.flavour): r.why for r in placement.rejected}
        shown = [
            Candidate(o.site, o.flavour, o == chosen, o.price_per_hour, _why_not(o, chosen, why))
            for o in offers
        ]
        fits = {(o.site, o.flavour) for o in offers}
        others = [r for r in placement.rejected if (r.site, r.flavour) not in fits]
        shown += [Candidate(r.site, r.flavour, False, None, r.why) for r in others]
        return chosen, tuple(shown), placement.reason

    def _taken(self, group: NodeGroup, offers: Sequence[Offer]) -> Offer | None:
        """The offer that the first new node of the group takes."""
        for node in self.foresight.nodes.values():
            if node.group == group.name and node.name not in self.there:
                return next(
                    (o for o in offers if (o.site, o.flavour) == (node.site, node.flavour)), None
                )
        return None

    def _cost(self, group: NodeGroup, offer: Offer | None) -> Cost:
        paid = (*LIVE, NodeState.DRAINING)
        now = [n for n in self.there.values() if n.group == group.name and n.state in paid]
        nodes = self.foresight.nodes.values()
        after = [n for n in nodes if n.group == group.name and n.state in LIVE]
        hourly = self._price(after)
        end = group.vacuum.lifetime_seconds / 3600 if group.vacuum and group.pool else None
        most = None
        if offer is not None and offer.price_per_hour is not None:
            most = group.maximum * offer.price_per_hour
        return Cost(
            now=self._price(now),
            after=hourly,
            at_most=most,
            to_expiry=None if hourly is None or end is None else hourly * end,
        )

    def _price(self, nodes: Sequence[Node]) -> float | None:
        """What ``nodes`` cost an hour; None where one of them has no known price."""
        prices = {
            (offer.site, offer.flavour): offer.price_per_hour
            for candidates in self.seen.offers.values()
            for offer in candidates
            if isinstance(offer, Offer)
        }
        found = [prices.get((node.site, node.flavour)) for node in nodes]
        known = [price for price in found if price is not None]
        return sum(known) if len(known) == len(found) else None


def _names(sentence: str, word: str) -> bool:
    start = sentence.lower().find(word)
    following = sentence[start + len(word) : start + len(word) + 1]
    return start >= 0 and not (following.isalnum() or following in ("-", "_"))


def _known(observed: Observed[Quota] | None) -> Quota | None:
    return observed.value if observed is not None and observed.is_fresh else None


def _why_unknown(observed: Observed[Quota] | None) -> str:
    if observed is None:
        return "the site was not asked"
    return "" if observed.is_fresh or observed.reason is None else observed.reason.sentence


def _old(before: DeploymentSpec | None, group: NodeGroup) -> NodeGroup | None:
    groups = before.groups if before else ()
    return next((old for old in groups if old.name == group.name), None)


def _action(old: NodeGroup | None, group: NodeGroup, nodes: Sequence[NodePreview]) -> str:
    effects = [node.effect for node in nodes if node.state not in LEAVING]
    more = effects.count("create") - effects.count("replace") - effects.count("remove")
    if old is None or more > 0:
        return "+"
    if more < 0:
        return "-"
    return "=" if old == group and not set(effects) - {"keep"} else "~"


def _services(old: NodeGroup | None, group: NodeGroup) -> tuple[ServicePreview, ...]:
    known = {service.template: service for service in old.services} if old else {}
    previews = []
    for service in group.services:
        was = known.pop(service.template, None)
        action = "+" if was is None else "=" if was == service else "~"
        previews.append(ServicePreview(action, service.template, service.role))
    previews += [ServicePreview("-", s.template, s.role) for s in known.values()]
    return tuple(previews)


def _shown(
    node: Node, action: str, effect: str, state: NodeState | None, why: str = ""
) -> NodePreview:
    return NodePreview(
        action=action,
        effect=effect,
        name=node.name if state is not None else None,
        state=state,
        site=node.site,
        flavour=node.flavour,
        image=node.image,
        cores=node.cores,
        memory_mb=node.memory_mb,
        why=why,
    )


def _sentence(node: Node) -> str:
    return node.reason.sentence.rstrip(".") if node.reason else ""


def _why_not(offer: Offer, chosen: Offer | None, why: Mapping[tuple[SiteName, str], str]) -> str:
    if offer == chosen:
        return ""
    blocked = why.get((offer.site, offer.flavour))
    if blocked or chosen is None:
        return blocked or ""
    if offer.price_per_hour is not None and chosen.price_per_hour is not None:
        return f"{chosen.site}/{chosen.flavour} is cheaper, or comes first at the same price"
    return f"{chosen.site}/{chosen.flavour} comes first in the server's configuration"


def _total(costs: Sequence[Cost]) -> Cost:
    def add(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    return Cost(
        now=add([cost.now for cost in costs]),
        after=add([cost.after for cost in costs]),
        at_most=add([cost.at_most for cost in costs]),
        to_expiry=add([cost.to_expiry for cost in costs]),
    )
