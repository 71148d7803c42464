"""Names of types and numbers of occurrences, where a document writes them."""

from __future__ import annotations

from typing import Any

from orchestrator.tosca.constraints import UNBOUNDED
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import Library
from orchestrator.tosca.problems import did_you_mean, shown


def check_occurrences(cursor: Cursor) -> tuple[int, int | None] | None:
    """The least and the most; None where it is no range of counts, which is reported."""
    ends: Any = cursor.value
    if isinstance(ends, list) and len(ends) == 2 and type(ends[0]) is int and ends[0] >= 0:
        if ends[1] == UNBOUNDED:
            return ends[0], None
        if type(ends[1]) is int and ends[1] >= max(ends[0], 1):
            return ends[0], ends[1]
    cursor.problem("`occurrences` must be like [0, 1] or [1, UNBOUNDED].")
    return None


def known_types(cursor: Cursor, kinds: tuple[str, ...], library: Library) -> None:
    """Reports the names in a list that are no types of one of the ``kinds``."""
    for item in cursor.items():
        name = item.text()
        if name is not None and not any(library.has(kind, name) for kind in kinds):
            known_type(item, kinds[0], library)


def known_type(cursor: Cursor, kind: str, library: Library) -> str | None:
    """The full name of the type that is named here; None where there is none, which is reported
    unless an import or a broken definition is to blame, and that has been."""
    name = cursor.text()
    if name is None:
        return None
    if library.has(kind, name):
        return library.canonical(kind, name)
    if not library.may_be(kind, name):
        what = kind.removesuffix("s").replace("_", " ")
        hint = did_you_mean(name, library.names(kind))
        if not hint and name.startswith("vacuo."):
            hint = "Import `vacuo/types.yaml`."
        cursor.problem(f"There is no {what} {shown(name)}.", hint)
    return None
