"""Credentials for clouds and hosts: they are sent, and never come back."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from orchestrator.api.models.wire import Answer, Wire

_Group = Annotated[str, Field(max_length=255, strict=True)]


class CredentialBody(Wire):
    """A credential; ``secrets`` are its fields, by the names of its kind."""

    kind: str = Field(max_length=40, strict=True)
    secrets: dict[str, Any] = Field(min_length=1, max_length=40)
    user_group: _Group | None = None


class GroupQuery(Wire):
    user_group: _Group | None = None


class Credential(Answer):
    name: str
    kind: str
    fingerprint: str
    user_group: str | None
    creation_time: str
    last_use: str | None


class KeptLogin(Answer):
    """A login that the server keeps of the caller; ``ends_at`` is null where nobody can tell."""

    issuer: str
    state: Literal["good", "ended", "refused"]
    why: str
    creation_time: str
    last_renewal: str
    ends_at: str | None


class LoginBody(Wire):
    """A refresh token of the caller, for the server to keep."""

    refresh_token: str = Field(min_length=1, max_length=16384, strict=True)


class Credentials(Answer):
    content: list[Credential]
    logins: list[KeptLogin]
