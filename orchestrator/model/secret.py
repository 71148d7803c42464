"""Secrets as the store holds them: where each belongs, and its sealed content; and logins that are
kept of people, whose refresh tokens are among those secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

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


@dataclass(frozen=True)
class TokenWanted:
    """An access token of a person that something needs: for whom it is meant, and its scopes."""

    audience: str
    scope: str = ""


class LoginState(StrEnum):
    """What is known of a login that is kept of a person."""

    NONE = "none"  # there is none, or none yet
    GOOD = "good"
    ENDED = "ended"  # only the person can mend it
    REFUSED = "refused"  # the issuer does not renew it; only an administrator can mend it


@dataclass(frozen=True)
class KeptLogin:
    """A login that the server keeps of ``person``, without its refresh token.

    ``why`` is safe to show.  ``since`` is when it was got, ``renewed_at`` when the issuer last gave
    a token for it; ``ends_at`` is None where the issuer does not say.
    """

    person: Principal
    state: LoginState
    since: float
    renewed_at: float
    ends_at: float | None = None
    why: str = ""
