"""People who are signed in with a browser, as rows: by the hash of their cookie."""

from __future__ import annotations

from sqlalchemy import Connection, Row, and_, delete, insert, select, update

from orchestrator.model import Principal, WebSession
from orchestrator.store.database import Database
from orchestrator.store.schema import sessions


class SessionRows:
    """The table of sessions.  Every method is one transaction, and may raise
    :class:`~orchestrator.errors.StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, session: WebSession, most: int) -> None:
        """Store a session; of its person's the ``most`` that were used last are kept."""
        row = {
            "digest": session.digest,
            "issuer": session.principal.issuer,
            "subject": session.principal.subject,
            "groups": session.groups,
            "scopes": session.scopes,
            "client_id": session.client_id,
            "created_at": session.created_at,
            "used_at": session.used_at,
            "ends_at": session.ends_at,
        }
        theirs = and_(
            sessions.c.issuer == session.principal.issuer,
            sessions.c.subject == session.principal.subject,
        )
        newest_first = (sessions.c.used_at.desc(), sessions.c.created_at.desc())
        with self._database.write() as connection:
            prune(connection, session.created_at)
            connection.execute(insert(sessions).values(row))
            kept = select(sessions.c.digest).where(theirs).order_by(*newest_first).limit(most)
            found = connection.execute(kept).scalars().all()
            connection.execute(delete(sessions).where(theirs, sessions.c.digest.not_in(found)))

    def get(self, digest: str) -> WebSession | None:
        """The session, whether or not it has ended."""
        with self._database.read() as connection:
            row = connection.execute(select(sessions).where(sessions.c.digest == digest)).first()
        return _session(row) if row else None

    def used(self, digest: str, now: float) -> None:
        with self._database.write() as connection:
            connection.execute(
                update(sessions).where(sessions.c.digest == digest).values(used_at=now)
            )

    def delete(self, digest: str) -> bool:
        """Forget a session; whether there was one."""
        with self._database.write() as connection:
            gone = connection.execute(delete(sessions).where(sessions.c.digest == digest))
            return gone.rowcount == 1


def prune(connection: Connection, now: float) -> None:
    """Forget sessions that have ended."""
    connection.execute(delete(sessions).where(sessions.c.ends_at <= now))


def _session(row: Row[tuple[object, ...]]) -> WebSession:
    return WebSession(
        row.digest,
        Principal(row.issuer, row.subject),
        row.groups,
        row.scopes,
        row.client_id,
        row.created_at,
        row.used_at,
        row.ends_at,
    )
