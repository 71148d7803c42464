"""What a token does not tell: its bearer's groups and scopes, asked of the issuer.

INDIGO-IAM's own profile carries neither.  An answer is kept until the token ends.  Without the
issuer a bearer keeps what was last heard of them for as long as known keys serve; of whom nothing
was ever heard nothing is known, which is not the same as having no groups.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from orchestrator.identity.claims import Caller, Refused, Told, read_told
from orchestrator.identity.endpoints import (
    Ask,
    IssuerAway,
    IssuerForbids,
    IssuerRefuses,
    ask,
    client_authorization,
    discovered,
    json_at,
)
from orchestrator.identity.keys import DAY_SECONDS, PAUSE_SECONDS, REFRESH_SECONDS
from orchestrator.settings import Issuer

REMEMBERED = 10_000  # tokens, and bearers
_USERINFO, _INTROSPECTION = "userinfo_endpoint", "introspection_endpoint"

T = TypeVar("T")


class Enricher:
    """Asks one issuer about tokens that were validated.  Safe for use by many threads."""

    def __init__(self, issuer: Issuer, now: Callable[[], float], ask: Ask = ask) -> None:
        self._issuer = issuer
        self._now = now
        self._ask = ask
        self._answers: _Latest[Told] = _Latest(now)  # by token
        self._heard: _Latest[Told] = _Latest(now)  # by bearer
        self._endpoint: tuple[str, float] | None = None
        self._failure: tuple[str, float] | None = None
        self._flight = threading.Lock()

    def complete(self, token: str, caller: Caller, told: Told) -> Told:
        """What is told of the bearer of ``token``, by itself or by the issuer.

        Raises :class:`~orchestrator.identity.claims.Refused` where the issuer disowns the token,
        :class:`IssuerAway` where nothing can be known.
        """
        if told.groups is not None or self._issuer.enrichment == "none":
            return told
        key = hashlib.sha256(token.encode()).hexdigest()
        answer = self._answers.get(key)
        if answer is None:
            with self._flight:
                answer = self._answers.get(key) or self._ask_about(key, token, caller)
        return Told(answer.groups or frozenset(), told.scopes or answer.scopes)

    def _ask_about(self, key: str, token: str, caller: Caller) -> Told:
        subject = caller.principal.subject
        found: Mapping[str, Any]
        try:
            self._not_too_often()
            found = self._asked(token)
        except IssuerForbids:
            # So does IAM where the token lacks the scope openid: its bearer chose to tell nothing.
            found = {"sub": subject}
        except IssuerRefuses as error:
            raise Refused(f"{self._issuer.name} no longer accepts it: {error}") from None
        except IssuerAway as error:
            self._failure = self._failure or (str(error), self._now())
            heard = self._heard.get(subject)
            if heard is None:
                raise
            return heard
        if found.get("sub") != subject:
            raise Refused("the issuer's answer is about another subject")
        answer = read_told(found, self._issuer)
        self._answers.put(key, answer, caller.expires_at)
        self._heard.put(subject, answer, self._now() + self._issuer.stale_days * DAY_SECONDS)
        return answer

    def _not_too_often(self) -> None:
        if self._failure and self._now() - self._failure[1] < PAUSE_SECONDS:
            raise IssuerAway(self._failure[0])
        self._failure = None

    def _asked(self, token: str) -> Mapping[str, Any]:
        if self._issuer.enrichment == "userinfo":
            found = json_at(self._ask, self._url(_USERINFO), f"Bearer {token}")
        else:
            form = {"token": token, "token_type_hint": "access_token"}
            name, secret = (
                self._issuer.introspection_client_id,
                self._issuer.introspection_secret_file,
            )
            client = client_authorization(name or "", secret)
            found = json_at(self._ask, self._url(_INTROSPECTION), client, form)
            if isinstance(found, dict) and found.get("active") is not True:
                raise Refused("the issuer says that it is not active")
        if not isinstance(found, dict):
            raise IssuerAway("its answer about a token is not a JSON object")
        return found

    def _url(self, name: str) -> str:
        if self._endpoint is None or self._now() - self._endpoint[1] > REFRESH_SECONDS:
            self._endpoint = discovered(self._issuer, self._ask, name), self._now()
        return self._endpoint[0]


class _Latest(Generic[T]):
    """The latest :data:`REMEMBERED` answers, each until its time."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._found: OrderedDict[str, tuple[T, float]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> T | None:
        with self._lock:
            value, until = self._found.get(key, (None, 0.0))
            return value if self._now() < until else None

    def put(self, key: str, value: T, until: float) -> None:
        with self._lock:
            self._found[key] = value, until
            self._found.move_to_end(key)
            while len(self._found) > REMEMBERED:
                self._found.popitem(last=False)
