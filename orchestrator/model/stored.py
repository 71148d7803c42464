"""What the store holds: deployments, nodes, events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orchestrator.model.identifiers import (
    DeploymentId,
    GroupName,
    InstanceId,
    NodeName,
    PoolName,
    Principal,
    SiteName,
)
from orchestrator.model.wished import DeploymentSpec, Requirements
from orchestrator.reasons import Reason


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
    """One host of ours, from the decision to have it until its absence has been seen.

    ``made_for`` is what its flavour and image were chosen by; ``outdated`` says that its group now
    asks for what only another host can give.  ``configured_as`` is the digest of the configuration
    that its last run was decided for; ``refreshing`` says that such a run goes on, or is tried
    again, while the node is in service, and ``failed_refreshes`` how often it failed in a row.
    ``credential_at`` is a time before which the host's credential for its pool was surely not
    issued (0: it has none), ``renewal_at`` when another was decided whose arrival is not known.
    """

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
    made_for: Requirements | None = None
    base_image: str = ""  # what ``image`` was prepared from, or ``image`` itself
    outdated: bool = False
    configured_as: str = ""
    roles: tuple[str, ...] = ()  # those that were run on it
    refreshing: bool = False
    failed_refreshes: int = 0
    credential_at: float = 0.0
    renewal_at: float = 0.0


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

    @classmethod
    def audit(
        cls,
        at: float,
        actor: object,
        message: str,
        deployment: DeploymentId | None = None,
        *,
        denied: bool = False,
        correlation: str = "",
    ) -> Event:
        """That ``actor`` did what the message says, or was kept from it."""
        return cls(
            at,
            EventKind.AUDIT,
            deployment,
            message,
            phase="denied" if denied else "allowed",
            failed=denied,
            actor=str(actor),
            correlation=correlation,
        )


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
