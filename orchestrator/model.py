"""The words of Vacuo as types: what a deployment is, what is seen of it, what is to be done.

Everything here is frozen and free of I/O.  Sizes: memory in MiB, disk in GiB, times in seconds
since the epoch (``float``), durations in seconds.  Late values (:class:`Attribute`,
:class:`Concat`) stand for what is only known when machines exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, Literal, NewType, TypeVar

from orchestrator.reasons import Reason

DeploymentId = NewType("DeploymentId", str)
NodeName = NewType("NodeName", str)
InstanceId = NewType("InstanceId", str)
IntentId = NewType("IntentId", str)
GroupName = NewType("GroupName", str)
SiteName = NewType("SiteName", str)
PoolName = NewType("PoolName", str)
JobId = NewType("JobId", str)

T = TypeVar("T")


@dataclass(frozen=True)
class Principal:
    """Who acts: an issuer and a subject in it; the same subject of two issuers is two people."""

    issuer: str
    subject: str

    def __str__(self) -> str:
        return f"{self.subject}@{self.issuer}"


# --- what a template asks for -------------------------------------------------------------------


@dataclass(frozen=True)
class Attribute:
    """``get_attribute``: the attribute of a node template, known once its machines are.

    ``path`` is what follows the template's name; ``[requirement, …, attribute]`` is already
    resolved to the template that the requirement leads to, so the first word is the attribute.
    """

    template: str
    path: tuple[str, ...]
    kind: Literal["attribute"] = "attribute"


@dataclass(frozen=True)
class Concat:
    """``concat`` of values, at least one of which is late."""

    parts: tuple[Any, ...]
    kind: Literal["concat"] = "concat"


@dataclass(frozen=True)
class Token:
    """``token``: the ``index``-th part of a late value cut at ``separator``."""

    value: Any
    separator: str
    index: int
    kind: Literal["token"] = "token"


# Plain JSON values (str, int, float, bool, None, list, dict), with late values anywhere inside.
Value = Any


@dataclass(frozen=True)
class Requirements:
    """What one host must have."""

    cores: int = 1
    memory_mb: int = 1024
    disk_gb: int = 10
    image: str = ""  # a name from the site's images; empty is the site's default
    architecture: str = "x86_64"


@dataclass(frozen=True)
class UserData:
    """What a host is given at its creation: ssh keys that may log in as root, and files.

    ``files`` maps absolute paths to (mode, content); contents may be secret and never appear in a
    representation or a log.
    """

    authorized_keys: tuple[str, ...] = ()
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class VacuumPolicy:
    """``vacuo.policies.Vacuum``: how many machines there may be, and when they leave."""

    minimum: int = 0
    maximum: int = 1
    idle_seconds: int = 300
    lifetime_seconds: int = 86400


@dataclass(frozen=True)
class Service:
    """A software component on a host: the node template, its type, and the role that makes it."""

    template: str
    type: str
    role: str  # fully qualified, e.g. vacuo.site.squid
    variables: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeGroup:
    """Hosts that are alike: one Compute template with its services, in the order to set them up.

    ``count`` is the wanted number where no vacuum policy applies.  ``pool`` is the HTCondor pool
    that the hosts join, or None for hosts that only serve others.  ``uses`` names the groups whose
    addresses this one needs; a group under a vacuum policy without a pool lives as long as a
    group that uses it has nodes.  ``advertised`` is what its machines will say of themselves
    (ClassAd attributes), so that demand can be matched before there is a machine.
    """

    name: GroupName
    requirements: Requirements
    services: tuple[Service, ...] = ()
    count: int = 1
    vacuum: VacuumPolicy | None = None
    pool: PoolName | None = None
    uses: tuple[GroupName, ...] = ()
    site: SiteName | None = None
    advertised: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    @property
    def minimum(self) -> int:
        return self.vacuum.minimum if self.vacuum else self.count

    @property
    def maximum(self) -> int:
        return self.vacuum.maximum if self.vacuum else self.count


@dataclass(frozen=True)
class DeploymentSpec:
    """A compiled template: nothing of TOSCA is left in it but names and late values."""

    description: str
    groups: tuple[NodeGroup, ...]
    outputs: Mapping[str, Value] = field(default_factory=dict)
    imports: tuple[tuple[str, str], ...] = ()  # (what was imported, sha256 of its content)

    def group(self, name: str) -> NodeGroup:
        return next(group for group in self.groups if group.name == name)

    def group_of_template(self, template: str) -> NodeGroup | None:
        """The group whose Compute or one of whose services is the node template ``template``."""
        for group in self.groups:
            if group.name == template or any(s.template == template for s in group.services):
                return group
        return None


# --- what the store holds -----------------------------------------------------------------------


class DeploymentStatus(StrEnum):
    """INDIGO's words."""

    CREATE_IN_PROGRESS = "CREATE_IN_PROGRESS"
    CREATE_COMPLETE = "CREATE_COMPLETE"
    CREATE_FAILED = "CREATE_FAILED"
    UPDATE_IN_PROGRESS = "UPDATE_IN_PROGRESS"
    UPDATE_COMPLETE = "UPDATE_COMPLETE"
    UPDATE_FAILED = "UPDATE_FAILED"
    DELETE_IN_PROGRESS = "DELETE_IN_PROGRESS"
    DELETE_COMPLETE = "DELETE_COMPLETE"
    DELETE_FAILED = "DELETE_FAILED"
    UNKNOWN = "UNKNOWN"


