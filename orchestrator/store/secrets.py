"""Sealed secrets as rows: nothing here can open one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    delete,
    exists,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)

from orchestrator.model import Sealed, SecretEntry, SecretPlace
from orchestrator.store.database import Database
from orchestrator.store.schema import counters, deployments, secrets


@dataclass(frozen=True)
class SealedRow:
    """One row, for a rotation: what it is and where."""

    place: SecretPlace
    sealed: Sealed


class SecretRows:
    """The table of secrets.  Every method is one transaction, and may raise
    :class:`~orchestrator.errors.StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, entry: SecretEntry, seal: Callable[[], Sealed]) -> None:
        """Store or replace a secret.  ``seal`` is called when it is this writer's turn: no key is
        dropped meanwhile (see :meth:`finish`)."""
        with self._database.write() as connection:
            _turn(connection)
            sealed = seal()
            connection.execute(delete(secrets).where(_at(entry.place)))
            connection.execute(
                insert(secrets).values(
                    issuer=entry.place.issuer,
                    subject=entry.place.subject,
                    user_group=entry.place.group,
                    deployment=entry.place.deployment,
                    name=entry.place.name,
                    kind=entry.kind,
                    fingerprint=entry.fingerprint,
                    created_at=entry.created_at,
                    key=sealed.key,
                    wrapped=sealed.wrapped,
                    content=sealed.content,
                )
            )

    def get(self, place: SecretPlace) -> Sealed | None:
        query = select(secrets.c.key, secrets.c.wrapped, secrets.c.content).where(_at(place))
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return Sealed(row.key, row.wrapped, row.content) if row else None

    def used(self, place: SecretPlace, now: float) -> None:
        with self._database.write() as connection:
            connection.execute(update(secrets).where(_at(place)).values(used_at=now))

    def delete(self, place: SecretPlace) -> bool:
        """Forget a secret; whether there was one."""
        with self._database.write() as connection:
            return connection.execute(delete(secrets).where(_at(place))).rowcount == 1

    def entries(
        self, issuer: str, subject: str, groups: Collection[str] = ()
    ) -> tuple[SecretEntry, ...]:
        """What of a person and of ``groups`` outlives deployments, by name."""
        own = and_(secrets.c.subject == subject, secrets.c.user_group == "")
        shared = and_(secrets.c.subject == "", secrets.c.user_group.in_(sorted(groups)))
        query = (
            select(secrets)
            .where(secrets.c.issuer == issuer, secrets.c.deployment == "", or_(own, shared))
            .order_by(secrets.c.name, secrets.c.user_group)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return tuple(
            SecretEntry(
                SecretPlace(row.issuer, row.name, row.subject, row.user_group, row.deployment),
                row.kind,
                row.fingerprint,
                row.created_at,
                row.used_at,
            )
            for row in rows
        )

    # --- rotation -------------------------------------------------------------------------------

    def everything(self) -> Sequence[SealedRow]:
        """All secrets, as they are sealed."""
        return self._sealed(select(secrets))

    def left_behind(self, before: float) -> Sequence[SealedRow]:
        """The secrets of deployments that are no more, or never came to be, from before ``before``:
        a secret is sealed before its deployment is stored."""
        there = exists().where(deployments.c.id == secrets.c.deployment)
        mine = and_(secrets.c.deployment != "", secrets.c.created_at < before)
        return self._sealed(select(secrets).where(mine, not_(there)))

    def count(self, key: str, other: bool = False) -> int:
        """How many secrets are sealed with the master key named ``key``, or with any ``other``."""
        wanted = secrets.c.key != key if other else secrets.c.key == key
        query = select(func.count()).select_from(secrets).where(wanted)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def sealed_otherwise(self, keys: Collection[str], limit: int) -> Sequence[SealedRow]:
        """Some of the secrets whose master key is none of ``keys``."""
        return self._sealed(select(secrets).where(secrets.c.key.not_in(sorted(keys))).limit(limit))

    def _sealed(self, query: Select[Any]) -> Sequence[SealedRow]:
        with self._database.read() as connection:
            return [
                SealedRow(
                    SecretPlace(row.issuer, row.name, row.subject, row.user_group, row.deployment),
                    Sealed(row.key, row.wrapped, row.content),
                )
                for row in connection.execute(query)
            ]

    def replace(self, row: SealedRow, by: Sealed) -> None:
        """Put ``by`` where ``row`` is, if that is still as it was."""
        with self._database.write() as connection:
            _replace(connection, row, by)

    def switch(self, row: SealedRow, seal: Callable[[], Sealed]) -> bool:
        """As :meth:`replace`, with what ``seal`` gives when it is this writer's turn (see
        :meth:`put`); whether it was still as it was."""
        with self._database.write() as connection:
            _turn(connection)
            return _replace(connection, row, seal())

    def turn(self, act: Callable[[], None]) -> None:
        """Do something while no secret is written."""
        with self._database.write() as connection:
            _turn(connection)
            act()

    def finish(self, keys: Collection[str], drop: Callable[[], None]) -> bool:
        """Call ``drop`` if no secret needs another key than ``keys``; whether it was called."""
        with self._database.write() as connection:
            _turn(connection)
            query = select(func.count()).where(secrets.c.key.not_in(sorted(keys)))
            if connection.execute(query.select_from(secrets)).scalar_one():
                return False
            drop()
            return True


def _replace(connection: Connection, row: SealedRow, by: Sealed) -> bool:
    same = and_(secrets.c.key == row.sealed.key, secrets.c.wrapped == row.sealed.wrapped)
    changed = connection.execute(
        update(secrets)
        .where(_at(row.place), same)
        .values(key=by.key, wrapped=by.wrapped, content=by.content)
    )
    return changed.rowcount == 1


def _turn(connection: Connection) -> None:
    # SQLite has one writer in any case; elsewhere this row is the turnstile.
    query = select(counters.c.value).where(counters.c.name == "probe")
    connection.execute(query.with_for_update()).one()


def _at(place: SecretPlace) -> ColumnElement[bool]:
    return and_(
        secrets.c.issuer == place.issuer,
        secrets.c.subject == place.subject,
        secrets.c.user_group == place.group,
        secrets.c.deployment == place.deployment,
        secrets.c.name == place.name,
    )
