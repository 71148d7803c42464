"""tosca-parser as the authority on conformance, asked once our own checks have passed.

It sees a document without imports, with the types written into it, and with functions put in
words that it knows: it follows no requirement in ``get_property``, knows none of the attributes
that Vacuo fills in, and compares numbers of instances that are functions.  It keeps its errors in
a class attribute and changes the definitions it is given, so one process asks it one question.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Mapping
from typing import Any

from toscaparser.common.exception import ExceptionCollector
from toscaparser.common.exception import ValidationError as ParserRefuses
from toscaparser.elements.entity_type import EntityType
from toscaparser.tosca_template import ToscaTemplate

from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import BASIC, KINDS
from orchestrator.tosca.functions import Evaluator
from orchestrator.tosca.read import Listing, Scalar, Table, Tree, plain
from orchestrator.tosca.topology import InputDeclaration, NodeTemplate, Reference, Topology
from orchestrator.tosca.values import INVALID, is_function, is_late

_log = logging.getLogger(__name__)
_QUOTED = re.compile(r'template "([^"]{1,200})"')
_UNSEEN = ("imports", "repositories", "dsl_definitions")
_GIVEN_AS = {"tosca_simple_yaml_1_1": "tosca_simple_yaml_1_2"}


def normative_types() -> dict[str, dict[str, Any]]:
    """The definitions of the TOSCA specification, by section."""
    whole = EntityType.TOSCA_DEF_LOAD_AS_IS
    return {kind: copy.deepcopy(dict(whole.get(kind) or {})) for kind in KINDS}


def conform(
    root: Cursor, topology: Topology, evaluator: Evaluator, given: Mapping[str, Any]
) -> None:
    """Reports what tosca-parser has against a template that we have nothing against."""
    document = _document(root, topology, evaluator)
    parameters = {
        name: given[name]
        for name, declaration in topology.inputs.items()
        if given.get(name) is not None and declaration.schema.type in BASIC
    }
    parser_log = logging.getLogger("tosca")
    parser_log.disabled = True
    logging.getLogger("tosca.model").disabled = True
    try:
        ToscaTemplate(yaml_dict_tpl=document, parsed_params=parameters)
    except ParserRefuses:
        for error in ExceptionCollector.getExceptions():
            _report(root, topology, str(error))
    except Exception:
        # It answers some documents with a Python error; the person gets a sentence instead.
        _log.warning("tosca-parser gave up on a template", exc_info=True)
        root.problem("This is not conformant TOSCA, and tosca-parser cannot say where.")


def _report(root: Cursor, topology: Topology, message: str) -> None:
    text = " ".join(message.split())[:300].rstrip(".")
    for name in _QUOTED.findall(message):
        if name in topology.templates:
            topology.templates[name].position.problem_at_key(f"{text}.")
            return
    root.problem(f"{text or 'This is not conformant TOSCA'}.")


def _document(root: Cursor, topology: Topology, evaluator: Evaluator) -> dict[str, Any]:
    document: dict[str, Any] = plain(root.tree)
    for key in _UNSEEN:
        document.pop(key, None)
    version = document["tosca_definitions_version"]
    document["tosca_definitions_version"] = _GIVEN_AS.get(version, version)
    document |= _own_types(topology)
    _spell_out(document["topology_template"].get("inputs"))
    for declaration in topology.inputs.values():
        _simplify(document["topology_template"]["inputs"][declaration.schema.name], declaration)
    body = document["topology_template"]
    for name, template in topology.templates.items():
        node = body["node_templates"][name]
        words = _Words(evaluator, name)
        if template.properties:
            node["properties"] = {
                key: value
                for key, cursor in template.properties.items()
                if (value := words.of_property(template, key, cursor)) is not None
            }
        node.pop("interfaces", None)  # checked by us; a role is not an artifact that it knows
        if "capabilities" in node:
            node["capabilities"] = {
                capability: {"properties": _known(evaluator, template.name, capability, given)}
                for capability, given in template.capabilities.items()
            }
    for policy, written in zip(topology.policies, body.get("policies") or [], strict=True):
        written[policy.name]["properties"] = {
            name: value
            for name in policy.properties
            if (value := evaluator.policy_value(policy, name)) is not None and not is_late(value)
        }
    for name, cursor in topology.outputs.items():
        body["outputs"][name]["value"] = _Words(evaluator, None).of(cursor)
        body["outputs"][name].pop("type", None)
    return document


def _own_types(topology: Topology) -> dict[str, Any]:
    """All types that are not the specification's, imported or not, by section."""
    normative = EntityType.TOSCA_DEF_LOAD_AS_IS
    found = {}
    for kind, types in topology.library.sections.items():
        known = normative.get(kind) or {}
        more = {name: copy.deepcopy(t) for name, t in types.items() if name not in known}
        if kind == "data_types":  # it knows a basic type by `type`, not by `derived_from`
            for one in more.values():
                if one.get("derived_from") in BASIC:
                    one |= {"type": one["derived_from"], "derived_from": "tosca.datatypes.Root"}
        if kind == "node_types":  # it looks for a type by capability only among its own
            for requirement in (r for one in more.values() for r in one.get("requirements") or []):
                for definition in requirement.values():
                    if isinstance(definition, dict) and not definition.get("node"):
                        definition["node"] = "tosca.nodes.Root"
        if more:
            _spell_out(more)
            found[kind] = more
    return found


