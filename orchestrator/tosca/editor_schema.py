"""A JSON Schema of templates, for editors: completion, descriptions, and a first look at values.

It is made of the type definitions themselves and says nothing that they do not.  It is weaker than
:func:`~orchestrator.tosca.compile.compile_template`, which alone decides: a schema cannot follow a
requirement or a function.  Draft 7, which the language servers for YAML know best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.tosca.declared import Schema
from orchestrator.tosca.definitions import Library
from orchestrator.tosca.values import FUNCTIONS

Json = dict[str, Any]

DIALECT = "http://json-schema.org/draft-07/schema#"
VERSIONS = [f"tosca_simple_yaml_1_{minor}" for minor in range(4)]
_ANY: Json = {}
_TEXT: Json = {"type": ["string", "number", "boolean"]}
_NUMBER = r"^\s*\d+(\.\d+)?\s*"
_PLAIN: Mapping[str, Json] = {
    "string": _TEXT,
    "integer": {"type": "integer"},
    "float": {"type": "number"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "range": {"type": "array", "minItems": 2, "maxItems": 2},
    "scalar-unit.size": {"pattern": _NUMBER + r"([kKmMgGtT][iI]?)?[bB]\s*$"},
    "scalar-unit.time": {"pattern": _NUMBER + r"([dhmsDHMS]|ms|us|ns|MS|US|NS)\s*$"},
    "scalar-unit.frequency": {"pattern": _NUMBER + r"([kKmMgG]?[hH][zZ])\s*$"},
}
_BOUNDS: Mapping[str, str] = {
    "greater_or_equal": "minimum",
    "less_or_equal": "maximum",
    "greater_than": "exclusiveMinimum",
    "less_than": "exclusiveMaximum",
    "min_length": "minLength",
    "max_length": "maxLength",
}


def editor_schema(library: Library) -> Json:
    """The schema of a template that may use all types of ``library``."""
    return _Maker(library).document()


class _Maker:
    def __init__(self, library: Library) -> None:
        self._library = library

    def document(self) -> Json:
        definitions = {
            "function": _function(),
            "node": self._typed("node_types", self._node),
            "policy": self._typed("policy_types", self._policy),
            "input": self._input(),
        }
        topology = {
            "inputs": _map({"$ref": "#/definitions/input"}),
            "node_templates": _map({"$ref": "#/definitions/node"}),
            "policies": {"type": "array", "items": _map({"$ref": "#/definitions/policy"})},
            "outputs": _map(_object({"value": _ANY, "description": _TEXT}, ["value"])),
        }
        free = ("description", "groups", "relationship_templates", "substitution_mappings")
        root = {
            "tosca_definitions_version": {"enum": VERSIONS},
            "imports": {"type": "array"},
            "topology_template": _object(topology | dict.fromkeys(free, _ANY)),
        }
        return {
            "$schema": DIALECT,
            "title": "A TOSCA template for Vacuo",
            "definitions": definitions,
            "type": "object",
            "properties": root,
            "required": ["tosca_definitions_version", "topology_template"],
        }

    def _typed(self, kind: str, of_type: Callable[[str], Json]) -> Json:
        """Something with a ``type``: what else it may hold follows from that.

        A type of the template's own is not known here, so that any other word is allowed too.
        """
        names = sorted(self._library.names(kind))
        known = [
            {"const": name, "description": self._description(kind, name)}
            for name in names
            if not name.endswith(".Root")
        ]
        return {
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"anyOf": [*known, {"type": "string"}]}},
            "allOf": [
                {
                    "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                    "then": {"properties": of_type(name)},
                }
                for name in names
            ],
        }

    def _node(self, name: str) -> Json:
        requirements = _object(dict.fromkeys(self._library.requirements(name), _ANY))
        capabilities = {
            capability: _object({"properties": self._properties("capability_types", type_)})
            for capability, type_ in self._library.capabilities(name).items()
        }
        return {
            "properties": self._properties("node_types", name),
            "capabilities": _object(capabilities),
            "requirements": {"type": "array", "items": requirements},
        }

    def _policy(self, name: str) -> Json:
        return {
            "properties": self._properties("policy_types", name),
            "targets": {"type": "array", "items": {"type": "string"}},
        }

    def _properties(self, kind: str, name: str) -> Json:
        schemas = self._library.properties(kind, name)
        return _object({key: self._value(schema) for key, schema in schemas.items()})

    def _value(self, schema: Schema, depth: int = 0) -> Json:
        """A value of this type, or a function that gives one."""
        made: Json = {"anyOf": [self._literal(schema, depth), {"$ref": "#/definitions/function"}]}
        if schema.description:
            made["description"] = schema.description
        if schema.has_default:
            made["default"] = schema.default
        return made

    def _literal(self, schema: Schema, depth: int) -> Json:
        if schema.type in ("list", "map"):
            key = "items" if schema.type == "list" else "additionalProperties"
            inner = self._value(schema.entry, depth + 1) if schema.entry else _ANY
            return {"type": "array" if schema.type == "list" else "object", key: inner}
        if schema.type in _PLAIN:
            return _PLAIN[schema.type] | _constraints(schema)
        if depth < 4 and self._library.has("data_types", schema.type):
            fields = self._library.properties("data_types", schema.type)
            if fields:
                return _object({key: self._value(one, depth + 1) for key, one in fields.items()})
        return _ANY

    def _input(self) -> Json:
        return _object(
            {
                "type": {"type": "string"},
                "description": _TEXT,
                "default": _ANY,
                "required": {"type": "boolean"},
                "constraints": {"type": "array", "items": {"type": "object"}},
                "entry_schema": _ANY,
                "key_schema": _ANY,
                "status": _TEXT,
                "metadata": {"type": "object"},
            },
        )

    def _description(self, kind: str, name: str) -> str:
        for _, definition in self._library.lineage(kind, name):
            if definition.get("description"):
                return " ".join(str(definition["description"]).split())
        return ""


def _constraints(schema: Schema) -> Json:
    """What a schema can say of a plain value; sizes and times are text and have no order here."""
    found: Json = {}
    for word, bound in schema.constraints:
        if word == "valid_values":
            found["enum"] = list(bound)
        elif word == "pattern":
            found["pattern"] = f"^(?:{bound})$"
        elif word == "in_range" and schema.type in ("integer", "float", "number"):
            names = ("minimum", "maximum")
            found |= {n: b for n, b in zip(names, bound, strict=True) if b != "UNBOUNDED"}
        elif word in _BOUNDS and not schema.type.startswith("scalar-unit"):
            found[_BOUNDS[word]] = bound
    return found


def _function() -> Json:
    properties: Json = dict.fromkeys(FUNCTIONS, _ANY)
    return _object(properties) | {"minProperties": 1, "maxProperties": 1}


def _object(properties: Json, required: list[str] | None = None) -> Json:
    made: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return made | ({"required": required} if required else {})


def _map(value: Json) -> Json:
    return {"type": "object", "additionalProperties": value}
