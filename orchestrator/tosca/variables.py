"""The variables of a role: properties and inputs, as ``tosca-templates/types/service.yaml``
explains."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.model import Attribute, Concat, Join, Token, Value
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.declared import Schema
from orchestrator.tosca.functions import Evaluator
from orchestrator.tosca.problems import shown
from orchestrator.tosca.read import tree_of
from orchestrator.tosca.topology import NodeTemplate, Topology
from orchestrator.tosca.units import MIB, amount
from orchestrator.tosca.values import INVALID, is_late


def variables(template: NodeTemplate, topology: Topology, evaluator: Evaluator) -> dict[str, Value]:
    """The variables of the service ``template``, nearest to the user last, by their full names."""
    operation = topology.library.configure(template.type)
    role = str(template.implementation or operation.implementation).rpartition(".")[2]
    schemas = topology.library.own_properties(template.type)
    checker = evaluator.checker(template.name)
    defaults: dict[str, Value] = {}
    written: dict[str, Value] = {}
    for name, schema in schemas.items():
        layer = written if _is_set(template, name, evaluator) else defaults
        value = evaluator.property_value(template, name)
        if value is not None and value is not INVALID:
            layer[_named(name, schema)] = _in_units(value, schema, template.properties.get(name))
    own = template.position.replaced(tree_of(dict(operation.inputs), template.position.key))
    typed = {name: checker.free(cursor) for name, cursor in own.table().items()}
    given = {name: checker.free(cursor) for name, cursor in template.inputs.items()}
    merged: dict[str, Value] = {}
    for layer in (defaults, typed, written, given):
        for name, value in layer.items():
            if value is not None and value is not INVALID:
                merged[name] = _over(merged.get(name), value)
                _must_become_known(name, value, template, evaluator)
    return {f"{role}_{name}": value for name, value in merged.items()}


def _must_become_known(
    name: str, value: Value, template: NodeTemplate, evaluator: Evaluator
) -> None:
    """A role cannot wait for an attribute that nothing ever sets."""
    at = template.inputs.get(name) or template.properties.get(name) or template.position
    for attribute in attributes_in(value):
        if not evaluator.becomes_known(attribute):
            what = ".".join((attribute.template, *attribute.path))
            at.problem(f"{shown(template.name)} needs {shown(what)}, which nothing ever sets.")


def attributes_in(value: Value) -> Iterator[Attribute]:
    """Every late attribute inside a value."""
    if isinstance(value, Attribute):
        yield value
    elif isinstance(value, Concat):
        for part in value.parts:
            yield from attributes_in(part)
    elif isinstance(value, Token | Join):
        yield from attributes_in(value.value)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from attributes_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from attributes_in(inner)


def _is_set(template: NodeTemplate, name: str, evaluator: Evaluator) -> bool:
    """Whether the template gives the property a value, rather than its type."""
    cursor = template.properties.get(name)
    return cursor is not None and evaluator.checker(template.name).free(cursor) is not None


def variable_names(role: str, schemas: Mapping[str, Schema], inputs: Mapping[str, Any]) -> set[str]:
    """Every variable that a type can give its role."""
    named = {_named(name, schema) for name, schema in schemas.items()}
    return {f"{role}_{name}" for name in (*named, *inputs)}


def _named(name: str, schema: Schema) -> str:
    suffix = {"scalar-unit.size": "_mb", "scalar-unit.time": "_seconds"}.get(schema.type, "")
    return name if not suffix or name.endswith(suffix) else f"{name}{suffix}"


def _in_units(value: Value, schema: Schema, position: Cursor | None) -> Value:
    if schema.type not in ("scalar-unit.size", "scalar-unit.time"):
        return value
    if is_late(value):
        if position is not None:
            position.problem(f"{shown(schema.name)} must be known before there is a host.")
        return None
    exact = amount(schema.type, str(value))
    return math.floor(exact / MIB) if schema.type == "scalar-unit.size" else math.ceil(exact)


def _over(below: Value, above: Value) -> Value:
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **above}
    return above
