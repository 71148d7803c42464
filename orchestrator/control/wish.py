"""What a node was made and configured for, held against what its group asks for now.  Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.control.lifecycle import LIVE
from orchestrator.control.placement import split
from orchestrator.control.values import (
    POOL_SECRETS,
    Scope,
    Unresolved,
    addresses_beside,
    policy_attributes,
    resolve,
    serving,
)
from orchestrator.model import (
    Attribute,
    DeploymentSpec,
    Node,
    NodeGroup,
    NodeState,
    Offer,
    Rejection,
    Secret,
)


@dataclass(frozen=True)
class _GroupScope(Scope):
    """Resolves what is the same for every host of a group; what each has for itself, and secrets
    above all, stays a name."""

    group: NodeGroup | None = None

    def secret(self, reference: Secret) -> str:
        return f"secret {reference.name} {reference.mark}"

    def attribute(self, reference: Attribute) -> object:
        if reference.path[0] in POOL_SECRETS:
            return f"own {reference.template}.{'.'.join(reference.path)}"
        group = self.spec.group_of_template(reference.template)
        if self.group is None or group is None or group.name != self.group.name:
            return super().attribute(reference)
        if reference.path == ("other_addresses",):
            # Whoever comes or goes is news to all the others.
            return addresses_beside(None, self.nodes, self.group.name)
        policy = policy_attributes(self.group)
        return policy.get(reference.path[0], f"own {'.'.join(reference.path)}")


def configuration(spec: DeploymentSpec, group: NodeGroup, nodes: Sequence[Node]) -> str | None:
    """The digest of what a run makes of every host of ``group``: roles, variables, and the
    addresses of the groups it uses.  None while some of that is not known."""
    scope = _GroupScope(spec, nodes, group=group)
    try:
        roles = [[s.role, s.template, resolve(s.variables, scope)] for s in group.services]
    except Unresolved:
        return None
    content = json.dumps([roles, used_addresses(group, nodes)], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def used_addresses(group: NodeGroup, nodes: Iterable[Node]) -> tuple[str, ...]:
    """The addresses that a host of ``group`` is told of, of the groups that it uses."""
    names = {name for name in group.uses if name != group.name}
    everybody = list(nodes)
    found = {
        node.address
        for name in names
        for node in serving(node for node in everybody if node.group == name)
        if node.address
    }
    return tuple(sorted(found))


def lost_addresses(node: Node, group: NodeGroup, nodes: Iterable[Node]) -> tuple[str, ...]:
    """The addresses that ``node`` was told of and where no host of ours lives any more."""
    if not node.uses:
        return ()
    living = {n.address for n in nodes if n.group in group.uses and n.state in LIVE}
    return tuple(sorted(set(node.uses) - living))


def is_outdated(node: Node, group: NodeGroup, candidates: Sequence[Offer | Rejection]) -> bool:
    """Whether only another host can be what ``group`` asks for.

    Another pool and another site are, and a service that is not wished any more: nothing takes it
    off a host.  Another size or image is, unless the site would choose for it just what the node
    is.  Without a look at the offers (``candidates`` is empty) a node of other requirements stays
    what it was taken for.
    """
    if node.pool != group.pool or (group.site and node.site != group.site):
        return True
    if _dropped(node, group):
        return True
    if node.made_for is None or node.made_for == group.requirements:
        return False
    if not candidates:
        return node.outdated
    offers, _ = split(group, candidates)
    here = next((offer for offer in offers if offer.site == node.site), None)
    if here is None or here.flavour != node.flavour:
        return True
    # The same image, prepared meanwhile, is no reason for another host.
    return (here.prepared_from or here.image) != (node.base_image or node.image)


def _dropped(node: Node, group: NodeGroup) -> list[str]:
    return sorted(set(node.roles) - {service.role for service in group.services})


def why_outdated(node: Node, group: NodeGroup) -> str:
    """What of ``group``'s wish the node cannot become, as half a sentence."""
    if node.pool != group.pool:
        return f"it joins pool {group.pool or 'none'} instead of {node.pool or 'none'}"
    if group.site and node.site != group.site:
        return f"site {group.site} instead of {node.site}"
    if dropped := _dropped(node, group):
        return f"it still has {', '.join(dropped)}, which nothing takes off a host"
    was, now = node.made_for, group.requirements
    if was is None:
        return "it was made for something else"
    return ", ".join(
        f"{getattr(now, field) or 'the default'} {what} instead of {getattr(was, field) or 'it'}"
        for field, what in (
            ("cores", "cores"),
            ("memory_mb", "MiB of memory"),
            ("disk_gb", "GiB of disk"),
            ("image", "image"),
            ("architecture", "architecture"),
        )
        if getattr(now, field) != getattr(was, field)
    )


def settled(group: NodeGroup, nodes: Iterable[Node]) -> bool:
    """Whether no host of the groups that ``group`` uses is still coming up: then their addresses
    are worth being told to those in service."""
    return not any(
        node.group in group.uses and node.group != group.name
        for node in nodes
        if node.state in LIVE and node.state is not NodeState.JOINED
    )


def at_once(count: int) -> int:
    """How many of ``count`` nodes may change at the same time: a quarter, at least one."""
    return max(1, count // 4)
