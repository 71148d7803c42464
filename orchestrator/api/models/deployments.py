"""Deployments, their nodes, and what happened to them, as they are shown."""

from __future__ import annotations

from typing import Any, Literal

from orchestrator.api.models.wire import Answer, Link, PageInfo, Reason
from orchestrator.model import DeploymentStatus, EventKind, NodeState


class CreatedBy(Answer):
    issuer: str
    subject: str


class Service(Answer):
    template: str
    type: str
    role: str


class Group(Answer):
    """Hosts that are alike; ``nodes`` counts them by phase."""

    name: str
    pool: str | None
    site: str | None
    minimum: int
    maximum: int
    cores: int
    memory_mb: int
    disk_gb: int
    image: str
    services: list[Service]
    nodes: dict[str, int]


class GroupNow(Group):
    """A group, and what the last pass of the control loop saw of it; null is not known."""

    wanted: int | None = None
    joined: int | None = None
    busy: int | None = None
    idle: int | None = None
    jobs_running: int | None = None
    jobs_waiting: int | None = None
    cores_waiting: int | None = None
    oldest_wait_seconds: float | None = None


class _DeploymentFields(Answer):
    uuid: str
    creation_time: str
    update_time: str
    physical_id: None = None
    status: DeploymentStatus
    status_reason: str | None
    outputs: dict[str, Any]
    task: Literal["NONE"] = "NONE"
    callback: str | None
    user_group: str | None
    cloud_provider_name: str | None
    cloud_provider_endpoint: None = None
    created_by: CreatedBy
    description: str
    reasons: list[Reason]
    status_reason_code: str | None
    forced: bool
    version: int
    links: list[Link]


class ListedDeployment(_DeploymentFields):
    """A deployment in a list."""

    groups: list[Group]


class Deployment(_DeploymentFields):
    """A deployment."""

    groups: list[GroupNow]


class DeploymentList(Answer):
    content: list[ListedDeployment]
    links: list[Link]
    page: PageInfo


class Resource(Answer):
    """One node."""

    uuid: str
    creation_time: str
    update_time: str
    physical_id: str | None
    state: Literal[
        "INITIAL", "CREATING", "CONFIGURING", "STARTING", "STARTED", "STOPPING", "DELETING"
    ]
    tosca_node_name: str
    tosca_node_type: str
    required_by: list[str]
    phase: NodeState
    group: str
    site: str
    flavour: str
    image: str
    cores: int
    memory_mb: int
    address: str | None
    joined_at: str | None
    pool: str | None
    missing_since: str | None
    idle_since: str | None
    attempts: int
    outdated: bool
    refreshing: bool
    reason: Reason | None
    links: list[Link]


class ResourceList(Answer):
    content: list[Resource]
    links: list[Link]
    page: PageInfo


class Ssh(Answer):
    user: str
    address: str
    port: int
    host_keys: list[str]
    key_file: str | None


class Imported(Answer):
    name: str
    sha256: str


class Validated(Answer):
    valid: Literal[True] = True
    description: str
    groups: list[Group]
    outputs: list[str]
    imports: list[Imported]


class Explanation(Answer):
    subject: str
    cause: Reason
    evidence: list[Reason]
    next_command: str


class Event(Answer):
    sequence: int
    at: str
    kind: EventKind
    deployment: str | None
    node: str | None
    phase: str
    message: str
    failed: bool
    actor: str
    correlation: str
    code: str


class Events(Answer):
    events: list[Event]
    last: int


class AuditLink(Answer):
    sequence: int
    record: str | None
    hash: str | None


class Audits(Answer):
    links: list[AuditLink]
    last: int
    written: int
