"""Bearer tokens in, callers out: the validator of every request.

The order is the defence.  Sizes and shapes are checked before anything is decoded; the issuer is
looked up by its exact name before there is any network; the key, found by its id, decides the
algorithm; the signature is verified before a claim is believed.  The caller of the API learns
whether a token is missing, invalid or expired; the log learns why.
"""

from __future__ import annotations

import base64
import binascii
import copy
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import jwt

from orchestrator.errors import UserError
from orchestrator.identity import endpoints
from orchestrator.identity.claims import (
    Caller,
    Fault,
    Refused,
    entitled,
    read_claims,
    read_id_claims,
    shown,
)
from orchestrator.identity.endpoints import Ask, IssuerAway, is_safe_url
from orchestrator.identity.enrichment import Enricher
from orchestrator.identity.keys import PAUSE_SECONDS, KeySource, RemoteKeys
from orchestrator.settings import Issuer

__all__ = ["Caller", "IssuerUnavailable", "TokenValidator", "Unauthenticated"]

log = logging.getLogger(__name__)

MAXIMUM_TOKEN = 16 * 1024
MAXIMUM_HEADER = 2 * 1024
_MAXIMUM_KID = 256
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# RFC 9068 says at+jwt; INDIGO-IAM sends none, and many send JWT.
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
# Headers that would let a token choose its own key or processing; none is of use to us.
_REFUSED_HEADERS = ("crit", "b64", "zip", "cty", "enc", "epk", "jku", "jwk", "x5u", "x5c")
_VERIFIER = jwt.PyJWS(options={"enforce_minimum_key_length": True})

_SENTENCES = {
    Fault.MISSING: "There is no access token in the request.",
    Fault.INVALID: "The access token is not accepted.",
    Fault.EXPIRED: "The access token has expired.",
}
_WHY = {
    Fault.MISSING: "The header Authorization: Bearer TOKEN is missing.",
    Fault.INVALID: "It is not a valid access token of an issuer that this server trusts, "
    "or it is meant for another service.",
    Fault.EXPIRED: "",
}


class Unauthenticated(UserError):
    """401.  ``www_authenticate`` is the header to answer with; ``detail`` is for the log only, and
    ``issuer``, the name of the one that the token says to be of, for the audit."""

    def __init__(self, fault: Fault, detail: str = "", issuer: str = "") -> None:
        super().__init__(
            _SENTENCES[fault], _WHY[fault], "vacuo login", code=fault.value, status=401
        )
        self.fault = fault
        self.detail = detail
        self.issuer = issuer

    @property
    def www_authenticate(self) -> str:
        challenge = 'Bearer realm="vacuo"'
        if self.fault is Fault.MISSING:
            return challenge  # RFC 6750, 3.1: no error code where there was no attempt
        return f'{challenge}, error="invalid_token", error_description="{self.what}"'


class IssuerUnavailable(UserError):
    """503: the issuer's keys cannot be had, so nothing is known about the token."""

    def __init__(self, issuer: Issuer, detail: str) -> None:
        super().__init__(
            f"The issuer {issuer.name} cannot be reached to check the access token.",
            "The token may be good; the server cannot find out.",
            "try again in a minute",
            code="issuer-unreachable",
            status=503,
        )
        self.detail = detail
        self.retry_after = int(PAUSE_SECONDS)


class OwnIssuer(Protocol):
    """An issuer that lives in this process, such as the development issuer."""

    @property
    def issuer(self) -> Issuer: ...

    @property
    def keys(self) -> KeySource: ...


