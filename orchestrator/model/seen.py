"""What is seen of the world: instances, machines, demand; each fresh, stale or unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from orchestrator.model.identifiers import (
    DeploymentId,
    GroupName,
    InstanceId,
    NodeName,
    PoolName,
    SiteName,
)
from orchestrator.reasons import Reason

T = TypeVar("T")


class Freshness(StrEnum):
    FRESH = "fresh"
    STALE = "stale"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Observed(Generic[T]):
    """A look at the world: a value that is fresh or stale, or no value and the reason why not."""

    freshness: Freshness
    at: float
    _value: T | None = None
    reason: Reason | None = None

    @classmethod
    def fresh(cls, value: T, at: float) -> Observed[T]:
        return cls(Freshness.FRESH, at, value)

    @classmethod
    def stale(cls, value: T, at: float, reason: Reason) -> Observed[T]:
        return cls(Freshness.STALE, at, value, reason)

    @classmethod
    def unknown(cls, at: float, reason: Reason) -> Observed[T]:
        return cls(Freshness.UNKNOWN, at, None, reason)

    @property
    def is_fresh(self) -> bool:
        return self.freshness is Freshness.FRESH

    @property
    def is_known(self) -> bool:
        return self.freshness is not Freshness.UNKNOWN

    @property
    def value(self) -> T:
        """The value; asking an unknown observation for one is a programming error."""
        if self._value is None:
            raise LookupError("the observation is unknown")
        return self._value


class InstanceState(StrEnum):
    """What a provider says of an instance, in our words."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"  # powered off, by itself or by somebody; still to be deleted
    FAILED = "failed"
    DELETING = "deleting"


@dataclass(frozen=True)
class Instance:
    """A machine as the provider lists it.  ``owner`` and ``node`` come from the tags we set."""

    id: InstanceId
    name: str
    state: InstanceState
    owner: DeploymentId
    node: NodeName
    address: str | None = None
    created_at: float = 0.0
    detail: str = ""


@dataclass(frozen=True)
class PreparedImage:
    """An image with roles baked in: ``base`` is the image that it was made from, as sites name it,
    and ``digest`` stands for the roles and their variables."""

    image: str
    base: str
    digest: str


@dataclass(frozen=True)
class Offer:
    """A flavour that fits.  ``price_per_hour`` is None when no price is known; ``prepared_from``
    is the image that a prepared ``image`` was made from, and empty for any other."""

    site: SiteName
    flavour: str
    cores: int
    memory_mb: int
    disk_gb: int
    image: str
    price_per_hour: float | None = None
    prepared_from: str = ""


@dataclass(frozen=True)
class Rejection:
    """A flavour, or a whole site, that does not fit, and why, as half a sentence."""

    site: SiteName
    flavour: str
    why: str


@dataclass(frozen=True)
class Quota:
    """What a site allows in all and what is used of it; None is no limit."""

    instances: int | None = None
    instances_used: int = 0
    cores: int | None = None
    cores_used: int = 0
    memory_mb: int | None = None
    memory_mb_used: int = 0


@dataclass(frozen=True)
class JobShape:
    """``count`` idle jobs that ask for the same."""

    cores: int
    memory_mb: int
    count: int


@dataclass(frozen=True)
class Demand:
    """The idle jobs of a pool that would run on a machine of a given kind."""

    shapes: tuple[JobShape, ...] = ()
    oldest_wait_seconds: float = 0.0

    @property
    def jobs(self) -> int:
        return sum(shape.count for shape in self.shapes)

    @property
    def cores(self) -> int:
        return sum(shape.count * shape.cores for shape in self.shapes)


@dataclass(frozen=True)
class Machine:
    """A startd as the collector lists it, its slots added up.  ``node`` is our name for it."""

    name: str
    node: NodeName
    deployment: DeploymentId
    cores: int
    cores_free: int
    memory_mb: int
    memory_mb_free: int
    jobs: int
    draining: bool = False
    started_at: float = 0.0
    unfit: str = ""  # why its own probes keep jobs away; empty where they do not


class RunState(StrEnum):
    """A configuration run as the loop finds it; LOST is one whose server died under it,
    DISTRUSTED one that met a host with another ssh key than its site tells of."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DISTRUSTED = "distrusted"
    LOST = "lost"


@dataclass(frozen=True)
class Run:
    """The state of the last configuration run on one node, and why it failed.

    ``attempt`` is what ``Node.attempts`` was when the run was decided.
    """

    node: NodeName
    attempt: int
    state: RunState
    why: str = ""


class OutcomeKind(StrEnum):
    DONE = "done"
    FAILED = "failed"  # it certainly did not happen
    UNKNOWN = "unknown"  # it may have happened; the next fresh listing tells


@dataclass(frozen=True)
class Outcome:
    """What became of an action.  ``retry_after`` is in seconds; ``why`` is safe to show."""

    kind: OutcomeKind
    why: str = ""
    retry_after: float = 0.0


@dataclass(frozen=True)
class Seen:
    """Everything that one pass knows of the world; the keys are always there, values may be
    unknown."""

    instances: Mapping[SiteName, Observed[tuple[Instance, ...]]] = field(default_factory=dict)
    offers: Mapping[GroupName, tuple[Offer | Rejection, ...]] = field(default_factory=dict)
    quotas: Mapping[SiteName, Observed[Quota]] = field(default_factory=dict)
    machines: Mapping[PoolName, Observed[tuple[Machine, ...]]] = field(default_factory=dict)
    demand: Mapping[GroupName, Observed[Demand]] = field(default_factory=dict)
    reachable: frozenset[NodeName] = frozenset()  # ssh answers
    runs: Mapping[NodeName, Run] = field(default_factory=dict)
    creates: Mapping[NodeName, Outcome] = field(default_factory=dict)  # of the last attempt
    deletes: Mapping[NodeName, Outcome] = field(default_factory=dict)  # of the last attempt
    renewals: Mapping[NodeName, Outcome] = field(default_factory=dict)  # of the last attempt
    credential_seconds: Mapping[PoolName, float] = field(default_factory=dict)  # their lifetimes
    unjoinable: Mapping[PoolName, Reason] = field(default_factory=dict)  # by anything, now
    asked_to_leave: Mapping[NodeName, str] = field(default_factory=dict)  # and by whom
    revoked: frozenset[PoolName] = frozenset()  # pools that forgot the deployment's credentials
