"""Values against their definitions: types, units, constraints.

What comes out is plain data with late values in it: sizes and times stay text with a proper unit,
strings are the text that stood in the file, a null inside a list or map that a function gave is
left out.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.model import Attribute, Concat, Join, Token, Value
from orchestrator.tosca.constraints import violated
from orchestrator.tosca.cursor import Cursor, kind
from orchestrator.tosca.declared import BASIC, Schema
from orchestrator.tosca.definitions import Library
from orchestrator.tosca.problems import did_you_mean, shown
from orchestrator.tosca.read import Listing, Scalar, Table, Tree, tree_of
from orchestrator.tosca.units import UNITS, BadUnit, amount

FUNCTIONS = (
    "get_input",
    "get_property",
    "get_attribute",
    "get_operation_output",
    "get_artifact",
    "get_nodes_of_type",
    "concat",
    "join",
    "token",
)
_WORDS = ("token", "join")  # of the language: a key of such a name need not be a function
_UNMISTAKABLE = tuple(name for name in FUNCTIONS if name not in _WORDS)

# The value is wrong, or not given yet, and that has been reported; nothing may be concluded from
# it.
INVALID: Any = type("_Invalid", (), {"__repr__": lambda self: "INVALID"})()

_VERSION = re.compile(r"[0-9]+(\.[0-9]+){0,3}([.-][A-Za-z0-9]+){0,2}")
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?[0-9]{1,18}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?")
_A = {"integer": "an integer", "range": "a range [from, to]", "float": "a number",
      "number": "a number", "boolean": "true or false", "string": "text",
      "timestamp": "a time like 2026-05-01T12:00:00Z", "version": "a version like 1.2"}  # fmt: skip


def is_late(value: Value) -> bool:
    return isinstance(value, Attribute | Concat | Join | Token)


def is_function(tree: Tree) -> bool:
    """Whether this is a call of a function that TOSCA knows."""
    if not isinstance(tree, Table) or len(tree.entries) != 1:
        return False
    (name, (_, argument)), *_ = tree.entries.items()
    return name in FUNCTIONS and (name not in _WORDS or isinstance(argument, Listing))


def has_function(tree: Tree) -> bool:
    """Whether a function stands anywhere in the value."""
    if isinstance(tree, Table):
        return is_function(tree) or any(has_function(one) for _, one in tree.entries.values())
    return isinstance(tree, Listing) and any(has_function(one) for one in tree.items)


@dataclass(frozen=True)
class Checker:
    """Checks values; ``evaluate`` gives the value of the function at a place.

    Without it nothing is a function: what users give as parameters is data and stays data.
    """

    library: Library
    evaluate: Callable[[Cursor], Value] | None = None

    def coerce(self, cursor: Cursor, schema: Schema) -> Value:
        """The value at ``cursor`` as ``schema`` wants it, None if it is null, or INVALID."""
        if self.evaluate is not None and is_function(cursor.tree):
            value = self.evaluate(cursor)
            if value is INVALID or value is None or is_late(value):
                return value
            known = cursor.replaced(tree_of(value, cursor.tree.mark))
            return Checker(self.library).coerce(known, schema)
        if isinstance(cursor.tree, Scalar) and is_late(cursor.tree.value):
            return cursor.tree.value
        if cursor.empty:
            return None
        if schema.type == "map" and self.evaluate is not None and _nearly_function(cursor):
            return INVALID
        value = self._typed(cursor, schema)
        if value is not INVALID and not is_late(value):
            value = self._constrained(cursor, schema.type, value, schema.constraints)
        return value

    def _typed(self, cursor: Cursor, schema: Schema) -> Value:
        if schema.type == "list":
            return self._list(cursor, schema)
        if schema.type == "map":
            return self._map(cursor, schema)
        if schema.type in BASIC:
            return _scalar(cursor, schema.type)
        return self._data(cursor, schema.type)

    def _list(self, cursor: Cursor, schema: Schema) -> Value:
        if not isinstance(cursor.tree, Listing):
            return _wrong(cursor, "a list")
        return _sound([self._entry(item, schema.entry) for item in cursor.items()])

    def _map(self, cursor: Cursor, schema: Schema) -> Value:
        if not isinstance(cursor.tree, Table):
            return _wrong(cursor, "a mapping")
        found = {}
        for key, inner in cursor.table().items():
            found[key] = self._entry(inner, schema.entry)
            if schema.key is not None:
                name = inner.replaced(Scalar(inner.key, key, key))
                if self.coerce(name, schema.key) is INVALID:
                    found[key] = INVALID
        return _sound(found)

    def _entry(self, cursor: Cursor, schema: Schema | None) -> Value:
        if schema is not None:
            if cursor.empty:
                return _wrong(cursor, _A.get(schema.type, schema.type))
            return self.coerce(cursor, schema)
        return self.free(cursor)

    def free(self, cursor: Cursor) -> Value:
        """A value of no declared type, with the functions in it evaluated."""
        if self.evaluate is not None and is_function(cursor.tree):
            return self.evaluate(cursor)
        if self.evaluate is not None and _nearly_function(cursor):
            return INVALID
        if isinstance(cursor.tree, Listing):
            return _sound([self.free(item) for item in cursor.items()])
        if isinstance(cursor.tree, Table):
            return _sound({key: self.free(inner) for key, inner in cursor.table().items()})
        return cursor.tree.value

    def _data(self, cursor: Cursor, name: str) -> Value:
        """A value of a data type: a basic one with constraints, or a mapping of properties."""
        for ancestor, definition in self.library.lineage("data_types", name):
            base = definition.get("type") or definition.get("derived_from")
            if base in BASIC:
                own = Schema.parse(ancestor, {**definition, "type": base})
                return self.coerce(cursor, own)
        schemas = self.library.properties("data_types", name)
        if not isinstance(cursor.tree, Table):
            return _wrong(cursor, f"a mapping of {shown(name)}")
        given = cursor.table(schemas)
        values: dict[str, Value] = {}
        for key, schema in schemas.items():
            value = self.coerce(given[key], schema) if key in given else None
            if value is None and schema.has_default:
                value = schema.default
            if value is None and schema.required:
                cursor.problem_at_key(f"{_label(cursor)} lacks {shown(key)}.")
                value = INVALID
            values[key] = value
        return _sound(values)

    def _constrained(
        self, cursor: Cursor, type_name: str, value: Value, constraints: tuple[tuple[str, Any], ...]
    ) -> Value:
        for name, bound in constraints:
            must = violated(type_name, value, name, bound)
            if must:
                cursor.problem(f"{_label(cursor)} is {shown(value)}; it must {must}.")
                return INVALID
        return value


def _sound(values: Any) -> Any:
    """A list or map without its nulls; INVALID where anything in it is."""
    entries = values.values() if isinstance(values, dict) else values
    if any(value is INVALID for value in entries):
        return INVALID
    if isinstance(values, dict):
        return {key: value for key, value in values.items() if value is not None}
    return [value for value in values if value is not None]


def _label(cursor: Cursor) -> str:
    if cursor.path and isinstance(cursor.path[-1], int):
        owner = next((word for word in reversed(cursor.path) if isinstance(word, str)), "the list")
        return f"Item {cursor.path[-1] + 1} of {shown(owner)}"
    return shown(cursor.name)


def _wrong(cursor: Cursor, wanted: str, hint: str = "") -> Any:
    cursor.problem(f"{_label(cursor)} must be {wanted}, not {kind(cursor.tree)}.", hint)
    return INVALID


def _scalar(cursor: Cursor, type_name: str) -> Value:
    tree = cursor.tree
    if type_name == "range":
        return _range(cursor)
    if not isinstance(tree, Scalar):
        wanted = _A.get(type_name, f"an amount of {type_name}")
        return _wrong(cursor, wanted, _misspelt(tree))
    if type_name in UNITS:
        try:
            amount(type_name, tree.text)
        except BadUnit as error:
            sentence = f"{_label(cursor)} is no {type_name}: {error.sentence}"
            cursor.problem(sentence, error.suggestion)
            return INVALID
        return _with_proper_unit(type_name, tree.text)
    return _basic(cursor, tree, type_name)


def _basic(cursor: Cursor, tree: Scalar, type_name: str) -> Value:
    value, text = tree.value, tree.text.strip()
    if type_name == "string":
        if isinstance(value, bool):
            return _wrong(cursor, "text", f'YAML reads it so; write "{text}", in quotes.')
        return tree.text if not isinstance(value, str) else value
    if type_name == "boolean":
        if isinstance(value, bool):
            return value
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
    elif type_name == "integer":
        if not isinstance(value, bool) and _INTEGER.fullmatch(text):
            return int(text)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif type_name in ("float", "number"):
        if not isinstance(value, bool) and _NUMBER.fullmatch(text):
            return int(text) if type_name == "number" and _INTEGER.fullmatch(text) else float(text)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
    elif type_name == "version":
        if _VERSION.fullmatch(text):
            return text
    elif type_name == "timestamp":
        try:
            return datetime.datetime.fromisoformat(text).isoformat()
        except ValueError:
            pass
    return _wrong(cursor, _A[type_name])


def _range(cursor: Cursor) -> Value:
    items = list(cursor.items()) if isinstance(cursor.tree, Listing) else []
    ends = [item.value for item in items]
    fits = (
        len(ends) == 2
        and type(ends[0]) is int
        and (ends[1] == "UNBOUNDED" or (type(ends[1]) is int and ends[1] >= ends[0]))
    )
    return ends if fits else _wrong(cursor, _A["range"])


def _with_proper_unit(type_name: str, text: str) -> str:
    match = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]+)\s*", text)
    if match is None:
        return text
    unit = next(unit for unit in UNITS[type_name] if unit.lower() == match[2].lower())
    return f"{match[1]} {match[2] if match[2] in UNITS[type_name] else unit}"


def _misspelt(tree: Tree) -> str:
    if isinstance(tree, Table) and len(tree.entries) == 1:
        return did_you_mean(next(iter(tree.entries)), FUNCTIONS)
    return ""


def _nearly_function(cursor: Cursor) -> bool:
    """Reports a mapping that would be a call of a function, were it spelt rightly."""
    if not isinstance(cursor.tree, Table) or len(cursor.tree.entries) != 1:
        return False
    name = next(iter(cursor.tree.entries))
    close = difflib.get_close_matches(name[:40], _UNMISTAKABLE, n=1, cutoff=0.85)
    if close:
        hint = f"Did you mean `{close[0]}`?"
        cursor.problem(f"There is no function {shown(name)}.", hint)
    return bool(close)
