"""What is to be done: actions, the intents that record them, the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.model.identifiers import (
    DeploymentId,
    GroupName,
    InstanceId,
    IntentId,
    NodeName,
    PoolName,
    SiteName,
)
from orchestrator.model.seen import Outcome
from orchestrator.model.stored import DeploymentStatus, Node
from orchestrator.reasons import Reason


@dataclass(frozen=True)
class CreateInstance:
    node: NodeName


@dataclass(frozen=True)
class ConfigureNodes:
    """One Ansible run for all of ``nodes``; it goes on in the background."""

    nodes: tuple[NodeName, ...]


@dataclass(frozen=True)
class RenewCredential:
    """Give the host a new credential for its pool, well before the one it has ends."""

    node: NodeName


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
    CreateInstance
    | ConfigureNodes
    | RenewCredential
    | Reschedule
    | DrainNode
    | DeleteInstance
    | RevokeCredentials
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
