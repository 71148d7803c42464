"""What the claims of a token say about its bearer; decided purely, after the signature held.

Claims are as RFC 7519, RFC 9068 and the WLCG token profile 1.x have them.  Every claim that is
read is checked for its type first: a claim of the wrong shape refuses the token, it is never
ignored.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from orchestrator.identity.profiles import MAXIMUM_TEXT, PROFILES, Malformed, groups_told
from orchestrator.model import Principal
from orchestrator.settings import Issuer

# The WLCG profile's upper bound for the life of an access token, in seconds.
MAXIMUM_LIFETIME = 6 * 3600
# How far an issuer's clock may be ahead of ours, in seconds; there is no grace for `exp`.
CLOCK_SKEW = 60

# Claims that only other kinds of token have: ID tokens, logout tokens, and tokens that are bound
# to a key of the bearer, which a bearer token check cannot honour.
_FOREIGN_CLAIMS = ("nonce", "at_hash", "c_hash", "s_hash", "events", "cnf")
_CAPABILITIES = ("compute.", "storage.")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")
_WLCG_VERSION = re.compile(r"1\.[0-9]{1,4}")


class Fault(StrEnum):
    """What a caller is told about a token that was refused; the detail is for the log."""

    MISSING = "token-missing"
    INVALID = "token-invalid"
    EXPIRED = "token-expired"


class Refused(Exception):
    """A token is refused: a general ``fault`` for its bearer, a ``detail`` for the log.

    The detail never holds a part of the token, except names (issuer, key id) cut to a safe form.
    ``issuer`` is the name of the configured issuer that it says to be of; empty where of none.
    """

    def __init__(self, detail: str, fault: Fault = Fault.INVALID) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fault = fault
        self.issuer = ""


@dataclass(frozen=True)
class Caller:
    """The bearer of a valid token.  ``expires_at`` is in seconds since the epoch.

    ``groups`` are paths such as ``/cms/uscms``, whatever the issuer's profile.  They are empty
    where a scope gives a capability, which outranks them (WLCG token profile 1.x).
    """

    principal: Principal
    groups: frozenset[str]
    scopes: frozenset[str]
    expires_at: float
    token_id: str | None
    client_id: str | None

    @property
    def capabilities(self) -> frozenset[str]:
        """The scopes that say what may be done, such as ``compute.create``."""
        return frozenset(scope for scope in self.scopes if scope.startswith(_CAPABILITIES))


def shown(value: object) -> str:
    """A name from a token in a form that can be logged: one short line of ASCII."""
    text = ascii(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


@dataclass(frozen=True)
class Told:
    """What claims say of what their bearer may do; ``groups`` is None where they do not say."""

    groups: frozenset[str] | None
    scopes: frozenset[str]


def read_claims(claims: Mapping[str, Any], issuer: Issuer, now: float) -> tuple[Caller, Told]:
    """The caller of ``claims`` whose signature by ``issuer`` was verified, or :class:`Refused`."""
    if claims.get("iss") not in (issuer.issuer, *issuer.aliases):
        raise Refused("iss is not the issuer whose key signed the token")
    _check_kind(claims)
    expires_at = _check_times(claims, now)
    _check_audience(claims.get("aud"), issuer.audiences)
    for name in PROFILES[issuer.profile].required:
        _text(claims, name, required=True)
    for name in ("preferred_username", "username"):
        _text(claims, name)
    told = read_told(claims, issuer)
    caller = Caller(
        principal=Principal(issuer.issuer, _text(claims, "sub", required=True) or ""),
        groups=frozenset(),
        scopes=frozenset(),
        expires_at=expires_at,
        token_id=_text(claims, "jti"),
        client_id=_text(claims, "client_id") or _text(claims, "azp"),
    )
    return entitled(caller, told), told


def read_id_claims(
    claims: Mapping[str, Any], issuer: Issuer, client_id: str, nonce: str, now: float
) -> str:
    """The subject of an ID token's ``claims`` (OpenID Connect Core 1.0, 3.1.3.7), whose signature
    by ``issuer`` was verified, or :class:`Refused`.  It has to be for this client, in answer to
    this ``nonce``."""
    if claims.get("iss") not in (issuer.issuer, *issuer.aliases):
        raise Refused("iss of the ID token is not the issuer whose key signed it")
    _check_times(claims, now)
    _check_audience(claims.get("aud"), (client_id,))
    if claims.get("azp", client_id) != client_id:
        raise Refused("the ID token was made for another client (azp)")
    sent = claims.get("nonce")
    if not isinstance(sent, str) or not hmac.compare_digest(sent.encode(), nonce.encode()):
        raise Refused("the ID token does not answer this login (nonce)")
    return _text(claims, "sub", required=True) or ""


def read_told(claims: Mapping[str, Any], issuer: Issuer) -> Told:
    """Groups and scopes of a token, or of what its issuer answers about it."""
    try:
        return Told(groups_told(claims, issuer.profile), _scopes(claims))
    except Malformed as error:
        raise Refused(str(error)) from None


def entitled(caller: Caller, told: Told) -> Caller:
    """``caller`` with what is told of it."""
    made = replace(caller, scopes=told.scopes)
    return made if made.capabilities else replace(made, groups=told.groups or frozenset())


def _check_kind(claims: Mapping[str, Any]) -> None:
    foreign = [name for name in _FOREIGN_CLAIMS if name in claims]
    if foreign:
        raise Refused(f"the claim {foreign[0]} does not belong into an access token")
    if claims.get("typ", "Bearer") != "Bearer":  # Keycloak says ID, Refresh, Offline, Logout here
        raise Refused("the claim typ says that this is not an access token")
    if claims.get("token_use", "access") != "access":
        raise Refused("the claim token_use says that this is not an access token")
    version = claims.get("wlcg.ver", "1.0")
    if not isinstance(version, str) or not _WLCG_VERSION.fullmatch(version):
        raise Refused("wlcg.ver is not a version 1.x")


def _check_times(claims: Mapping[str, Any], now: float) -> float:
    expires_at = _time(claims, "exp")
    issued_at = _time(claims, "iat")
    if expires_at <= now:
        raise Refused(f"expired {now - expires_at:.0f} s ago", Fault.EXPIRED)
    if issued_at > now + CLOCK_SKEW:
        raise Refused("iat lies in the future")
    if expires_at - issued_at > MAXIMUM_LIFETIME:
        raise Refused(f"it would live longer than {MAXIMUM_LIFETIME} s")
    if "nbf" in claims and _time(claims, "nbf") > now + CLOCK_SKEW:
        raise Refused("nbf lies in the future")
    return expires_at


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    # bool is an int to Python; the bounds also keep out infinities and what float cannot hold.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**40:
        raise Refused(f"{name} is missing or not a time")
    return float(value)


def _check_audience(audience: object, accepted: tuple[str, ...]) -> None:
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise Refused("aud is missing or neither a string nor a list of strings")
    if not any(one in accepted for one in named):
        raise Refused(f"aud is {shown(named)}, none of which is ours")


def _text(claims: Mapping[str, Any], name: str, required: bool = False) -> str | None:
    value = claims.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= MAXIMUM_TEXT:
        raise Refused(f"{name} is missing or not a string of 1 to {MAXIMUM_TEXT} characters")
    if not value.isprintable() or value != value.strip():
        raise Refused(f"{name} has characters that cannot be printed, or blanks around it")
    return value


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    scope = claims.get("scope", "")
    if not isinstance(scope, str) or (scope and not _SCOPE.fullmatch(scope)):
        raise Refused("scope is not a list of words with single blanks between them")
    return frozenset(scope.split())
