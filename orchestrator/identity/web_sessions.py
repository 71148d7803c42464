"""Who is signed in with a browser: what a session cookie is worth.

The cookie holds a random name and nothing else; the store knows its hash.  A session ends when
nobody used it for half an hour, when its person signs out, and in any case with the token it began
with, which is not kept.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.errors import UserError
from orchestrator.identity.claims import Caller
from orchestrator.model import WebSession

IDLE_SECONDS = 1800.0
MAXIMUM_SESSIONS = 20  # of one person; the one that was used least recently gives way
_NOTE_SECONDS = 60.0  # how often a use is written down
_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


class SessionEnded(UserError):
    """401: the browser shows a session that there is not, or no longer."""

    def __init__(self, why: str = "It was signed out, or not used for too long.") -> None:
        super().__init__(
            "Your session has ended.", why, "sign in again: /account", "session-ended", 401
        )


class SessionStore(Protocol):
    """Where sessions are kept (:class:`orchestrator.store.sessions.SessionRows`)."""

    def add(self, session: WebSession, most: int) -> None: ...

    def get(self, digest: str) -> WebSession | None: ...

    def used(self, digest: str, now: float) -> None: ...

    def delete(self, digest: str) -> bool: ...


@dataclass(frozen=True)
class Session:
    """A session in force.  ``caller`` is who signed in; it ends at ``ends_at`` even if it is used.
    ``csrf`` is what the session's own pages show when they change something."""

    caller: Caller
    ends_at: float
    csrf: str = field(repr=False)


class Sessions:
    """Begins, finds and ends sessions of people of the issuers in ``trusted``, by their ``iss``.
    May be used from any thread."""

    def __init__(
        self, store: SessionStore, trusted: Collection[str], now: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._trusted = frozenset(trusted)
        self._now = now

    def begin(self, caller: Caller) -> str:
        """A new session of ``caller``; what its cookie is to hold."""
        cookie = secrets.token_urlsafe(32)
        now = self._now()
        session = WebSession(
            _digest(cookie),
            caller.principal,
            tuple(sorted(caller.groups)),
            tuple(sorted(caller.scopes)),
            caller.client_id,
            created_at=now,
            used_at=now,
            ends_at=caller.expires_at,
        )
        self._store.add(session, MAXIMUM_SESSIONS)
        return cookie

    def find(self, cookie: str, use: bool = True) -> Session | None:
        """The session of that cookie, if it is in force; ``use`` puts off its end by idleness."""
        if not _COOKIE.fullmatch(cookie):
            return None
        found = self._store.get(_digest(cookie))
        if found is None:
            return None
        now = self._now()
        if now >= found.ends_at or now - found.used_at > IDLE_SECONDS:
            self._store.delete(found.digest)
            return None
        if found.principal.issuer not in self._trusted:
            return None
        if use and now - found.used_at > _NOTE_SECONDS:
            self._store.used(found.digest, now)
        caller = Caller(
            found.principal,
            frozenset(found.groups),
            frozenset(found.scopes),
            found.ends_at,
            None,
            found.client_id,
        )
        return Session(caller, found.ends_at, csrf_of(cookie))

    def end(self, cookie: str) -> None:
        """Sign out."""
        self._store.delete(_digest(cookie))


def csrf_of(cookie: str) -> str:
    """What only the pages of this session can know; the cookie does not follow from it."""
    mark = hmac.new(cookie.encode(), b"vacuo csrf", hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mark).rstrip(b"=").decode()


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
