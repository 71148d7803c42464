"""Checks of definitions that a template brings itself: its types and its inputs.

What passes here is well formed, so that :mod:`orchestrator.tosca.definitions` can take it as it
is.
"""

from __future__ import annotations

import re
from typing import Any

from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import BASIC, KINDS, SHORT, Library, Schema
from orchestrator.tosca.problems import did_you_mean, shown
from orchestrator.tosca.read import Scalar, Table
from orchestrator.tosca.units import UNITS, BadUnit
from orchestrator.tosca.values import comparable

_COMMON = ("derived_from", "version", "metadata", "description")
_KEYS = {
    "node_types": (
        *_COMMON, "properties", "attributes", "requirements", "capabilities", "interfaces",
        "artifacts",
    ),
    "capability_types": (*_COMMON, "properties", "attributes", "valid_source_types"),
    "relationship_types": (
        *_COMMON, "properties", "attributes", "interfaces", "valid_target_types",
    ),
    "policy_types": (*_COMMON, "properties", "targets", "triggers"),
    "group_types": (*_COMMON, "properties", "attributes", "members", "interfaces"),
    "data_types": (*_COMMON, "properties", "constraints", "entry_schema", "key_schema", "type"),
}  # fmt: skip
_SCHEMA_KEYS = ("type", "description", "constraints", "entry_schema", "key_schema")
_PROPERTY_KEYS = (*_SCHEMA_KEYS, "required", "default", "status", "metadata", "external-schema")
_INPUT_KEYS = (*_SCHEMA_KEYS, "required", "default", "status", "metadata", "value")
_REQUIREMENT_KEYS = ("capability", "node", "relationship", "occurrences", "description",
                     "node_filter", "metadata")  # fmt: skip
_NUMERIC = ("integer", "float", "number", "timestamp", *UNITS)
_SIZED = ("string", "list", "map")
_FITS: dict[str, tuple[str, ...]] = {
    "equal": (),
    "valid_values": (),
    "greater_than": _NUMERIC,
    "greater_or_equal": _NUMERIC,
    "less_than": _NUMERIC,
    "less_or_equal": _NUMERIC,
    "in_range": (*_NUMERIC, "range"),
    "length": _SIZED,
    "min_length": _SIZED,
    "max_length": _SIZED,
    "pattern": ("string",),
    "schema": ("string",),
}
_IMPLEMENTATION = re.compile(r"vacuo\.site\.[a-z][a-z0-9_]*")


def local_types(root: Cursor, library: Library) -> Library | None:
    """``library`` with the template's own types; None where one of them is broken."""
    before = root.report.count
    sections: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        section = root.get(kind)
        if section is None:
            continue
        types = section.table()
        for name, definition in types.items():
            if library.has(kind, name):
                definition.problem_at_key(f"The type {shown(name)} exists already.")
            elif not isinstance(definition.tree, Table):
                definition.problem(f"The definition of {shown(name)} must be a mapping.")
        sections[kind] = {name: definition.value for name, definition in types.items()}
    if root.report.count > before:
        return None
    known = library.with_types(sections)
    for kind in _KEYS:
        for definition in (found.table() if (found := root.get(kind)) else {}).values():
            _type(definition, kind, known)
    return known if root.report.count == before else None


def _type(cursor: Cursor, kind: str, library: Library) -> None:
    keys = cursor.table(_KEYS[kind])
    parent = keys.get("derived_from")
    if parent is not None and (name := parent.text()) is not None:
        basic = kind == "data_types" and name in BASIC
        if not basic and not library.has(kind, name):
            _unknown_type(parent, kind, name, library)
    elif parent is None and kind != "data_types":
        cursor.problem_at_key(f"The type {shown(cursor.name)} does not say what it derives from.")
    lineage = [name for name, _ in library.lineage(kind, cursor.name)]
    if lineage and (library.sections[kind][lineage[-1]] or {}).get("derived_from") in lineage:
        cursor.problem_at_key(f"The type {shown(cursor.name)} derives from itself.")
    for section in ("properties", "attributes"):
        for definition in (keys[section].table() if section in keys else {}).values():
            schema(definition, library, _PROPERTY_KEYS)
    if kind == "data_types":
        _data_type(keys, library)
    if kind == "node_types":
        _node_type(keys, library)


