"""Pools of others: the token that their administrator gave for our nodes, by file or by Vault."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import jwt

from orchestrator.batch.base import JoinCredential
from orchestrator.errors import Terminal, Unauthorised, Unsupported
from orchestrator.settings import Pool

# A token that was replaced in the Vault is used at last after this.
KEEP_SECONDS = 60.0


class GivenToken:
    """One token for all nodes of a pool: an IDTOKEN, or a SciToken of an issuer that it knows.

    ``fetch`` asks the Vault; what it gave is kept for a minute, and never beyond its own end.
    """

    def __init__(
        self,
        pool: Pool,
        fetch: Callable[[], str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: JoinCredential | None = None
        self._until = 0.0

    def credential(self) -> JoinCredential:
        """The token, whom it names and when it ends.

        :raises Unsupported: the pool names none.
        :raises Unauthorised: it may not be read, or has ended.
        :raises Terminal: what is there is no token.
        """
        if self._fetch is None:
            return self._read(self._of_file())
        with self._lock:
            if self._kept is None or self._clock() >= self._until:
                self._kept = None
                self._kept = self._read(self._fetch())
                self._until = min(self._clock() + KEEP_SECONDS, self._kept.expires_at)
            return self._kept

    def _of_file(self) -> str:
        path = self._pool.options.get("join_token_file")
        if not path:
            raise Unsupported(
                f"Pool {self._pool.name} has neither signing_key_directory nor one of the options "
                "join_token_file, join_token_path and join_with, so no node can join it. "
                "Try: see docs/admin/pools.md."
            )
        try:
            return Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise Unauthorised(f"Pool {self._pool.name}: {path}: {why}.") from None

    def _read(self, text: str) -> JoinCredential:
        options = self._pool.options
        where = options.get("join_token_path") if self._fetch else options.get("join_token_file")
        now = self._clock()
        try:
            claims = jwt.decode(text.strip(), options={"verify_signature": False})
            expires = float(claims.get("exp", now + self._pool.join_token_seconds))
        except (jwt.PyJWTError, TypeError, ValueError):
            raise Terminal(f"Pool {self._pool.name}: {where} holds no token.") from None
        if expires <= now:
            raise Unauthorised(f"Pool {self._pool.name}: the token in {where} has expired.")
        return JoinCredential(text.strip(), str(claims.get("sub", "")), expires)
