"""The server as a client of an issuer's token endpoint: refresh, exchange, revocation.

Requests are as RFC 6749, 7009 and 8693 have them, within the bounds of
:mod:`orchestrator.identity.endpoints`.  What comes back is read with suspicion and sorted into what
the caller can do about it.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from orchestrator.identity import endpoints
from orchestrator.identity.endpoints import Ask, IssuerAway, client_authorization, discovered
from orchestrator.identity.keys import REFRESH_SECONDS
from orchestrator.settings import Issuer

OFFLINE = "offline_access"
EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - its name
_MAXIMUM_TOKEN = 16 * 1024
# Of refresh tokens, by the names that issuers use; RFC 6749 has none.
_LIFETIMES = ("refresh_token_expires_in", "refresh_expires_in")
_LONGEST_SECONDS = 10 * 365 * 86400.0


class GrantEnded(Exception):
    """The issuer takes this grant no more; the message is safe to show."""


class GrantRefused(Exception):
    """The issuer does not give what was asked for; an administrator has to look.  The message is
    safe to show."""


class Exchange(Protocol):
    """Asks an issuer once: :func:`orchestrator.identity.endpoints.exchange`."""

    def __call__(
        self,
        url: str,
        authorization: str | None = None,
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]: ...


@dataclass(frozen=True)
class Grant:
    """A refresh token and the client that it was given to."""

    client_id: str
    refresh_token: str = field(repr=False)


@dataclass(frozen=True)
class Tokens:
    """What an issuer gave.  ``ends_at`` is that of the login, where the issuer says."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    ends_at: float | None


class TokenEndpoint:
    """The token endpoint of ``issuer``.  Safe for use by many threads.

    ``scopes`` are those that will be wanted of logins: they cannot grow later.
    """

    def __init__(
        self,
        issuer: Issuer,
        now: Callable[[], float],
        exchange: Exchange = endpoints.exchange,
        ask: Ask = endpoints.ask,
        *,
        scopes: Iterable[str] = (),
    ) -> None:
        self.issuer = issuer
        self.scope = " ".join([OFFLINE, *sorted(set(scopes) - {OFFLINE})])
        self._now = now
        self._exchange = exchange
        self._ask = ask
        self._found: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def refresh(self, grant: Grant, audience: str, scope: str) -> Tokens:
        """Tokens for ``grant``.  Raises :class:`GrantEnded`, :class:`GrantRefused` or
        :class:`IssuerAway`."""
        form = {
            "grant_type": "refresh_token",
            "refresh_token": grant.refresh_token,
            "audience": audience,
            **({"scope": scope} if scope else {}),
        }
        return self._tokens(grant.client_id, form)

    def exchange(self, bearer: str) -> tuple[Grant, Tokens]:
        """A login of this server's own for the person whose access token ``bearer`` is."""
        client_id = self.issuer.delegation_client_id or ""
        form = {
            "grant_type": EXCHANGE_GRANT,
            "subject_token": bearer,
            "subject_token_type": ACCESS_TOKEN,
            "audience": self.issuer.audiences[0],
            "scope": self.scope,
        }
        found = self._tokens(client_id, form)
        if found.refresh_token is None:
            raise GrantRefused("it gave no refresh token in exchange")
        return Grant(client_id, found.refresh_token), found

    def revoke(self, grant: Grant) -> None:
        """Ask the issuer to forget the login; :class:`IssuerAway` where it cannot be asked."""
        url = self._url("revocation_endpoint")
        form = {"token": grant.refresh_token, "token_type_hint": "refresh_token"}
        self._send(url, grant.client_id, form)

    def _tokens(self, client_id: str, form: Mapping[str, str]) -> Tokens:
        status, body = self._send(self._url("token_endpoint"), client_id, form)
        found = _object(body)
        if status != 200:
            raise _error(status, found)
        access, bearer = found.get("access_token"), str(found.get("token_type", "")).lower()
        if not is_token(access) or bearer != "bearer":
            raise IssuerAway("its answer holds no bearer token")
        refresh = found.get("refresh_token")
        lifetime = next((s for name in _LIFETIMES if (s := _seconds(found.get(name)))), None)
        ends_at = None if lifetime is None else self._now() + lifetime
        return Tokens(str(access), str(refresh) if is_token(refresh) else None, ends_at)

    def _send(self, url: str, client_id: str, form: Mapping[str, str]) -> tuple[int, bytes]:
        if client_id != self.issuer.delegation_client_id:
            return self._exchange(url, None, {**form, "client_id": client_id})
        return self._exchange(
            url, client_authorization(client_id, self.issuer.delegation_secret_file), form
        )

    def _url(self, name: str) -> str:
        with self._lock:
            url, at = self._found.get(name, ("", -math.inf))
            if self._now() - at > REFRESH_SECONDS:
                url = discovered(self.issuer, self._ask, name)
                self._found[name] = url, self._now()
            return url


def _error(status: int, found: Mapping[str, Any]) -> Exception:
    code = found.get("error")
    known = isinstance(code, str) and code.isascii() and code.isidentifier() and len(code) < 60
    shown = str(code) if known else f"status {status}"
    if code == "invalid_grant":
        return GrantEnded(f"the issuer answered {shown}")
    if 400 <= status < 500 and status != 429:
        return GrantRefused(f"the issuer answered {shown}")
    return IssuerAway(f"its token endpoint answered {status}")


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def is_token(value: object) -> bool:
    """Whether ``value`` may be a token: one word of printable ASCII that is not too long."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= _MAXIMUM_TOKEN
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


def _seconds(value: object) -> float | None:
    """A lifetime; None where it is none, or one without an end (some issuers say 0)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < _LONGEST_SECONDS else None
