"""tosca-parser as a second opinion on conformance, asked once our own checks have passed.

It is given the template in a normal form: no imports, the types that are used written into it,
requirements as the nodes they lead to, and functions in words that it knows.  It follows no
requirement in ``get_property``, knows none of the attributes that Vacuo fills in, and compares
numbers of instances that are functions; relationships, artifacts, operations, substitution and the
number of requirements are ours alone to check.  It keeps its errors in a class attribute and
changes the definitions it is given, so one process asks it one question.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from toscaparser.common.exception import ExceptionCollector
from toscaparser.common.exception import ValidationError as ParserRefuses
from toscaparser.elements.entity_type import EntityType
from toscaparser.tosca_template import ToscaTemplate

from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.declared import BASIC
from orchestrator.tosca.definitions import Library
from orchestrator.tosca.functions import Evaluator
from orchestrator.tosca.normative import copied
from orchestrator.tosca.read import Listing, Scalar, Table, Tree
from orchestrator.tosca.topology import InputDeclaration, NodeTemplate, Policy, Reference, Topology
from orchestrator.tosca.values import INVALID, has_function, is_function, is_late

_log = logging.getLogger(__name__)
_QUOTED = re.compile(r'template "([^"]{1,200})"')
# It refuses 1.1, which differs from 1.2 in nothing that it looks at.
_GIVEN_AS = {"tosca_simple_yaml_1_1": "tosca_simple_yaml_1_2"}
_KINDS = ("node_types", "capability_types", "relationship_types", "policy_types", "group_types",
          "data_types")  # fmt: skip
_KEYS = ("derived_from", "properties", "requirements", "capabilities", "valid_target_types",
         "constraints", "type")  # fmt: skip
_DEPENDS = "tosca.relationships.DependsOn"
# We count requirements; it wants those of the specification's types even where TOSCA lets an
# orchestrator meet what a template leaves open.
_COUNTED = "wrong number of occurrences"
_PLAIN_INPUT = ("integer", "float", "boolean", "string", "list", "map")


def conform(root: Cursor, evaluator: Evaluator, given: Mapping[str, Any]) -> None:
    """Reports what tosca-parser has against a template that we have nothing against."""
    topology = evaluator.topology
    document = NormalForm(evaluator).document(str(root.value_of("tosca_definitions_version")))
    parameters = {
        name: given[name]
        for name, declaration in topology.inputs.items()
        if given.get(name) is not None and declaration.schema.type in _PLAIN_INPUT
    }
    for name in ("tosca", "tosca.model"):
        logging.getLogger(name).disabled = True
    try:
        ToscaTemplate(yaml_dict_tpl=document, parsed_params=parameters)
    except ParserRefuses:
        for error in ExceptionCollector.getExceptions():
            if _COUNTED not in str(error):
                _report(root, topology, str(error))
    except Exception:
        # It answers some documents with a Python error, which says nothing about the document.
        _log.warning("tosca-parser gave up on a template", exc_info=True)


def _report(root: Cursor, topology: Topology, message: str) -> None:
    text = " ".join(message.split())[:300].rstrip(".")
    for name in _QUOTED.findall(message):
        if name in topology.templates:
            topology.templates[name].position.problem_at_key(f"{text}.")
            return
    root.problem(f"{text or 'This is not conformant TOSCA'}.")


class NormalForm:
    """Writes a topology down in the part of TOSCA that tosca-parser reads rightly."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._topology = evaluator.topology
        self._library = evaluator.topology.library

    def document(self, version: str) -> dict[str, Any]:
        found = self._topology
        body = {
            "inputs": {name: _input(one) for name, one in found.inputs.items()},
            "node_templates": {name: self._node(one) for name, one in found.templates.items()},
            "groups": {
                one.name: {"type": one.type, "members": list(one.members)} for one in found.groups
            },
            "policies": [{one.name: self._policy(one)} for one in found.policies],
            "outputs": {
                name: {"value": value}
                for name, cursor in found.outputs.items()
                if (value := self._words(cursor, None)) is not None
            },
        }
        return {
            "tosca_definitions_version": _GIVEN_AS.get(version, version),
            **_types(self._library, self._used()),
            "topology_template": {key: section for key, section in body.items() if section},
        }

    def _used(self) -> Iterator[tuple[str, str]]:
        """The types that the topology names itself."""
        for template in self._topology.templates.values():
            yield "node_types", template.type
        for policy in self._topology.policies:
            yield "policy_types", policy.type
        for group in self._topology.groups:
            yield "group_types", group.type

    def _node(self, template: NodeTemplate) -> dict[str, Any]:
        node: dict[str, Any] = {"type": template.type}
        properties = {
            name: value
            for name, cursor in template.properties.items()
            if (value := self._property(template, name, cursor)) is not None
        }
        capabilities = {
            name: {"properties": self._capability(template, name)} for name in template.capabilities
        }
        requirements = [{one.name: one.target} for one in template.requirements]
        for key, part in (
            ("properties", properties),
            ("capabilities", capabilities),
            ("requirements", requirements),
        ):
            if part:
                node[key] = part
        return node

    def _property(self, template: NodeTemplate, name: str, cursor: Cursor) -> Any:
        """As written where a function is in it, else as we understand it."""
        if has_function(cursor.tree):
            return self._words(cursor, template.name)
        return self._evaluator.property_value(template, name)

    def _capability(self, template: NodeTemplate, capability: str) -> dict[str, Any]:
        schemas = self._evaluator.schemas(template, capability)
        names = (n for n in schemas if n in template.capabilities[capability] or schemas[n].default)
        values = {n: self._evaluator.property_value(template, n, capability) for n in names}
        return {name: v for name, v in values.items() if v is not None and not is_late(v)}

    def _policy(self, policy: Policy) -> dict[str, Any]:
        values = {name: self._evaluator.policy_value(policy, name) for name in policy.properties}
        known = {name: v for name, v in values.items() if v is not None and not is_late(v)}
        return {"type": policy.type, "targets": list(policy.targets), "properties": known}

    def _words(self, cursor: Cursor, scope: str | None) -> Any:
        """A value in words that tosca-parser knows."""
        tree: Tree = cursor.tree
        if is_function(tree):
            return self._function(cursor, scope)
        if isinstance(tree, Table):
            entries = {key: self._words(one, scope) for key, one in cursor.table().items()}
            return {key: value for key, value in entries.items() if value is not None}
        if isinstance(tree, Listing):
            return [self._words(item, scope) for item in cursor.items()]
        return tree.value if isinstance(tree, Scalar) else None

    def _function(self, cursor: Cursor, scope: str | None) -> Any:
        (name, argument), *_ = cursor.table().items()
        if name in ("get_property", "get_attribute"):
            found = self._evaluator.reference(name, argument, scope)
            if not isinstance(found, Reference):
                return ""
            if name == "get_attribute":
                return {name: [found.template, "tosca_name"]}
            middle = [found.capability] if found.capability else []
            return {name: [found.template, *middle, found.name, *found.rest]}
        if name in ("concat", "token"):
            return {name: [self._words(item, scope) for item in argument.items()]}
        if name == "get_input" and isinstance(argument.value, str):
            return {name: argument.value}
        value = self._evaluator.evaluate(cursor, scope)
        return None if value is INVALID or is_late(value) else value


