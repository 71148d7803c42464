"""What the operations of a type say of the type itself: `get_property: [SELF, …]` must lead on.

A type that drifted away from its own operations fails in the middle of a deployment; here it
fails where it stands.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import Library
from orchestrator.tosca.problems import did_you_mean, shown
from orchestrator.tosca.read import Listing, Scalar, Table

_FUNCTIONS = ("get_property", "get_attribute")


def check_self_references(node_type: str, interfaces: Cursor, library: Library) -> None:
    """Reports what operations of ``node_type`` ask of SELF and it does not have."""
    if not any(_references(interfaces)):
        return
    known = {
        **library.properties("node_types", node_type),
        **library.attributes(node_type),
        **library.requirements(node_type),
        **library.capabilities(node_type),
        "tosca_name": None,
        "tosca_id": None,
        "state": None,
    }
    for function, words in _references(interfaces):
        name = words[1].value
        if isinstance(name, str) and name not in known:
            what = function.removeprefix("get_")
            hint = did_you_mean(name, known)
            words[1].problem(f"{shown(node_type)} has no {what} {shown(name)}.", hint)


def _references(cursor: Cursor) -> Iterator[tuple[str, list[Cursor]]]:
    """Every call of a function over SELF below ``cursor``: its name and its words."""
    if isinstance(cursor.tree, Table):
        for name, inner in cursor.table().items():
            words = list(inner.items()) if _is_of_self(name, inner) else []
            if len(words) > 1:
                yield name, words
            else:
                yield from _references(inner)
    elif isinstance(cursor.tree, Listing):
        for item in cursor.items():
            yield from _references(item)


def _is_of_self(name: str, argument: Cursor) -> bool:
    if name not in _FUNCTIONS or not isinstance(argument.tree, Listing):
        return False
    first = next(iter(argument.tree.items), None)
    return isinstance(first, Scalar) and first.value == "SELF"