def _data_type(keys: dict[str, Cursor], library: Library) -> None:
    """A data type may be a basic one with constraints: by ``type``, or by ``derived_from``."""
    named = keys.get("type") or keys.get("derived_from")
    basic = named.value if named is not None and isinstance(named.value, str) else ""
    if "type" in keys and (name := keys["type"].text()) is not None and name not in BASIC:
        keys["type"].problem(f"{shown(name)} is not a basic type.", did_you_mean(name, BASIC))
    for key in ("entry_schema", "key_schema"):
        if key in keys and isinstance(keys[key].tree, Table):
            schema(keys[key], library, _PROPERTY_KEYS)
        elif key in keys and (name := keys[key].text()) is not None:
            _known_data_type(keys[key], name, library)
    for item in keys["constraints"].items() if "constraints" in keys else ():
        _constraint(item, basic)


def _node_type(keys: dict[str, Cursor], library: Library) -> None:
    if "requirements" in keys:
        for item in keys["requirements"].items():
            requirement = item.pair("A requirement")
            if requirement is not None:
                _requirement(requirement, library)
    for capability in (keys["capabilities"].table() if "capabilities" in keys else {}).values():
        name = capability
        if isinstance(capability.tree, Table):
            found = capability.get("type")
            if found is None:
                capability.problem_at_key(f"The capability {shown(capability.name)} has no type.")
                continue
            name = found
        text = name.text()
        if text is not None and not library.has("capability_types", text):
            _unknown_type(name, "capability_types", text, library)
    inputs = configure(keys["interfaces"]) if "interfaces" in keys else None
    for one in inputs.table().values() if inputs else ():
        if one.get("type") and (one.get("default") or one.get("value")):
            schema(one, library)


def _requirement(cursor: Cursor, library: Library) -> None:
    if isinstance(cursor.tree, Scalar):
        name = cursor.text()
        if name is not None and not library.has("capability_types", name):
            _unknown_type(cursor, "capability_types", name, library)
        return
    keys = cursor.table(_REQUIREMENT_KEYS)
    kinds = {"capability": "capability_types", "node": "node_types"}
    for key, kind in kinds.items():
        if key in keys and (name := keys[key].text()) and not library.has(kind, name):
            _unknown_type(keys[key], kind, name, library)
    relationship = keys.get("relationship")
    if relationship is not None:
        named = relationship.get("type") or relationship
        if (name := named.text()) and not library.has("relationship_types", name):
            _unknown_type(named, "relationship_types", name, library)
    if "occurrences" in keys:
        ends = keys["occurrences"].value
        fits = isinstance(ends, list) and len(ends) == 2 and isinstance(ends[0], int)
        if not fits or not (ends[1] == "UNBOUNDED" or isinstance(ends[1], int)):
            keys["occurrences"].problem("`occurrences` must be like [0, 1] or [1, UNBOUNDED].")


def configure(interfaces: Cursor) -> Cursor | None:
    """Checks an ``interfaces`` section; gives the inputs of ``Standard.configure``, if any.

    Other operations may be there as long as nothing would have to realise them.
    """
    inputs: Cursor | None = None
    for name, interface in interfaces.table().items():
        body = interface.get("operations") or interface
        for word, operation in body.table().items():
            if word in ("type", "description", "inputs", "notifications", "operations"):
                continue
            is_configure = word == "configure" and name.rpartition(".")[2] == "Standard"
            named = operation
            if isinstance(operation.tree, Table):
                keys = operation.table(("implementation", "inputs", "description"))
                if is_configure and "inputs" in keys:
                    keys["inputs"].table()
                    inputs = keys["inputs"]
                if "implementation" not in keys:
                    continue
                named = keys["implementation"]
            _implementation(named, f"{name}.{word}", is_configure)
    return inputs