def _input(declaration: InputDeclaration) -> dict[str, Any]:
    """An input as something of a type that it takes for inputs; we have checked the value."""
    schema = declaration.schema
    if schema.type not in _PLAIN_INPUT:
        return {"type": "string", "required": False}
    found: dict[str, Any] = {"type": schema.type, "required": schema.required}
    if schema.has_default:
        found["default"] = copied(schema.default)
    if schema.constraints and schema.type not in ("list", "map"):
        kept = [{name: bound} for name, bound in schema.constraints if name != "schema"]
        found["constraints"] = copied(kept)
    return found


def _types(library: Library, used: Iterator[tuple[str, str]]) -> dict[str, Any]:
    """The definitions behind the types in use that are not the specification's, by section."""
    normative = EntityType.TOSCA_DEF_LOAD_AS_IS
    found: dict[str, dict[str, Any]] = {}
    waiting = [name for _, name in used]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or "." not in name:
            continue
        seen.add(name)
        kind = next((one for one in _KINDS if name in library.sections[one]), None)
        if kind is None or name in (normative.get(kind) or {}):
            continue
        definition = _definition(kind, name, library)
        found.setdefault(kind, {})[name] = definition
        waiting.extend(_texts(definition))
    return found


def _definition(kind: str, name: str, library: Library) -> dict[str, Any]:
    written = library.sections[kind][name] or {}
    one: dict[str, Any] = {key: copied(written[key]) for key in _KEYS if key in written}
    if parent := one.get("derived_from"):
        one["derived_from"] = library.canonical(kind, parent)
    if kind == "data_types" and one.get("derived_from") in BASIC:
        # It knows a basic type by `type`, not by `derived_from`.
        one |= {"type": one["derived_from"], "derived_from": "tosca.datatypes.Root"}
    for requirement in one.get("requirements") or []:
        for key, value in requirement.items():
            wanted = dict(value) if isinstance(value, dict) else {"capability": value}
            wanted.pop("node_filter", None)
            if isinstance(wanted.get("relationship"), dict):
                wanted["relationship"] = wanted["relationship"].get("type", _DEPENDS)
            wanted["occurrences"] = [0, "UNBOUNDED"]  # counted by us
            wanted.setdefault("node", "tosca.nodes.Root")  # else it looks among its own types only
            requirement[key] = wanted
    _spell_out(one)
    return one


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _spell_out(definitions: Any) -> None:
    """A schema given as the bare name of a type, in the long form, which is all that it knows."""
    if isinstance(definitions, dict):
        for key, value in definitions.items():
            if key in ("entry_schema", "key_schema") and isinstance(value, str):
                definitions[key] = {"type": value}
            else:
                _spell_out(value)
