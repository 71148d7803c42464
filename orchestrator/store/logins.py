"""Logins that are kept of people: what is known of each, and whose turn it is to renew it.

Nothing here has a refresh token.  One server at a time renews a login: an issuer that rotates
refresh tokens takes the use of an old one for theft.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from orchestrator.model import KeptLogin, LoginState, Principal
from orchestrator.store.database import Database
from orchestrator.store.schema import logins


class LoginRows:
    """The table of logins.  Every method is one transaction, and may raise
    :class:`~orchestrator.errors.StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, person: Principal) -> KeptLogin | None:
        with self._database.read() as connection:
            row = connection.execute(select(logins).where(_of(person))).one_or_none()
        if row is None or row.state == LoginState.NONE:
            return None
        return KeptLogin(
            person, LoginState(row.state), row.since, row.renewed_at, row.ends_at, row.why
        )

    def begin(self, person: Principal, now: float, until: float) -> int | None:
        """The turn to change the login, until ``until``; None while another has it."""
        try:
            return self._begin(person, now, until)
        except IntegrityError:  # where there are many writers another was the first
            return None

    def _begin(self, person: Principal, now: float, until: float) -> int | None:
        with self._database.write() as connection:
            row = connection.execute(
                select(logins.c.turn, logins.c.held_until).where(_of(person)).with_for_update()
            ).one_or_none()
            if row is None:
                connection.execute(
                    insert(logins).values(
                        issuer=person.issuer,
                        subject=person.subject,
                        state=LoginState.NONE.value,
                        why="",
                        since=now,
                        renewed_at=now,
                        turn=1,
                        held_until=until,
                    )
                )
                return 1
            if row.held_until > now:
                return None
            turn: int = row.turn + 1
            connection.execute(
                update(logins).where(_of(person)).values(turn=turn, held_until=until)
            )
            return turn

    def settle(self, login: KeptLogin, turn: int) -> bool:
        """Write what became of it, and let go of the turn; False if it was lost meanwhile."""
        with self._database.write() as connection:
            changed = connection.execute(
                update(logins)
                .where(_of(login.person), logins.c.turn == turn)
                .values(
                    state=login.state.value,
                    why=login.why,
                    since=login.since,
                    renewed_at=login.renewed_at,
                    ends_at=login.ends_at,
                    held_until=0.0,
                )
            )
            return changed.rowcount == 1

    def release(self, person: Principal, turn: int) -> None:
        """Let go of the turn; nothing was changed."""
        with self._database.write() as connection:
            connection.execute(
                update(logins).where(_of(person), logins.c.turn == turn).values(held_until=0.0)
            )

    def delete(self, person: Principal) -> bool:
        """Forget the login; whether there was one."""
        with self._database.write() as connection:
            found = connection.execute(
                select(logins.c.state).where(_of(person)).with_for_update()
            ).scalar_one_or_none()
            connection.execute(delete(logins).where(_of(person)))
            return found is not None and found != LoginState.NONE


def _of(person: Principal) -> ColumnElement[bool]:
    return and_(logins.c.issuer == person.issuer, logins.c.subject == person.subject)
