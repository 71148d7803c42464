"""What goes over the wire.  ``docs/user/api.md`` says what each field means; INDIGO's names.

Requests refuse what they do not know; answers are made by ``present.py`` alone.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from orchestrator.model import DeploymentStatus, EventKind, NodeState

MAXIMUM_PAGE = 1000
MAXIMUM_LINES = 10_000
_LARGEST = 2**63 - 1


class _Wire(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=False, serialize_by_alias=True, extra="forbid"
    )


class _Answer(_Wire):
    # Written by us with our names, read by others with INDIGO's.
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)


def _callback(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good or not url.isascii() or not url.isprintable():
        raise ValueError("it has to be an https URL without a user name")
    return url


# --- requests -----------------------------------------------------------------------------------


class SubmissionBody(_Wire):
    """A template and its inputs."""

    template: str = Field(strict=True, description="The text of a TOSCA template, YAML.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="Inputs by name.")
    callback: Annotated[str, Field(max_length=2000), AfterValidator(_callback)] | None = None
    user_group: Annotated[str, Field(max_length=255, strict=True)] | None = None
    timeout_mins: Annotated[int, Field(ge=0, strict=True)] | None = None
    provider_timeout_mins: Annotated[int, Field(ge=0, strict=True)] | None = None
    max_providers_retry: Annotated[int, Field(ge=0, strict=True)] | None = None
    keep_last_attempt: Annotated[bool, Field(strict=True)] | None = None

    @property
    def ignored(self) -> tuple[str, ...]:
        """INDIGO's fields that were given and that nothing here goes by."""
        fields = (
            "callback",
            "timeoutMins",
            "providerTimeoutMins",
            "maxProvidersRetry",
            "keepLastAttempt",
        )
        values = (
            self.callback,
            self.timeout_mins,
            self.provider_timeout_mins,
            self.max_providers_retry,
            self.keep_last_attempt,
        )
        return tuple(n for n, value in zip(fields, values, strict=True) if value is not None)


class NoQuery(_Wire):
    """No query parameter is understood."""


class EnrolmentBody(_Wire):
    """What a node shows beside its one-time credential."""

    secret_sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="SHA-256, in hexadecimal, of what it made up."
    )


class ReportedTask(_Wire):
    """One task that ended on a node."""

    role: str = Field("", max_length=200, pattern=r"^[A-Za-z0-9_.]*$")
    task: str = Field(max_length=2000)
    status: Literal["ok", "changed", "skipped", "failed", "finished"]
    message: str = Field("", max_length=2000)
    seconds: float = Field(0.0, ge=0, le=1e6)


_PublicKey = Annotated[
    str,
    Field(
        max_length=1000,
        pattern=r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,3}$",
    ),
]


class ReportBody(_Wire):
    """Events of a run, in order; ``first`` is the number of the first of them in the run."""

    first: int = Field(ge=0, le=100_000)
    events: list[ReportedTask] = Field(max_length=200)
    host_keys: list[_PublicKey] = Field(default_factory=list, max_length=8)


class PageQuery(_Wire):
    page: int = Field(0, ge=0, le=1_000_000)
    size: int = Field(10, ge=1, le=MAXIMUM_PAGE)


class DeploymentsQuery(PageQuery):
    sort: str = Field(
        "creationTime,desc", pattern=r"^(creationTime|updateTime|status)(,(asc|desc))?$"
    )
    created_by: str | None = Field(None, max_length=600)
    user_group: str | None = Field(None, max_length=255)
    status: DeploymentStatus | None = None
    all: bool = False


class DeletionQuery(_Wire):
    force: bool = False


class LogQuery(_Wire):
    node: str | None = Field(None, max_length=255)
    phase: str | None = Field(None, max_length=64)
    failed: bool = False
    since: int | None = Field(None, ge=0, le=_LARGEST)
    limit: int | None = Field(None, ge=1, le=MAXIMUM_LINES)
    console: int | None = Field(None, ge=1, le=MAXIMUM_LINES)


