"""Refresh tokens of the development issuer: kept as hashes, rotated, and never used twice.

Each use gives another token of the same *family*, which ends when the first of it would have.  The
one before stays good until the new one is shown, so that a client that dies between our answer and
its own disk just asks again.  Whoever shows one that was left behind for good may have stolen it:
that ends the whole family (RFC 9700, 4.14.2).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from authlib.oauth2.rfc6749 import grants
from authlib.oauth2.rfc7009 import RevocationEndpoint

from orchestrator.errors import UserError
from orchestrator.identity.files import read_private, write_private

REFRESH_SECONDS = 30 * 86400
_MAXIMUM_REFRESH_TOKENS = 1000
_SPENT_PER_FAMILY = 3  # so many of those left behind are known again
_EVERY_METHOD = ["client_secret_basic", "client_secret_post", "none"]

Clock = Callable[[], float]


@dataclass(frozen=True)
class RefreshToken:
    """What a refresh token stands for; the token itself is not kept.

    ``before`` is the digest of the one it was given for; ``spent`` is one that was left behind.
    """

    digest: str = field(repr=False)
    client_id: str
    subject: str
    scope: str
    expires_at: float
    family: str = field(default="", repr=False)
    before: str = field(default="", repr=False)
    spent: bool = False

    def check_client(self, client: Any) -> bool:
        return bool(client.client_id == self.client_id)

    def get_scope(self) -> str:
        return self.scope


class RefreshTokens:
    """The refresh tokens in force, in a private file."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: dict[str, RefreshToken] = {}
        if path.exists():
            self._tokens = {entry.digest: entry for entry in _read(path)}

    def add(self, token: str, client_id: str, subject: str, scope: str) -> RefreshToken:
        """The first of a new family."""
        digest = _digest(token)
        expires_at = self._clock() + REFRESH_SECONDS
        entry = RefreshToken(digest, client_id, subject, scope, expires_at, digest)
        with self._lock:
            self._keep([*self._tokens.values(), entry])
        return entry

    def rotate(self, old: RefreshToken, token: str) -> RefreshToken:
        """``token`` follows ``old``, whose use shows that the one before it is not needed."""
        entry = replace(old, digest=_digest(token), before=old.digest)
        with self._lock:
            kept = []
            for one in self._tokens.values():
                if one.before == old.digest:
                    continue  # its answer never arrived
                kept.append(replace(one, spent=True) if one.digest == old.before else one)
            spent = [one for one in kept if one.spent and one.family == old.family]
            forgotten = {one.digest for one in spent[:-_SPENT_PER_FAMILY]}
            self._keep([*(one for one in kept if one.digest not in forgotten), entry])
        return entry

    def find(self, token: str) -> RefreshToken | None:
        found = self._tokens.get(_digest(token))
        if found is None or found.expires_at <= self._clock():
            return None
        if found.spent:
            self.revoke(found)
            return None
        return found

    def revoke(self, entry: RefreshToken) -> None:
        """End the family of ``entry``."""
        with self._lock:
            self._keep(one for one in self._tokens.values() if one.family != entry.family)

    def seconds_left(self, entry: RefreshToken) -> int:
        return max(0, int(entry.expires_at - self._clock()))

    def _keep(self, entries: Iterable[RefreshToken]) -> None:
        live = [entry for entry in entries if entry.expires_at > self._clock()]
        live = live[-_MAXIMUM_REFRESH_TOKENS:]
        write_private(self._path, json.dumps([asdict(entry) for entry in live]))
        self._tokens = {entry.digest: entry for entry in live}


def remember(tokens: RefreshTokens, answer: dict[str, Any], request: Any) -> None:
    """Keep the refresh token of ``answer``, if it has one, and say in it how long that lasts."""
    if "refresh_token" not in answer:
        return
    old = getattr(request, "refresh_token", None)
    if isinstance(old, RefreshToken):
        entry = tokens.rotate(old, answer["refresh_token"])
    else:
        scope = answer.get("scope", "")
        client_id, subject = request.client.client_id, request.user.name
        entry = tokens.add(answer["refresh_token"], client_id, subject, scope)
    answer["refresh_token_expires_in"] = tokens.seconds_left(entry)


def refresh_grant(tokens: RefreshTokens, user_of: Callable[[str], Any]) -> type[Any]:
    """Authlib's grant, bound to where the tokens are."""

    class RefreshGrant(grants.RefreshTokenGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = _EVERY_METHOD
        INCLUDE_NEW_REFRESH_TOKEN = True

        def authenticate_refresh_token(self, refresh_token: str) -> RefreshToken | None:
            return tokens.find(refresh_token)

        def authenticate_user(self, refresh_token: RefreshToken) -> Any:
            return user_of(refresh_token.subject)

        def revoke_old_credential(self, refresh_token: RefreshToken) -> None:
            """It goes when the next is used; see :meth:`RefreshTokens.rotate`."""

    return RefreshGrant


def revocation(tokens: RefreshTokens) -> type[Any]:
    """Authlib's endpoint, bound to where the tokens are."""

    class Revocation(RevocationEndpoint):  # type: ignore[misc]
        CLIENT_AUTH_METHODS = _EVERY_METHOD

        def query_token(self, token: str, hint: str | None) -> RefreshToken | None:
            return tokens.find(token)

        def revoke_token(self, token: RefreshToken, request: Any) -> None:
            tokens.revoke(token)

    return Revocation


def _read(path: Path) -> list[RefreshToken]:
    try:
        entries = json.loads(read_private(path))
        if isinstance(entries, list):
            found = [RefreshToken(**entry) for entry in entries]
            return [replace(one, family=one.family or one.digest) for one in found]
    except (ValueError, TypeError):
        pass
    raise UserError(
        f"The file of refresh tokens {path} cannot be read.",
        attempt="remove it: all who are logged in log in again when their hour is over",
        code="secret-file",
    )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
