"""The hashes of audits beside the events: written with them, and read with them.

What is hashed and how a chain is followed is in :mod:`orchestrator.audits`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, union, update

from orchestrator.audits import BEGINNING, Link, Verification, Verifier, digest, record_of
from orchestrator.model import EventKind
from orchestrator.store.schema import audits, counters, events

__all__ = ["Verification", "chain", "links", "verify", "written"]

_COLUMNS = tuple(column.name for column in events.columns)


def chain(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Hash the audits among new ``rows`` of events.

    The caller keeps the counter of events, so nobody else can chain meanwhile.
    """
    new = [row for row in rows if row["kind"] == EventKind.AUDIT.value]
    if not new:
        return
    last = connection.execute(
        select(audits.c.hash).order_by(audits.c.sequence.desc()).limit(1)
    ).scalar_one_or_none()
    hash_ = last or BEGINNING
    chained = []
    for row in new:
        hash_ = digest(hash_, _record(row))
        chained.append({"sequence": row["sequence"], "hash": hash_})
    connection.execute(insert(audits), chained)
    connection.execute(
        update(counters)
        .where(counters.c.name == "audits")
        .values(value=counters.c.value + len(chained))
    )


def _record(row: Mapping[Any, Any]) -> str:
    content = {name: row[name] for name in _COLUMNS}
    if isinstance(row["at"], int):
        content["at"] = float(row["at"])  # as the database will give it back
    return record_of(content)


def verify(connection: Connection, known: str = "") -> Verification:
    """Look through the whole chain; ``known`` is a hash that was noted earlier."""
    verifier = Verifier(known)
    verifier.follow(links(connection))
    return verifier.end(written(connection))


def written(connection: Connection) -> int:
    """How many audits there ever were."""
    query = select(counters.c.value).where(counters.c.name == "audits")
    return int(connection.execute(query).scalar_one())


def links(connection: Connection, since: int = 0, limit: int | None = None) -> Iterator[Link]:
    """Every sequence above ``since`` at which there is an audit or a hash, in order."""
    of_audits = events.c.kind == EventKind.AUDIT.value
    places = union(
        select(events.c.sequence).where(of_audits, events.c.sequence > since),
        select(audits.c.sequence).where(audits.c.sequence > since),
    ).subquery()
    query = (
        select(places.c.sequence.label("place"), events, audits.c.hash)
        .select_from(
            places.outerjoin(
                events, (events.c.sequence == places.c.sequence) & of_audits
            ).outerjoin(audits, audits.c.sequence == places.c.sequence)
        )
        .order_by(places.c.sequence)
        .limit(limit)
    )
    for row in connection.execution_options(yield_per=1000).execute(query):
        values = row._mapping
        record = _record(values) if values["kind"] is not None else None
        yield Link(int(values["place"]), record, values["hash"])