class ResourcesQuery(PageQuery):
    type: str | None = Field(None, max_length=255)
    group: str | None = Field(None, max_length=255)
    all: bool = False


class ExplainQuery(_Wire):
    subject: str | None = Field(None, min_length=1, max_length=255)


class EventsQuery(_Wire):
    since: int = Field(0, ge=0, le=_LARGEST)
    limit: int = Field(1000, ge=1, le=MAXIMUM_LINES)
    node: str | None = Field(None, max_length=255)
    failed: bool = False


# --- answers ------------------------------------------------------------------------------------


class Link(_Answer):
    rel: str
    href: str


class PageInfo(_Answer):
    size: int
    total_elements: int
    total_pages: int
    number: int


class Reason(_Answer):
    code: str
    sentence: str
    next_command: str


class CreatedBy(_Answer):
    issuer: str
    subject: str


class Service(_Answer):
    template: str
    type: str
    role: str


class Group(_Answer):
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


class _DeploymentFields(_Answer):
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
    links: list[Link]


class ListedDeployment(_DeploymentFields):
    """A deployment in a list."""

    groups: list[Group]


class Deployment(_DeploymentFields):
    """A deployment."""

    groups: list[GroupNow]


class DeploymentList(_Answer):
    content: list[ListedDeployment]
    links: list[Link]
    page: PageInfo


class Resource(_Answer):
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
    reason: Reason | None
    links: list[Link]


class ResourceList(_Answer):
    content: list[Resource]
    links: list[Link]
    page: PageInfo


class Ssh(_Answer):
    user: str
    address: str
    port: int
    host_keys: list[str]
    key_file: str | None


class PlanSummary(_Answer):
    create: int
    change: int
    delete: int


Mark = Literal["+", "~", "-", "="]


class PlannedService(_Answer):
    action: Mark
    template: str
    role: str


class Rejected(_Answer):
    site: str
    flavour: str
    why: str


class PlannedGroup(_Answer):
    name: str
    action: Mark
    now: int
    wanted: int
    minimum: int
    maximum: int
    site: str | None
    flavour: str | None
    image: str | None
    price_per_hour: float | None
    rejected: list[Rejected]
    services: list[PlannedService]
    reasons: list[Reason]


class Imported(_Answer):
    name: str
    sha256: str


class Plan(_Answer):
    """What would be done."""

    changes: bool
    summary: PlanSummary
    groups: list[PlannedGroup]
    imports: list[Imported]


class Validated(_Answer):
    valid: Literal[True] = True
    description: str
    groups: list[Group]
    outputs: list[str]
    imports: list[Imported]


class Explanation(_Answer):
    subject: str
    cause: Reason
    evidence: list[Reason]
    next_command: str


class Event(_Answer):
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


class Events(_Answer):
    events: list[Event]
    last: int


class IssuerInfo(_Answer):
    name: str
    issuer: str
    client_id: str
    audiences: list[str]


class LimitsInfo(_Answer):
    template_bytes: int


class Info(_Answer):
    name: str
    version: str
    api: str
    issuers: list[IssuerInfo]
    sites: list[str]
    pools: list[str]
    limits: LimitsInfo


class Health(_Answer):
    status: Literal["ok"] = "ok"


class ReadyCheck(_Answer):
    name: str
    ok: bool
    reason: Reason | None


class Ready(_Answer):
    ready: bool
    checks: list[ReadyCheck]


class Check(_Answer):
    name: str
    ok: bool | None
    detail: str
    reason: Reason | None


class Checks(_Answer):
    checks: list[Check]


class ErrorEntry(_Answer):
    file: str | None
    line: int | None
    column: int | None
    path: str | None
    sentence: str
    suggestion: str


class Problem(_Answer):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    what: str
    why: str
    attempt: str
    message: str
    correlation: str
    errors: list[ErrorEntry]


# --- nodes that configure themselves ------------------------------------------------------------


class Enrolled(_Answer):
    node: str


class NotYet(_Answer):
    reason: str


class Bundle(_Answer):
    run: str
    reporter: str
    archive: str
    sha256: str
    seconds: float


class Reported(_Answer):
    known: int