class NodeState(StrEnum):
    """A node's way; it never goes back, except from CONFIGURING to CONFIGURING."""

    PLANNED = "PLANNED"
    REQUESTED = "REQUESTED"
    BOOTING = "BOOTING"
    CONFIGURING = "CONFIGURING"
    JOINING = "JOINING"
    JOINED = "JOINED"  # in the pool; for a host without a pool: in service
    DRAINING = "DRAINING"
    DELETING = "DELETING"
    GONE = "GONE"


@dataclass(frozen=True)
class Node:
    """One host of ours, from the decision to have it until its absence has been seen."""

    name: NodeName
    deployment: DeploymentId
    group: GroupName
    site: SiteName
    flavour: str
    cores: int
    memory_mb: int
    state: NodeState
    since: float  # when the state was entered
    created_at: float
    image: str = ""
    instance: InstanceId | None = None
    address: str | None = None
    joined_at: float | None = None
    pool: PoolName | None = None
    missing_since: float | None = None  # joined, and not among the pool's machines since
    idle_since: float | None = None  # joined, and without a job since
    attempts: int = 0  # configuration runs so far
    uses: tuple[str, ...] = ()  # the addresses, of groups it uses, that it was configured with
    retry_at: float = 0.0  # nothing is tried again before
    reason: Reason | None = None


@dataclass(frozen=True)
class Deployment:
    """A deployment as the store knows it; ``spec`` is the wish that the loop works towards."""

    id: DeploymentId
    owner: Principal
    template: str
    parameters: Mapping[str, Any]
    spec: DeploymentSpec
    status: DeploymentStatus
    created_at: float
    updated_at: float
    status_reason: Reason | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    callback: str | None = None
    user_group: str | None = None
    forced: bool = False  # deletion does not wait for running jobs
    reasons: tuple[Reason, ...] = ()  # why anything waits now, as the last pass saw it
    generation: int = 0  # grows with every change of the wish; a pass says which one it read

    @property
    def deleting(self) -> bool:
        return self.status in (DeploymentStatus.DELETE_IN_PROGRESS, DeploymentStatus.DELETE_FAILED)


class EventKind(StrEnum):
    """What an event is about; the words are part of the API."""

    DEPLOYMENT = "deployment"
    NODE = "node"
    ACTION = "action"
    TASK = "task"  # one Ansible task
    CONSOLE = "console"
    AUDIT = "audit"


@dataclass(frozen=True)
class Event:
    """One line of what happened; append only.  ``sequence`` is given by the store."""

    at: float
    kind: EventKind
    deployment: DeploymentId | None
    message: str
    node: NodeName | None = None
    phase: str = ""
    failed: bool = False
    actor: str = "vacuo"
    correlation: str = ""
    code: str = ""
    sequence: int = 0


@dataclass(frozen=True)
class Patience:
    """How long each phase may take, in seconds, and how often a step is tried."""

    boot_seconds: float = 300.0
    configure_attempts: int = 3
    join_seconds: float = 300.0
    lost_seconds: float = 120.0
    drain_seconds: float = 3600.0
    poll_seconds: float = 0.5
    nodes: int = 500  # of one deployment


# --- what is seen -------------------------------------------------------------------------------


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
class Offer:
    """A flavour that fits.  ``price_per_hour`` is None when no price is known."""

    site: SiteName
    flavour: str
    cores: int
    memory_mb: int
    disk_gb: int
    image: str
    price_per_hour: float | None = None


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


class RunState(StrEnum):
    """A configuration run as the loop finds it; LOST is one whose server died under it."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
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
    revoked: frozenset[PoolName] = frozenset()  # pools that forgot the deployment's credentials


# --- what is to be done -------------------------------------------------------------------------


@dataclass(frozen=True)
class CreateInstance:
    node: NodeName


@dataclass(frozen=True)
class ConfigureNodes:
    """One Ansible run for all of ``nodes``; it goes on in the background."""

    nodes: tuple[NodeName, ...]


@dataclass(frozen=True)
class Reschedule:
    """Ask the pool's schedds to look for a match now, because a machine has arrived."""

    pool: PoolName


@dataclass(frozen=True)
class DrainNode:
    node: NodeName


@dataclass(frozen=True)
class DeleteInstance:
    """Delete an instance; ``node`` is None for an orphan."""

    site: SiteName
    instance: InstanceId
    node: NodeName | None
    why: Reason


@dataclass(frozen=True)
class RevokeCredentials:
    """Take back everything that let the deployment's nodes join ``pool``."""

    pool: PoolName


Action = (
    CreateInstance | ConfigureNodes | Reschedule | DrainNode | DeleteInstance | RevokeCredentials
)


@dataclass(frozen=True)
class Intent:
    """An action that was decided; recorded before it is carried out.

    ``holder`` is the server process that decided it; ``outcome`` is None until it is known, and
    stays None for ever when that process died.
    """

    id: IntentId
    deployment: DeploymentId
    action: Action
    holder: str
    decided_at: float
    outcome: Outcome | None = None
    finished_at: float | None = None


@dataclass(frozen=True)
class Plan:
    """What one pass decided.

    ``nodes`` are the rows that changed or are new; they are stored, with the intents of
    ``actions``, before any action is carried out.  ``look_again`` is in seconds.
    """

    nodes: tuple[Node, ...] = ()
    actions: tuple[Action, ...] = ()
    reasons: tuple[Reason, ...] = ()
    status: DeploymentStatus = DeploymentStatus.CREATE_IN_PROGRESS
    status_reason: Reason | None = None
    wanted: Mapping[GroupName, int] = field(default_factory=dict)  # live nodes, by group
    look_again: float = 1.0

    @property
    def empty(self) -> bool:
        return not self.nodes and not self.actions
