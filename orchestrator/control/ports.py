"""What the control loop acts through: sites, pools, configurator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.batch.base import BatchPool
from orchestrator.batch.own_pools import OwnPools
from orchestrator.configure.base import Configurator
from orchestrator.identity.delegation import Delegation
from orchestrator.model import PoolName, SiteName
from orchestrator.providers.base import Provider


@dataclass(frozen=True)
class PullSite:
    """A site whose hosts configure themselves: the API as they see it, and how long one run of
    theirs may take."""

    url: str
    run_seconds: float


@dataclass(frozen=True)
class Ports:
    """The ports of one server.  The mappings are in the order of the configuration."""

    providers: Mapping[SiteName, Provider]
    pools: Mapping[PoolName, BatchPool]
    configurator: Configurator
    pull: Mapping[SiteName, PullSite] = field(default_factory=dict)
    own_pools: OwnPools | None = None
    delegation: Delegation | None = None
