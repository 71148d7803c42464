"""The server itself, its checks and its errors, as they are shown."""

from __future__ import annotations

from typing import Literal

from orchestrator.api.models.wire import Answer, Reason


class IssuerInfo(Answer):
    name: str
    issuer: str
    client_id: str
    audiences: list[str]


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


class ErrorEntry(Answer):
    file: str | None
    line: int | None
    column: int | None
    path: str | None
    sentence: str
    suggestion: str


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
