"""What is sent to the server: bodies and queries.  What is not known is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field

from orchestrator.api.models.wire import LARGEST, MAXIMUM_LINES, MAXIMUM_PAGE, Wire
from orchestrator.model import DeploymentStatus, EventKind


def _callback(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good or not url.isascii() or not url.isprintable():
        raise ValueError("it has to be an https URL without a user name")
    return url


class SubmissionBody(Wire):
    """A template and its inputs."""

    template: str = Field(
        strict=True, description="The text of a TOSCA template, YAML; or a CSAR in base64."
    )
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
            "timeoutMins",
            "providerTimeoutMins",
            "maxProvidersRetry",
            "keepLastAttempt",
        )
        values = (
            self.timeout_mins,
            self.provider_timeout_mins,
            self.max_providers_retry,
            self.keep_last_attempt,
        )
        return tuple(n for n, value in zip(fields, values, strict=True) if value is not None)


class ActionBody(Wire):
    """What a node is to do.  INDIGO's ``start`` and ``stop`` are not among it: a node that is not
    needed goes."""

    type: Literal["drain"]


class NoQuery(Wire):
    """No query parameter is understood."""


class LoginQuery(Wire):
    issuer: str | None = Field(None, max_length=64)
    next: str = "/account"


class CallbackQuery(Wire):
    """An answer of an issuer; what else it may have in it is not looked at (RFC 6749, 4.1.2)."""

    model_config = ConfigDict(extra="ignore")

    state: str | None = None
    code: str | None = None
    iss: str | None = None
    error: str | None = None


class PageQuery(Wire):
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


class DeletionQuery(Wire):
    force: bool = False


class LogQuery(Wire):
    node: str | None = Field(None, max_length=255)
    phase: str | None = Field(None, max_length=64)
    failed: bool = False
    since: int | None = Field(None, ge=0, le=LARGEST)
    limit: int | None = Field(None, ge=1, le=MAXIMUM_LINES)
    console: int | None = Field(None, ge=1, le=MAXIMUM_LINES)


class ResourcesQuery(PageQuery):
    type: str | None = Field(None, max_length=255)
    group: str | None = Field(None, max_length=255)
    all: bool = False


class ExplainQuery(Wire):
    subject: str | None = Field(None, min_length=1, max_length=255)


class AuditsQuery(Wire):
    since: int = Field(0, ge=0, le=LARGEST)
    limit: int = Field(1000, ge=1, le=MAXIMUM_LINES)


class EventsQuery(AuditsQuery):
    kind: EventKind | None = None
    node: str | None = Field(None, max_length=255)
    failed: bool = False
