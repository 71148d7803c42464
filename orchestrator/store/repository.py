"""The truth: what is wished, what was decided, what happened.

Every method is one transaction: it happens whole or not at all.  All of them may raise
:class:`~orchestrator.errors.StoreUnavailable`.  Threads may share a repository.
"""

from __future__ import annotations

from sqlalchemy import update

from orchestrator.audits import Verification
from orchestrator.store import deployments, journal, sessions, work
from orchestrator.store.database import open_database
from orchestrator.store.deployments import Page
from orchestrator.store.drains import DrainRows
from orchestrator.store.enrolments import Enrolled, PullRun
from orchestrator.store.leases import Lease
from orchestrator.store.logins import LoginRows
from orchestrator.store.outbox import Call
from orchestrator.store.parts.enrolling import Enrolling
from orchestrator.store.parts.passes import Passes
from orchestrator.store.parts.telling import Telling
from orchestrator.store.parts.wishes import Wishes
from orchestrator.store.schema import counters
from orchestrator.store.secrets import SecretRows
from orchestrator.store.sessions import SessionRows

__all__ = ["Call", "Enrolled", "Lease", "Page", "PullRun", "Repository", "Verification"]


class Repository(Wishes, Passes, Enrolling, Telling):
    """Deployments, nodes, intents and events in one database."""

    @classmethod
    def open(cls, url: str) -> Repository:
        """Open the database of a SQLAlchemy URL; it is created or migrated where needed.

        ``sqlite://`` is one in memory.  Raises :class:`~orchestrator.errors.UserError` with what
        to do when it cannot be opened.
        """
        return cls(open_database(url))

    @property
    def secrets(self) -> SecretRows:
        """The sealed secrets; :mod:`orchestrator.identity.secrets` opens them."""
        return SecretRows(self._database)

    @property
    def sessions(self) -> SessionRows:
        """People who are signed in with a browser."""
        return SessionRows(self._database)

    @property
    def drains(self) -> DrainRows:
        """Nodes that somebody asked to leave."""
        return DrainRows(self._database)

    @property
    def logins(self) -> LoginRows:
        """The logins that are kept of people; :mod:`orchestrator.identity.delegation` uses them."""
        return LoginRows(self._database)

    def close(self) -> None:
        self._database.close()

    def ready(self) -> None:
        """Write a little; :class:`~orchestrator.errors.StoreUnavailable` when that fails."""
        with self._database.write() as connection:
            connection.execute(
                update(counters)
                .where(counters.c.name == "probe")
                .values(value=counters.c.value + 1)
            )

    def prune(self, now: float, keep_seconds: float) -> None:
        """Forget what is older than ``keep_seconds`` and that nothing living needs.

        Gone are: deployments deleted before that; nodes GONE before that; intents decided before
        that, unless they created or configured a node that is there; events from before that,
        unless they are audits, of a node that is there, or changes of a deployment that is there.
        Secrets are more than rows: :meth:`orchestrator.identity.secrets.SecretStore.prune`.
        """
        before = now - keep_seconds
        with self._database.write() as connection:
            deployments.prune(connection, before)
            work.prune(connection, before)
            sessions.prune(connection, now)
            journal.prune(connection, before)
