"""Definitions of properties, inputs, attributes and entries: are they well formed?

What passes here can be taken as it is by :meth:`orchestrator.tosca.declared.Schema.parse`.
"""

from __future__ import annotations

from orchestrator.tosca.constraints import check_constraint
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.declared import BASIC, SHORT, Schema
from orchestrator.tosca.definitions import Library
from orchestrator.tosca.problems import did_you_mean, listed, shown
from orchestrator.tosca.read import Table
from orchestrator.tosca.values import Checker, has_function

_COMMON = ("type", "description", "constraints", "entry_schema", "key_schema", "required",
           "default", "status", "metadata")  # fmt: skip
PROPERTY_KEYS = INPUT_KEYS = (*_COMMON, "value", "external-schema", "external_schema")
_STATUS = ("supported", "unsupported", "experimental", "deprecated")


def schema(
    cursor: Cursor, library: Library, keys: tuple[str, ...] = INPUT_KEYS, *, partial: bool = False
) -> Schema | None:
    """The definition at ``cursor``; None where it is broken.

    A ``partial`` one refines another and may leave out the ``type``.
    """
    before = cursor.report.count
    if not isinstance(cursor.tree, Table):
        cursor.problem(f"The definition of {shown(cursor.name)} must be a mapping with a `type`.")
        return None
    found = cursor.table(keys)
    named = found.get("type")
    if named is None and not partial:
        cursor.problem_at_key(f"The definition of {shown(cursor.name)} has no `type`.")
        return None
    name = named.text() if named is not None else ""
    if name is None:
        return None
    if named is not None:
        known_data_type(named, name, library)
    _modifiers(found)
    for key in ("entry_schema", "key_schema"):
        if key in found:
            entry_schema(found[key], library)
    if "constraints" in found and named is not None:
        for item in found["constraints"].items():
            check_constraint(item, basic_type(name, library))
    if cursor.report.count > before:
        return None
    parsed = Schema.parse(cursor.name, cursor.value)
    _default(found, parsed, library)
    return parsed if cursor.report.count == before else None


def _modifiers(found: dict[str, Cursor]) -> None:
    if "required" in found and not isinstance(found["required"].value, bool):
        found["required"].problem("`required` must be true or false.")
    if "description" in found and not found["description"].empty:
        found["description"].text()
    if "metadata" in found:
        found["metadata"].table()
    status = found["status"].text() if "status" in found else None
    if status is not None and status not in _STATUS:
        hint = did_you_mean(status, _STATUS) or f"There are {listed(_STATUS)}."
        found["status"].problem(f"There is no status {shown(status)}.", hint)


def _default(found: dict[str, Cursor], parsed: Schema, library: Library) -> None:
    """A default must be what the definition allows, whether it is used or not."""
    default = found.get("default")
    if default is None or default.empty or has_function(default.tree) or "type" not in found:
        return
    if library.data_type_is_whole(parsed.type):
        Checker(library).coerce(default, parsed)


def entry_schema(cursor: Cursor, library: Library) -> None:
    """An ``entry_schema`` or ``key_schema``: a definition, or the bare name of a type."""
    if isinstance(cursor.tree, Table):
        schema(cursor, library, PROPERTY_KEYS)
    elif (name := cursor.text()) is not None:
        known_data_type(cursor, name, library)


def known_data_type(cursor: Cursor, name: str, library: Library) -> None:
    """Reports the name of a data type that is none."""
    name = SHORT.get(name, name)
    if name in BASIC or library.has("data_types", name) or library.may_be("data_types", name):
        return
    hint = did_you_mean(name, (*BASIC, *library.names("data_types")))
    cursor.problem(f"There is no data type {shown(name)}.", hint)


def basic_type(name: str, library: Library) -> str:
    """What a type is underneath: itself where it is basic or a mapping of properties."""
    name = SHORT.get(name, name)
    for _, definition in library.lineage("data_types", name):
        base = str(definition.get("type") or definition.get("derived_from") or "")
        if base in BASIC:
            return base
    return name
