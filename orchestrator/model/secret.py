"""Secrets as the store holds them: where each belongs, and its sealed content."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.model.identifiers import Principal


@dataclass(frozen=True)
class SecretPlace:
    """Whose a secret is and what it is called; no other place can have its content.

    It belongs to ``subject`` of ``issuer``, or with a ``group`` to that group of users of it;
    ``deployment`` is empty for what outlives deployments.
    """

    issuer: str
    name: str
    subject: str = ""
    group: str = ""
    deployment: str = ""

    @classmethod
    def of(cls, owner: Principal, name: str, deployment: str = "") -> SecretPlace:
        return cls(owner.issuer, name, subject=owner.subject, deployment=deployment)

    @property
    def words(self) -> tuple[str, str, str, str, str]:
        return (self.issuer, self.subject, self.group, self.deployment, self.name)


@dataclass(frozen=True)
class Sealed:
    """A secret as it is stored: ``key`` names the master key that ``wrapped``, the key of the
    ``content``, is sealed with.  The texts are base64, or what another backend goes by."""

    key: str
    wrapped: str = field(repr=False)
    content: str = field(repr=False)


@dataclass(frozen=True)
class SecretEntry:
    """What may be shown of a secret.  ``fingerprint`` tells two contents apart; times are seconds
    since the epoch."""

    place: SecretPlace
    kind: str
    fingerprint: str
    created_at: float
    used_at: float | None = None
