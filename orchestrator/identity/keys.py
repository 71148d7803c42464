"""The public keys of issuers: fetched when needed, kept when the issuer is away.

A key is pinned to one algorithm when it is read from the key set; what a token's header claims
never chooses it.  Keys that are too short, meant for encryption, symmetric or ambiguous (two of
one id) are left out, as if the issuer had not published them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import jwt

from orchestrator.identity.endpoints import Ask, IssuerAway, ask, discovered, json_at, safe
from orchestrator.settings import Issuer

# From the WLCG token profile, as is that they stay valid for 1 to 4 days without the issuer.
REFRESH_SECONDS = 6 * 3600.0
DAY_SECONDS = 86400.0
# Between two fetches that were provoked by an unknown key id or followed a failure.
PAUSE_SECONDS = 60.0
MAXIMUM_KEYS = 100
_MINIMUM_RSA_BITS = 2048
# (kty, crv) to the one algorithm a key of that kind is used with.
_ALGORITHMS = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}


@dataclass(frozen=True)
class PinnedKey:
    """A public key and the only algorithm it verifies."""

    kid: str
    algorithm: str
    key: jwt.PyJWK = field(repr=False)


class KeySource(Protocol):
    """Where the validator gets an issuer's keys from."""

    def find(self, kid: str) -> PinnedKey | None:
        """The key of that id, None if the issuer has none; or :class:`IssuerAway`."""
        ...


def read_key_set(document: object, algorithms: Iterable[str]) -> dict[str, PinnedKey]:
    """The keys of a JWKS document that may be used with one of ``algorithms``, by key id.

    Raises :class:`IssuerAway` when it is no key set at all.
    """
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > MAXIMUM_KEYS:
        raise IssuerAway(f"the key set is not a list of at most {MAXIMUM_KEYS} keys")
    allowed = frozenset(algorithms)
    jwks = [entry for entry in entries if isinstance(entry, dict)]
    uses = Counter(entry["kid"] for entry in jwks if isinstance(entry.get("kid"), str))
    pinned = (_pin(entry, allowed) for entry in jwks)
    return {key.kid: key for key in pinned if key is not None and uses[key.kid] == 1}


def _pin(entry: Mapping[str, Any], allowed: frozenset[str]) -> PinnedKey | None:
    kid, kind = entry.get("kid"), (entry.get("kty"), entry.get("crv"))
    if not isinstance(kid, str) or not all(isinstance(part, str | None) for part in kind):
        return None
    algorithm = _ALGORITHMS.get(kind)  # type: ignore[arg-type]
    operations = entry.get("key_ops", ["verify"])
    if (
        algorithm not in allowed
        or entry.get("alg", algorithm) != algorithm
        or entry.get("use", "sig") != "sig"
        or not isinstance(operations, list)
        or "verify" not in operations
    ):
        return None
    public = {name: entry[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in entry}
    try:
        key = jwt.PyJWK(public, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if algorithm == "RS256" and key.key.key_size < _MINIMUM_RSA_BITS:
        return None
    return PinnedKey(kid, algorithm, key)


@dataclass(frozen=True)
class LocalKeys:
    """Keys that are in this process: those of the built-in issuer."""

    keys: Mapping[str, PinnedKey]

    @classmethod
    def of(cls, document: object, algorithms: Iterable[str]) -> LocalKeys:
        return cls(read_key_set(document, algorithms))

    def find(self, kid: str) -> PinnedKey | None:
        return self.keys.get(kid)


class RemoteKeys:
    """The keys of an issuer elsewhere.  Safe for use by many threads.

    One fetch at a time.  While it goes on, who asks for a key that is known is served at once;
    only who needs the fetch waits for it.  Without the issuer the known keys serve for
    the days that the issuer's section says.
    """

    def __init__(self, issuer: Issuer, now: Callable[[], float], ask: Ask = ask) -> None:
        self._issuer = issuer
        self._now = now
        self._stale = issuer.stale_days * DAY_SECONDS
        self._ask = ask
        self._keys: Mapping[str, PinnedKey] = {}
        self._fetched_at: float | None = None
        self._failed_at: float | None = None
        self._failure = ""
        self._provoked_at: float | None = None
        self._flight = threading.Lock()

    def find(self, kid: str) -> PinnedKey | None:
        """See :class:`KeySource`."""
        if not self._age_below(REFRESH_SECONDS):
            self._refresh(wait=not self._age_below(self._stale))
        if not self._age_below(self._stale):
            raise IssuerAway(self._failure or "its keys have not been fetched yet")
        found = self._keys.get(kid)
        if found is None and self._may_be_provoked():
            self._refresh(wait=True, provoked=True)
            found = self._keys.get(kid)
        if found is None and self._failed_at is not None:
            # The issuer may have a new key that it cannot tell us of: nothing is known.
            raise IssuerAway(self._failure)
        return found

    def _age_below(self, seconds: float) -> bool:
        return self._fetched_at is not None and self._now() - self._fetched_at < seconds

    def _paused_since(self, moment: float | None) -> bool:
        return moment is not None and self._now() - moment < PAUSE_SECONDS

    def _may_be_provoked(self) -> bool:
        return not self._paused_since(self._provoked_at)

    def _refresh(self, wait: bool, provoked: bool = False) -> None:
        """Fetch, unless another thread just did or a failure is too recent to try again."""
        seen = self._fetched_at
        if not self._flight.acquire(blocking=wait):
            return
        try:
            if self._fetched_at != seen or self._paused_since(self._failed_at):
                return
            if provoked:
                if not self._may_be_provoked():
                    return
                self._provoked_at = self._now()
            self._fetch_once()
        finally:
            self._flight.release()

    def _fetch_once(self) -> None:
        try:
            document = json_at(self._ask, self._key_set_url())
            self._keys = read_key_set(document, self._issuer.algorithms)
        except IssuerAway as error:
            self._failed_at, self._failure = self._now(), str(error)
        else:
            self._fetched_at, self._failed_at = self._now(), None

    def _key_set_url(self) -> str:
        if self._issuer.jwks_uri is not None:
            return safe(self._issuer.jwks_uri, "jwks_uri")
        return discovered(self._issuer, self._ask, "jwks_uri")