def _implementation(cursor: Cursor, operation: str, is_configure: bool) -> None:
    if cursor.empty:
        return
    role = cursor.text()
    if role is None:
        return
    if not is_configure:
        sentence = f"Vacuo realises `Standard.configure` and no other operation, not {operation}."
        cursor.problem(sentence, "Let one role do it all in `configure`.")
    elif not _IMPLEMENTATION.fullmatch(role):
        sentence = f"{shown(role)} is not a role of Vacuo's collection."
        cursor.problem(sentence, "Roles are named `vacuo.site.<role>`.")


def schema(cursor: Cursor, library: Library, keys: tuple[str, ...] = _INPUT_KEYS) -> Schema | None:
    """The definition of a property, an input or an entry; None where it is broken."""
    before = cursor.report.count
    if not isinstance(cursor.tree, Table):
        cursor.problem(f"The definition of {shown(cursor.name)} must be a mapping with a `type`.")
        return None
    found = cursor.table(keys)
    named = found.get("type")
    if named is None:
        cursor.problem_at_key(f"The definition of {shown(cursor.name)} has no `type`.")
        return None
    name = named.text()
    if name is None:
        return None
    name = SHORT.get(name, name)
    _known_data_type(named, name, library)
    if "required" in found and not isinstance(found["required"].value, bool):
        found["required"].problem("`required` must be true or false.")
    for key in ("entry_schema", "key_schema"):
        if key in found and isinstance(found[key].tree, Table):
            schema(found[key], library, _PROPERTY_KEYS)
        elif key in found and (entry := found[key].text()) is not None:
            _known_data_type(found[key], entry, library)
    if "constraints" in found:
        for item in found["constraints"].items():
            _constraint(item, name)
    if cursor.report.count > before:
        return None
    return Schema.parse(cursor.name, cursor.value)


def _known_data_type(cursor: Cursor, name: str, library: Library) -> None:
    if SHORT.get(name, name) not in BASIC and not library.has("data_types", SHORT.get(name, name)):
        hint = did_you_mean(name, (*BASIC, *library.names("data_types")))
        cursor.problem(f"There is no data type {shown(name)}.", hint)


def _constraint(cursor: Cursor, type_name: str) -> None:
    bound = cursor.pair("A constraint")
    if bound is None:
        return
    name = bound.name
    if name not in _FITS:
        hint = did_you_mean(name, _FITS)
        bound.problem_at_key(f"There is no constraint {shown(name)}.", hint)
    elif type_name in BASIC and _FITS[name] and type_name not in _FITS[name]:
        bound.problem_at_key(f"{shown(name)} cannot constrain a {type_name}.")
    elif why := _bad_bound(name, type_name, bound.value):
        bound.problem(f"{shown(name)} {why}.")


def _bad_bound(name: str, type_name: str, bound: Any) -> str:
    """Why a constraint's bound cannot be used, as half a sentence."""
    if name in ("length", "min_length", "max_length"):
        fits = isinstance(bound, int) and not isinstance(bound, bool) and bound >= 0
        return "" if fits else "needs a whole number"
    if name in ("pattern", "schema"):
        try:
            re.compile(bound)
        except (re.error, TypeError, RecursionError, OverflowError):
            return "needs a regular expression"
        return ""
    if name == "valid_values":
        if not isinstance(bound, list):
            return "needs a list"
        bounds = bound
    elif name == "in_range":
        if not isinstance(bound, list) or len(bound) != 2:
            return "needs a list of two values"
        bounds = [one for one in bound if one != "UNBOUNDED"]
    else:
        bounds = [bound]
    try:
        for one in bounds:
            if isinstance(one, list | dict) or one is None:
                return f"needs values of type {type_name}"
            comparable("integer" if type_name == "range" else type_name, one)
    except BadUnit as error:
        return f"cannot be used: {error.sentence.rstrip('.')}"
    except (ValueError, ArithmeticError):
        return f"needs values of type {type_name}"
    return ""


def _unknown_type(cursor: Cursor, kind: str, name: str, library: Library) -> None:
    what = kind.removesuffix("s").replace("_", " ")
    hint = did_you_mean(name, library.names(kind))
    cursor.problem(f"There is no {what} {shown(name)}.", hint)
