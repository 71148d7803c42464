"""What the tests of the repository store: small deployments, nodes, events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.model import (
    Action,
    Attribute,
    Deployment,
    DeploymentId,
    DeploymentSpec,
    DeploymentStatus,
    Event,
    EventKind,
    GroupName,
    Intent,
    Node,
    NodeName,
    NodeState,
    Principal,
    SiteName,
)
from orchestrator.store import Lease, Repository

ID = DeploymentId("one")
ADA = Principal("https://issuer", "ada")
NODE = NodeName("one-workers-1")


def deployment(id: str = ID, **fields: Any) -> Deployment:
    plain = Deployment(
        id=DeploymentId(id),
        owner=ADA,
        template="tosca_definitions_version: tosca_simple_yaml_1_3",
        parameters={"cores": 4},
        spec=DeploymentSpec("a site", (), {"address": Attribute("squid", ("address",))}),
        status=DeploymentStatus.CREATE_IN_PROGRESS,
        created_at=100.0,
        updated_at=100.0,
    )
    return replace(plain, **fields)


def node(name: str = NODE, **fields: Any) -> Node:
    plain = Node(
        name=NodeName(name),
        deployment=ID,
        group=GroupName("workers"),
        site=SiteName("here"),
        flavour="small",
        cores=2,
        memory_mb=2048,
        state=NodeState.REQUESTED,
        since=100.0,
        created_at=100.0,
    )
    return replace(plain, **fields)


def event(message: str = "happened", **fields: Any) -> Event:
    return replace(Event(100.0, EventKind.NODE, ID, message), **fields)


@dataclass
class Worker:
    """A loop of one server: a lease, and passes that write under it."""

    repository: Repository
    holder: str = "server-1"
    deployment: DeploymentId = ID
    now: float = 100.0
    lease: Lease | None = None
    generation: int = 0

    def begin(self) -> Worker:
        self.lease = self.repository.acquire(self.deployment, self.holder, 60.0, self.now)
        self.generation = self.repository.deployment(self.deployment).generation
        return self

    def save(
        self, actions: Sequence[Action] = (), nodes: Sequence[Node] = (), **more: Any
    ) -> tuple[Intent, ...]:
        assert self.lease is not None
        said: dict[str, Any] = {
            "generation": self.generation,
            "status": DeploymentStatus.CREATE_IN_PROGRESS,
            "status_reason": None,
            "reasons": (),
            "now": self.now,
        }
        return self.repository.save(self.lease, actions=actions, nodes=nodes, **said | more)
