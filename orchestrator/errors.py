"""What can go wrong, in the terms in which the control loop reacts to it.

Every error of a port is one of the subclasses of :class:`PortError`; the loop decides by class
alone.  :class:`UserError` is for input that a person can mend: what, why, what to try.
"""

from __future__ import annotations

from dataclasses import dataclass


class VacuoError(Exception):
    """Root of all errors that Vacuo raises on purpose."""


@dataclass
class UserError(VacuoError):
    """Something a person gave us is wrong: ``what`` is wrong, ``why``, and what to ``attempt``.

    ``code`` is stable and short (``template-invalid``); ``status`` is the HTTP status it maps to.
    """

    what: str
    why: str = ""
    attempt: str = ""
    code: str = "invalid"
    status: int = 400

    def __str__(self) -> str:
        parts = [self.what]
        if self.why:
            parts.append(self.why)
        if self.attempt:
            parts.append(f"Try: {self.attempt}")
        return " ".join(parts)


class NotFound(UserError):
    """The thing does not exist, or is not this principal's to see: the two look alike."""

    def __init__(self, what: str, attempt: str = "") -> None:
        super().__init__(what, attempt=attempt, code="not-found", status=404)


class NodeRefused(UserError):
    """The credential of a node that configures itself is worth nothing, for whatever reason."""

    def __init__(self) -> None:
        super().__init__(
            "This credential is not accepted.",
            "It was used, has expired, or is not one of this server.",
            "see docs/admin/pull.md",
            code="credential-invalid",
            status=401,
        )


class Forbidden(UserError):
    """The caller may know of the thing, and may not do this."""

    def __init__(self, what: str, why: str = "", attempt: str = "") -> None:
        super().__init__(what, why, attempt, code="forbidden", status=403)


class LimitExceeded(UserError):
    """More than is allowed to one person or group: ``used`` by their other deployments, ``asked``
    by this one, and ``limit`` together."""

    def __init__(self, kind: str, *, used: int, asked: int, limit: int, of: str) -> None:
        super().__init__(
            f"The limit of {limit} {kind} of {of} would be exceeded.",
            f"Other deployments use {used}, this one asks for {asked}.",
            "ask for less, or delete what is not needed: vacuo whoami, vacuo list",
            code="limit-exceeded",
            status=403,
        )
        self.kind, self.used, self.asked, self.limit, self.of = kind, used, asked, limit, of


class Conflict(UserError):
    """The request does not fit the state of the thing."""

    def __init__(self, what: str, why: str = "", attempt: str = "") -> None:
        super().__init__(what, why, attempt, code="conflict", status=409)


class ChangedMeanwhile(UserError):
    """The thing is not any more what the caller had seen when it decided to change it."""

    def __init__(self, what: str, attempt: str = "") -> None:
        super().__init__(what, attempt=attempt, code="changed-meanwhile", status=412)


class LeaseLost(VacuoError):
    """Another worker holds the deployment: this one must stop writing at once."""


class StoreUnavailable(VacuoError):
    """The store cannot write or read now; nothing was half done, and it may work again later.

    ``after`` is the number of seconds to leave it alone.
    """

    def __init__(self, message: str, after: float = 5.0) -> None:
        super().__init__(message)
        self.after = after


class PortError(VacuoError):
    """An error of a provider, a pool or a configurator."""


class Retryable(PortError):
    """It did not work now and may later; ``after`` is the number of seconds to leave it alone."""

    def __init__(self, message: str, after: float = 5.0) -> None:
        super().__init__(message)
        self.after = after


class QuotaExceeded(PortError):
    """The site has no room; a smaller request, or a later one, may fit."""


class Unauthorised(PortError):
    """The credential is missing, wrong or expired; trying again with the same one is pointless."""


class LoginUnusable(Unauthorised):
    """No token of a person can be had by the login that is kept of them, and waiting does not help.

    ``code`` is that of the reason that tells of it.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Unsupported(PortError):
    """The port cannot do this at all."""


class Terminal(PortError):
    """This request can never succeed as it is."""


class OutcomeUnknown(PortError):
    """The request may or may not have been carried out; only the next listing settles it."""
