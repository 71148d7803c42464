"""What nodes that configure themselves send and get."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.api.models.wire import Answer, Wire


class EnrolmentBody(Wire):
    """What a node shows beside its one-time credential."""

    secret_sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="SHA-256, in hexadecimal, of what it made up."
    )


class ReportedTask(Wire):
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


class ReportBody(Wire):
    """Events of a run, in order; ``first`` is the number of the first of them in the run."""

    first: int = Field(ge=0, le=100_000)
    events: list[ReportedTask] = Field(max_length=200)
    host_keys: list[_PublicKey] = Field(default_factory=list, max_length=8)


class Enrolled(Answer):
    node: str


class RenewedCredential(Answer):
    id: str
    file: str
    content: str


class NotYet(Answer):
    reason: str
    credential: RenewedCredential | None = None


class TakenBody(Wire):
    """Which credential a node has put where it belongs."""

    id: str = Field(pattern=r"^[0-9a-f]{32}$")


class Taken(Answer):
    known: bool


class Bundle(Answer):
    run: str
    reporter: str
    archive: str
    sha256: str
    seconds: float


class Reported(Answer):
    known: int
