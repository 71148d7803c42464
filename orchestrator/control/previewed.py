"""The words in which a preview is told: sites, groups, nodes, services, costs."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.control.difference import Change
from orchestrator.model import (
    DeploymentId,
    GroupName,
    NodeName,
    NodeState,
    Offer,
    PoolName,
    Quota,
    Requirements,
    SiteName,
)
from orchestrator.reasons import Reason


@dataclass(frozen=True)
class ServicePreview:
    action: str  # + ~ - =
    template: str
    role: str


@dataclass(frozen=True)
class NodePreview:
    """What becomes of one node.  ``name`` is None for one that is not there yet.

    ``effect`` is create, reconfigure (in place), replace (by another node), remove or keep.
    """

    action: str  # + ~ - =
    effect: str
    name: NodeName | None
    state: NodeState | None
    site: SiteName
    flavour: str
    image: str
    cores: int
    memory_mb: int
    why: str = ""


@dataclass(frozen=True)
class Candidate:
    """A flavour of a site: whether the next node would be one, and if not, why not."""

    site: SiteName
    flavour: str
    chosen: bool
    price_per_hour: float | None
    why: str = ""


@dataclass(frozen=True)
class Cost:
    """In the currency of the sites' prices; None where a price is not known.

    ``now`` and ``after`` are per hour, ``at_most`` is per hour at the maximum, ``to_expiry`` is
    what the nodes of ``after`` cost until their lifetime ends, None where they have no end.
    """

    now: float | None
    after: float | None
    at_most: float | None
    to_expiry: float | None


@dataclass(frozen=True)
class GroupPreview:
    """One group: ``now`` nodes, ``wanted`` in the end; where a next node would go."""

    name: GroupName
    action: str  # + ~ - =
    now: int
    wanted: int
    minimum: int
    maximum: int
    pool: PoolName | None
    requirements: Requirements
    changes: tuple[Change, ...]
    candidates: tuple[Candidate, ...]
    nodes: tuple[NodePreview, ...]
    services: tuple[ServicePreview, ...]
    cost: Cost
    offer: Offer | None = None
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class SitePreview:
    """A site, how many nodes it gives up and gets, and its quota before and after."""

    name: SiteName
    create: int
    remove: int
    before: Quota | None
    after: Quota | None
    why: str = ""  # why the quota is not known


@dataclass(frozen=True)
class Preview:
    """What would be done, up to where nothing is left to do.

    ``complete`` is False where that is so far off that only the beginning was followed.
    """

    deployment: DeploymentId | None
    sites: tuple[SitePreview, ...]
    groups: tuple[GroupPreview, ...]
    cost: Cost
    imports: tuple[tuple[str, str], ...]
    reasons: tuple[Reason, ...]
    notes: tuple[str, ...] = ()
    complete: bool = True

    def count(self, action: str) -> int:
        return sum(group.action == action for group in self.groups)

    def nodes(self, effect: str) -> int:
        return sum(node.effect == effect for group in self.groups for node in group.nodes)
