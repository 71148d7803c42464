"""The server itself, its checks and its errors, as they are shown."""

from __future__ import annotations

from typing import Literal

from orchestrator.api.models.wire import Answer, Reason


class IssuerInfo(Answer):
    name: str
    issuer: str
    client_id: str
    audiences: list[str]
    delegation_scope: str | None


class LimitsInfo(Answer):
    template_bytes: int


class Info(Answer):
    name: str
    version: str
    api: str
    issuers: list[IssuerInfo]
    sites: list[str]
    pools: list[str]
    limits: LimitsInfo


class Health(Answer):
    status: Literal["ok"] = "ok"


class ReadyCheck(Answer):
    name: str
    ok: bool
    reason: Reason | None


class Ready(Answer):
    ready: bool
    checks: list[ReadyCheck]


class Check(Answer):
    name: str
    ok: bool | None
    detail: str
    reason: Reason | None


class Checks(Answer):
    checks: list[Check]


class Amounts(Answer):
    """Numbers of what is limited; null is no limit."""

    deployments: int | None
    nodes: int | None
    cores: int | None


class Limited(Answer):
    """What a person or group may have, and what they have; ``group`` is null for the person."""

    group: str | None
    limits: Amounts
    used: Amounts


class Rights(Answer):
    """What the token is good for: with one's own deployments, with those that are shared with
    one's groups, and with all others."""

    own: list[str]
    shared: list[str]
    others: list[str]


class Whoami(Answer):
    """What the caller is on this server."""

    issuer: str
    issuer_name: str
    subject: str
    client_id: str | None
    groups: list[str]
    scopes: list[str]
    roles: list[str]
    rights: Rights
    limits: list[Limited]
    requests_per_minute: int | None
    token_ends_at: str
    seconds_left: float


class Session(Answer):
    """Who asks, and until when; ``csrf_token`` is None where a token and no cookie says who."""

    issuer: str
    issuer_name: str
    subject: str
    ends_at: str
    seconds_left: float
    csrf_token: str | None


class ErrorEntry(Answer):
    file: str | None
    line: int | None
    column: int | None
    path: str | None
    sentence: str
    suggestion: str


class ExceededLimit(Answer):
    """Which limit was exceeded; ``of`` is the person or group that it is for."""

    what: Literal["deployments", "nodes", "cores"]
    of: str
    used: int
    asked: int
    limit: int


class Problem(Answer):
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
    limit: ExceededLimit | None = None
