"""The chain of audits: what shows that one was removed, changed, added or moved afterwards.  Pure.

The hash of each audit is SHA-256 over the hash before it, a line feed, and the audit itself as
canonical JSON, its place in the order of events included.  Who can write the database can also
write a new chain: it shows a change to whoever has noted one of its hashes earlier.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

BEGINNING = "0" * 64


@dataclass(frozen=True)
class Link:
    """One place of the chain: an audit as the text that is hashed, and its hash.  Either is None
    where it is not there any more."""

    sequence: int
    record: str | None
    hash: str | None


@dataclass(frozen=True)
class Verification:
    """What looking through the chain found.

    ``lines`` is how many audits are as they were written and ``head`` the hash of the last of
    them; ``broken_at`` is the sequence of the first that is not, ``problem`` what is the matter
    with it as a sentence; None and empty where the chain is whole.
    """

    lines: int
    head: str
    broken_at: int | None = None
    problem: str = ""

    @property
    def whole(self) -> bool:
        return not self.problem


def record_of(audit: Mapping[str, Any]) -> str:
    """The text of an audit that is hashed: its fields as canonical JSON."""
    return json.dumps(audit, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(before: str, record: str) -> str:
    """SHA-256, in hexadecimal, of one audit and the hash before it."""
    return hashlib.sha256(f"{before}\n{record}".encode()).hexdigest()


class Verifier:
    """Follows a chain link by link, in the order of their sequences.

    ``known`` is a hash that was noted earlier: it has to be in the chain, else what was there then
    has been replaced.
    """

    def __init__(self, known: str = "") -> None:
        self._known = known
        self._found = Verification(0, BEGINNING)
        self._seen = not known

    def follow(self, links: Iterable[Link]) -> bool:
        """Take more of the chain; False where it is broken: more of it says nothing."""
        for link in links:
            lines, head = self._found.lines, self._found.head
            problem = _problem(link, head)
            if problem or link.hash is None:
                self._found = Verification(lines, head, link.sequence, problem)
                return False
            self._found = Verification(lines + 1, link.hash)
            self._seen = self._seen or link.hash == self._known
        return True

    def end(self, written: int) -> Verification:
        """What was found; ``written`` is how many audits there ever were."""
        lines, head = self._found.lines, self._found.head
        if not self._found.whole:
            return self._found
        if lines != written:
            problem = f"There are {lines} audits, and {written} were written: the last are missing."
            return Verification(lines, head, None, problem)
        if not self._seen:
            return Verification(lines, head, None, "The hash that was noted is not in the chain.")
        return self._found


def _problem(link: Link, head: str) -> str:
    if link.record is None:
        return "An audit was removed."
    if link.hash is None:
        return "An audit was added that the server did not write."
    if digest(head, link.record) != link.hash:
        return "An audit, or its hash, was changed, or one before it removed with its hash."
    return ""
