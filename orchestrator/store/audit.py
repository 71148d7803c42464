"""The chain of audits: what shows that a line was removed, changed, added or moved afterwards.

The hash of each audit is over the hash before it and the audit itself as canonical JSON, its place
in the order of events included.  Who can write the database can also write a new chain: the chain
shows a change to whoever has noted one of its hashes earlier.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, union, update

from orchestrator.model import EventKind
from orchestrator.store.schema import audits, counters, events

BEGINNING = "0" * 64
_COLUMNS = tuple(column.name for column in events.columns)


@dataclass(frozen=True)
class Verification:
    """What looking through the chain found.

    ``lines`` is how many audits there are and ``head`` the hash of the last; ``broken_at`` is the
    sequence of the first that is not as it was written, ``problem`` what is the matter with it as a
    sentence; None and empty where the chain is whole.
    """

    lines: int
    head: str
    broken_at: int | None = None
    problem: str = ""

    @property
    def whole(self) -> bool:
        return not self.problem


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
        hash_ = digest(hash_, row)
        chained.append({"sequence": row["sequence"], "hash": hash_})
    connection.execute(insert(audits), chained)
    connection.execute(
        update(counters)
        .where(counters.c.name == "audits")
        .values(value=counters.c.value + len(chained))
    )


def digest(before: str, row: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of one audit and the hash before it."""
    content = {name: row[name] for name in _COLUMNS}
    if isinstance(row["at"], int):
        content["at"] = float(row["at"])  # as the database will give it back
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()


def verify(connection: Connection, known: str = "") -> Verification:
    """Look through the whole chain.  ``known`` is a hash that was noted earlier: it has to be in
    it, else what was there then has been replaced."""
    lines, head, seen = 0, BEGINNING, not known
    for sequence, event, hash_ in _lines(connection):
        problem = _problem(event, hash_, head)
        if problem:
            return Verification(lines, head, sequence, problem)
        lines, head = lines + 1, str(hash_)
        seen = seen or head == known
    written = connection.execute(
        select(counters.c.value).where(counters.c.name == "audits")
    ).scalar_one()
    if lines != written:
        problem = f"There are {lines} audits, and {written} were written: the last are not there."
        return Verification(lines, head, None, problem)
    if not seen:
        return Verification(lines, head, None, "The hash that was noted is not in the chain.")
    return Verification(lines, head)


def _problem(event: Mapping[str, Any] | None, hash_: str | None, head: str) -> str:
    if event is None:
        return "An audit was removed."
    if hash_ is None:
        return "An audit was added that the server did not write."
    if digest(head, event) != hash_:
        return "An audit, or its hash, was changed, or one before it removed with its hash."
    return ""


def _lines(connection: Connection) -> Iterator[tuple[int, Mapping[str, Any] | None, str | None]]:
    """Every sequence at which there is an audit or a hash, in order."""
    of_audits = events.c.kind == EventKind.AUDIT.value
    places = union(select(events.c.sequence).where(of_audits), select(audits.c.sequence)).subquery()
    query = (
        select(places.c.sequence.label("place"), events, audits.c.hash)
        .select_from(
            places.outerjoin(
                events, (events.c.sequence == places.c.sequence) & of_audits
            ).outerjoin(audits, audits.c.sequence == places.c.sequence)
        )
        .order_by(places.c.sequence)
    )
    for row in connection.execution_options(yield_per=1000).execute(query):
        values = row._mapping
        event = {name: values[name] for name in _COLUMNS} if values["kind"] is not None else None
        yield int(values["place"]), event, values["hash"]