class TokenValidator:
    """Validates access tokens of ``issuers``.  Safe for use by many threads.

    ``own`` is the issuer in this process, if there is one: its keys need no network.  Raises
    :class:`UserError` for issuers that cannot be told apart or whose address is not https.
    """

    def __init__(
        self,
        issuers: Sequence[Issuer],
        now: Callable[[], float] = time.time,
        ask: Ask = endpoints.ask,
        own: OwnIssuer | None = None,
    ) -> None:
        self._now = now
        self._trusted: dict[str, tuple[Issuer, KeySource]] = {}
        self._enrichers = {issuer.name: Enricher(issuer, now, ask) for issuer in issuers}
        sources: list[tuple[Issuer, KeySource]] = [
            (issuer, RemoteKeys(issuer, now, ask)) for issuer in issuers
        ]
        if own is not None:
            sources.append((own.issuer, own.keys))
        for issuer, source in sources:
            for name in (issuer.issuer, *issuer.aliases):
                _check_name(issuer, name)
                if self._trusted.setdefault(name, (issuer, source))[0] is not issuer:
                    raise _configuration(issuer, f"{name} is also a name of another issuer.")

    def validate(self, authorization: str | None) -> Caller:
        """The caller whom the ``Authorization`` header stands for.

        Raises :class:`Unauthenticated` or :class:`IssuerUnavailable`; both are logged here.
        """
        with _told():
            token = _bearer(authorization)
            issuer, claims = self._signed(token)
            return self._complete(token, issuer, claims)

    def subject_of(self, id_token: str, issuer: Issuer, client_id: str, nonce: str) -> str:
        """The subject of an ID token that ``issuer`` made for ``client_id`` in answer to ``nonce``.

        It says who signed in and opens nothing: as a bearer token it is refused.  Raises as
        :meth:`validate` does.
        """
        with _told():
            signer, claims = self._signed(_compact(id_token))
            if signer.issuer != issuer.issuer:
                raise Refused(f"the ID token is of {signer.name}, not of {issuer.name}")
            return read_id_claims(claims, issuer, client_id, nonce, self._now())

    def meant_for(self, audience: str) -> TokenValidator:
        """The same issuers and keys, for tokens that are to be shown to somebody else; nothing is
        asked about those."""
        made = copy.copy(self)
        made._enrichers = {}
        made._trusted = {
            name: (issuer.model_copy(update={"audiences": (audience,)}), source)
            for name, (issuer, source) in self._trusted.items()
        }
        return made

    def _signed(self, token: str) -> tuple[Issuer, dict[str, Any]]:
        """The issuer of ``token`` and its claims, once its signature has held."""
        header, claims = _open(token)
        name = claims.get("iss")
        known = self._trusted.get(name) if isinstance(name, str) else None
        if known is None:
            raise Refused(f"the issuer {shown(name)} is not trusted")
        issuer, source = known
        with _said_to_be_of(issuer):
            _verify(token, _check_header(header), issuer, source)
        return issuer, claims

    def _complete(self, token: str, issuer: Issuer, claims: Mapping[str, Any]) -> Caller:
        with _said_to_be_of(issuer):
            caller, told = read_claims(claims, issuer, self._now())
            enricher = self._enrichers.get(issuer.name)
            if enricher is None:
                return caller
            try:
                return entitled(caller, enricher.complete(token, caller, told))
            except IssuerAway as error:
                raise IssuerUnavailable(issuer, f"{issuer.name}: {error}") from None


def _verify(token: str, kid: str, issuer: Issuer, source: KeySource) -> None:
    try:
        key = source.find(kid)
    except IssuerAway as error:
        raise IssuerUnavailable(issuer, f"{issuer.name}: {error}") from None
    if key is None:
        raise Refused(f"issuer {issuer.name} has no usable key {shown(kid)}")
    try:
        _VERIFIER.decode_complete(token, key=key.key, algorithms=[key.algorithm])
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        detail = f"{type(error).__name__} with key {shown(kid)} of {issuer.name}"
        raise Refused(detail) from None


@contextmanager
def _said_to_be_of(issuer: Issuer) -> Iterator[None]:
    """What is refused meanwhile says that it is of ``issuer``."""
    try:
        yield
    except Refused as refused:
        refused.issuer = issuer.name
        raise


@contextmanager
def _told() -> Iterator[None]:
    """The log learns why a token is refused, its bearer no more than that it is."""
    try:
        yield
    except Refused as refused:
        if refused.fault is not Fault.MISSING:
            log.info("token refused: %s", refused.detail)
        raise Unauthenticated(refused.fault, refused.detail, refused.issuer) from None
    except IssuerUnavailable as error:
        log.warning("issuer away: %s", error.detail)
        raise


def _configuration(issuer: Issuer, why: str) -> UserError:
    return UserError(
        f"The issuer {issuer.name} cannot be used.",
        why,
        "mend the section issuers of vacuo.yaml; see docs/admin/identity.md",
        code="configuration-invalid",
    )


def _check_name(issuer: Issuer, name: str) -> None:
    if not is_safe_url(name):
        raise _configuration(issuer, f"{name} is not an https address.")


def _bearer(authorization: str | None) -> str:
    if not authorization:
        raise Refused("no Authorization header", Fault.MISSING)
    if len(authorization) > MAXIMUM_TOKEN:
        raise Refused(f"the Authorization header is longer than {MAXIMUM_TOKEN} characters")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Refused("the Authorization header has another scheme", Fault.MISSING)
    return _compact(token)


def _compact(token: str) -> str:
    if len(token) > MAXIMUM_TOKEN or not _COMPACT.fullmatch(token):
        raise Refused("it is not a signed JWT in compact form")
    return token


def _open(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, not yet believed."""
    header, claims, _ = token.split(".")
    if len(header) > MAXIMUM_HEADER:
        raise Refused(f"the header is longer than {MAXIMUM_HEADER} characters")
    return _object(header, "header"), _object(claims, "payload")


def _object(segment: str, what: str) -> dict[str, Any]:
    try:
        text = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)).decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (binascii.Error, ValueError, RecursionError):
        raise Refused(f"the {what} is not JSON in base64url") from None
    if not isinstance(value, dict):
        raise Refused(f"the {what} is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refused("a name occurs twice in one object")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _check_header(header: Mapping[str, Any]) -> str:
    refused = [name for name in _REFUSED_HEADERS if name in header]
    if refused:
        raise Refused(f"the header {refused[0]} is not accepted")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise Refused(f"the header typ is {shown(kind)}")
    if not isinstance(header.get("alg"), str):
        raise Refused("the header alg is missing or not a string")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= _MAXIMUM_KID:
        raise Refused("the header kid is missing or not a short string")
    return kid