def _simplify(written: dict[str, Any], declaration: InputDeclaration) -> None:
    """An input of a data type, checked by us, as something of a type that it takes for inputs."""
    schema = declaration.schema
    if schema.entry is not None and schema.entry.type not in BASIC:
        written.pop("entry_schema", None)
    if schema.type not in BASIC:
        written |= {"type": "map" if isinstance(written.get("default"), dict) else "string"}
        written.pop("default", None)
        written.pop("constraints", None)


def _spell_out(definitions: Any) -> None:
    """A schema given as the bare name of a type, in the long form, which is all that it knows."""
    if isinstance(definitions, dict):
        for key, value in definitions.items():
            if key in ("entry_schema", "key_schema") and isinstance(value, str):
                definitions[key] = {"type": value}
            else:
                _spell_out(value)


def _known(
    evaluator: Evaluator, template: str, capability: str, given: Mapping[str, Cursor]
) -> dict[str, Any]:
    node = evaluator.topology.templates[template]
    kind = evaluator.topology.library.capabilities(node.type)[capability]
    names = dict.fromkeys(
        (*given, *evaluator.topology.library.properties("capability_types", kind))
    )
    values = {name: evaluator.property_value(node, name, capability) for name in names}
    return {name: v for name, v in values.items() if v is not None and not is_late(v)}


def _has_function(tree: Tree) -> bool:
    if isinstance(tree, Table):
        return is_function(tree) or any(_has_function(one) for _, one in tree.entries.values())
    return isinstance(tree, Listing) and any(_has_function(one) for one in tree.items)


class _Words:
    """Values in words that tosca-parser knows."""

    def __init__(self, evaluator: Evaluator, scope: str | None) -> None:
        self._evaluator = evaluator
        self._scope = scope

    def of(self, cursor: Cursor) -> Any:
        tree: Tree = cursor.tree
        if is_function(tree):
            return self._function(cursor)
        if isinstance(tree, Table):
            entries = {key: self.of(inner) for key, inner in cursor.table().items()}
            return {key: value for key, value in entries.items() if value is not None}
        if isinstance(tree, Listing):
            return [self.of(item) for item in cursor.items()]
        return tree.value if isinstance(tree, Scalar) else None

    def of_property(self, template: NodeTemplate, name: str, cursor: Cursor) -> Any:
        """A property: as written where a function is in it, else as we understand it."""
        if _has_function(cursor.tree):
            return self.of(cursor)
        return self._evaluator.property_value(template, name)

    def _function(self, cursor: Cursor) -> Any:
        (name, argument), *_ = cursor.table().items()
        if name in ("get_property", "get_attribute"):
            found = self._evaluator.reference(name, argument, self._scope)
            if not isinstance(found, Reference):
                return ""
            if name == "get_attribute":
                return {name: [found.template, "tosca_name"]}
            middle = [found.capability] if found.capability else []
            return {name: [found.template, *middle, found.name, *found.rest]}
        if name == "get_input":
            value = self._evaluator.evaluate(cursor, self._scope)
            plain_name = argument.value if isinstance(argument.value, str) else None
            return {name: plain_name} if plain_name else (None if value is INVALID else value)
        return {name: [self.of(item) for item in argument.items()]}
