"""Inputs and outputs: what a template asks for, what was given, and what it tells in the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.tosca.constraints import violated
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.declared import Schema
from orchestrator.tosca.definitions import Library
from orchestrator.tosca.problems import START, Report, did_you_mean, listed, shown
from orchestrator.tosca.read import Scalar, Table, tree_of
from orchestrator.tosca.schemas import known_data_type, schema
from orchestrator.tosca.topology import InputDeclaration
from orchestrator.tosca.values import INVALID, Checker


def inputs(
    topology: Cursor | None, library: Library, given: Mapping[str, Any] | None, root: Cursor
) -> dict[str, InputDeclaration]:
    """The declared inputs with what was given for them.

    Where ``given`` is None nothing has been given yet: that an input needs a value is then a note.
    """
    section = topology.get("inputs") if topology else None
    found: dict[str, InputDeclaration] = {}
    declared = section.table() if section else {}
    for name, declaration in declared.items():
        definition = schema(declaration, library)
        if definition is not None:
            found[name] = _given(declaration, definition, given)
    for name in given or ():
        if name not in declared:
            hint = did_you_mean(name, declared) or f"It has {listed(declared) or 'none'}."
            mark = section.key if section else START
            place = Cursor(Scalar(mark, None, ""), ("parameters", name), root.report, mark)
            place.problem_at_key(f"The template has no input {shown(name)}.", hint)
    return found


def _given(
    declaration: Cursor, definition: Schema, given: Mapping[str, Any] | None
) -> InputDeclaration:
    name = declaration.name
    source = declaration.get("value") or declaration.get("default")
    if given is not None and name in given:
        tree = tree_of(given[name], declaration.key)
        path = ("parameters", name)
        parameter = Cursor(tree, path, declaration.report, declaration.key)
        source = None if given[name] is None else parameter
    if source is not None and source.empty:
        source = None
    if definition.required and source is None and given is None:
        declaration.report.note(
            declaration.key,
            f"The input {shown(name)} has no value yet: what depends on it is not checked.",
        )
    elif definition.required and source is None:
        declaration.problem_at_key(
            f"The input {shown(name)} needs a value.",
            f"Give one as a parameter, `-p {name}=…`, or write a `default`.",
        )
    return InputDeclaration(definition, declaration, source)


def unfit(
    name: str, declared: Mapping[str, Any], value: Any, library: Library, secret: bool = False
) -> str:
    """What keeps ``value`` from being that of an input that is declared so, as a sentence.

    Empty where nothing does, and where the declaration is broken or of a type that is not in
    ``library``: the compiler tells.  A ``secret`` value is not in the sentence.
    """
    report = Report("")
    definition = schema(Cursor(tree_of(dict(declared), START), (name,), report, START), library)
    if definition is None or not library.data_type_is_whole(definition.type):
        return ""
    at = Cursor(tree_of(value, START), (name,), report, START)
    whole = Checker(library).coerce(at, replace(definition, constraints=()))
    if whole is INVALID:
        return "It is not of the type." if secret else report.problems[0].message
    for constraint, bound in definition.constraints:
        if must := violated(definition.type, whole, constraint, bound):
            return f"It must {must}."
    return ""


def outputs(cursor: Cursor | None, library: Library) -> dict[str, Cursor]:
    """Where the value of each output stands."""
    found = {}
    for name, output in (cursor.table() if cursor else {}).items():
        if not isinstance(output.tree, Table):
            output.problem(f"The output {shown(name)} must be a mapping with a `value`.")
            continue
        keys = output.table(("description", "value", "type", "entry_schema", "key_schema",
                             "required", "default", "constraints", "status"))  # fmt: skip
        if "description" in keys and not keys["description"].empty:
            keys["description"].text()
        if "type" in keys and (kind := keys["type"].text()) is not None:
            known_data_type(keys["type"], kind, library)
        value = keys.get("value")
        if value is None or value.empty:
            output.problem_at_key(f"The output {shown(name)} has no `value`.")
        else:
            found[name] = value
    return found
