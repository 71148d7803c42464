"""TOSCA's functions: known values now, late values as :class:`orchestrator.model.Attribute`.

``get_property`` and ``get_attribute`` may lead through a requirement of the node,
``[SELF, squid, port]``; where the requirement is not used they give null, and ``concat`` and
``token`` around a null give null.
"""

from __future__ import annotations

from typing import Any

from orchestrator.model import Attribute, Value
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.declared import Schema
from orchestrator.tosca.operations import short_interface
from orchestrator.tosca.problems import did_you_mean, listed, shown
from orchestrator.tosca.read import tree_of
from orchestrator.tosca.references import RUNTIME, Between, References, Scope, no_member, words_of
from orchestrator.tosca.texts import text_function
from orchestrator.tosca.topology import (
    Group,
    NodeTemplate,
    Policy,
    Reference,
    Topology,
)
from orchestrator.tosca.values import INVALID, Checker, is_late

# Attributes of a capability that are those of its node.
_ADDRESSES = {"ip_address": "private_address"}


class Evaluator:
    """Evaluates the functions of one topology.  Every property is evaluated once."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._library = topology.library
        self._references = References(topology)
        self._inputs: dict[str, Value] = {}
        self._properties: dict[tuple[str, str, str], Value] = {}
        self._busy: list[tuple[str, str, str]] = []

    def checker(self, scope: Scope) -> Checker:
        """A checker of values that stand inside ``scope``."""
        return Checker(self._library, lambda cursor: self.evaluate(cursor, scope))

    def evaluate(self, cursor: Cursor, scope: Scope) -> Value:
        """The value of the function at ``cursor``: plain, late, None, or INVALID."""
        (name, argument), *_ = cursor.table().items()
        if name == "get_input":
            return self._get_input(argument)
        if name in ("concat", "join", "token"):
            return text_function(name, argument, self.checker(scope))
        if name == "get_nodes_of_type":
            return self._nodes_of_type(argument)
        if name == "get_artifact":
            return self._artifact(argument, scope)
        if name == "get_operation_output":
            return self._operation_output(argument, scope)
        reference = self.reference(name, argument, scope)
        if isinstance(reference, Between):
            return self._of_relationship(reference, argument)
        if reference is None or reference is INVALID:
            return reference
        if name == "get_attribute" and self._is_attribute(reference):
            return self._attribute(reference, argument, scope)
        return self._property(reference, argument, name == "get_attribute")

    # --- get_input ---------------------------------------------------------------------------

    def _get_input(self, argument: Cursor) -> Value:
        words = words_of(argument)
        if words is None or not isinstance(words[0], str):
            argument.problem("`get_input` takes the name of an input.")
            return INVALID
        name, *rest = words
        if name in self.topology.broken_inputs:
            return INVALID  # that has been said where it stands
        if name not in self.topology.inputs:
            declared = self.topology.inputs
            hint = did_you_mean(name, declared) or (
                f"Declared are {listed(declared)}." if declared else "Declare it under `inputs`."
            )
            argument.problem(f"There is no input {shown(name)}.", hint)
            return INVALID
        return _follow(self.input_value(name), rest, argument)

    def input_value(self, name: str) -> Value:
        if name not in self._inputs:
            declaration = self.topology.inputs[name]
            value: Value = None
            if declaration.schema.required and declaration.source is None:
                value = INVALID
            elif declaration.source is not None:
                value = Checker(self._library).coerce(declaration.source, declaration.schema)
            self._inputs[name] = value
        return self._inputs[name]

    # --- get_property, get_attribute ---------------------------------------------------------

    def reference(self, function: str, argument: Cursor, scope: Scope) -> Any:
        """What ``get_property`` or ``get_attribute`` leads to: see :class:`References`."""
        return self._references.find(function, argument, scope)

    def attributes(self, template: NodeTemplate) -> dict[str, None]:
        """The attributes of a node template that will be known once there is a host."""
        return self._references.attributes(template)

    def becomes_known(self, attribute: Attribute) -> bool:
        """Whether anything ever sets the attribute."""
        template = self.topology.templates.get(attribute.template)
        return template is None or attribute.path[0] in self.attributes(template)

    def _is_attribute(self, reference: Reference) -> bool:
        """Whether the name is an attribute; `get_attribute` gives properties as well."""
        template = self.topology.templates[reference.template]
        if reference.capability:
            return reference.name not in self.schemas(template, reference.capability)
        if reference.name in self.attributes(template):
            return True
        return reference.name not in self._library.properties("node_types", template.type)

    def _attribute(self, reference: Reference, at: Cursor, scope: Scope) -> Value:
        template = self.topology.templates[reference.template]
        rest = tuple(str(word) for word in reference.rest)
        if reference.capability:
            if reference.name in _ADDRESSES and _ADDRESSES[reference.name] in self.attributes(
                template
            ):
                return Attribute(reference.template, (_ADDRESSES[reference.name], *rest))
            return Attribute(reference.template, (reference.capability, reference.name, *rest))
        if reference.name == "tosca_name":
            return template.name
        if (
            reference.name in self._references.pool_attributes(template.type)
            and scope != template.name
        ):
            at.problem(f"Only {shown(template.name)} itself may know its {shown(reference.name)}.")
            return INVALID
        if reference.name in self._references.secrets(template.type) and not isinstance(scope, str):
            at.problem(
                f"Only services of this template may know the {shown(reference.name)} of "
                f"{shown(template.name)}."
            )
            return INVALID
        if reference.name not in self.attributes(template):
            schema = self._library.attributes(template.type)[reference.name]
            value = self._assigned(template, schema)
            if value is not None:
                return _follow(value, list(reference.rest), at)
        if reference.name in RUNTIME and not _is_index(reference.rest):
            at.problem(
                f"{shown(reference.name)} is one value for each host; what follows it may be the "
                "number of a host, from 0."
            )
            return INVALID
        return Attribute(reference.template, (reference.name, *rest))

    def _assigned(self, template: NodeTemplate, schema: Schema) -> Value:
        """What a template, or the type, gives an attribute to begin with."""
        if schema.name in template.attributes:
            return self.checker(template.name).coerce(template.attributes[schema.name], schema)
        return schema.default if schema.has_default else None

    def attribute_value(self, template: NodeTemplate, name: str) -> Value:
        """An attribute that the template assigns."""
        return self._assigned(template, self._library.attributes(template.type)[name])

    def _property(self, reference: Reference, at: Cursor, as_attribute: bool) -> Value:
        template = self.topology.templates[reference.template]
        value = self.property_value(template, reference.name, reference.capability)
        if as_attribute:  # what is not in the property may yet be set
            with at.report.muted():
                found = _follow(value, list(reference.rest), at)
            if found is INVALID and value is not INVALID:
                path = (reference.capability, reference.name, *map(str, reference.rest))
                return Attribute(template.name, tuple(word for word in path if word))
            return found
        return _follow(value, list(reference.rest), at)

    def property_value(self, template: NodeTemplate, name: str, capability: str = "") -> Value:
        """A property of a node template or of one of its capabilities: as set, else the
        default of its type."""
        where = (template.name, capability, name)
        if where in self._properties:
            return self._properties[where]
        schema, cursor = self._declared(template, name, capability)
        if where in self._busy:
            cycle = [".".join(filter(None, one)) for one in self._busy[self._busy.index(where) :]]
            position = cursor or template.position
            position.problem(f"A cycle of properties: {' → '.join((*cycle, cycle[0]))}.")
            return INVALID
        self._busy.append(where)
        try:
            value = self.checker(template.name).coerce(cursor, schema) if cursor else None
            if value is None and schema.has_default:
                mark = template.position.key
                default = template.position.replaced(tree_of(schema.default, mark))
                value = self.checker(template.name).coerce(default, schema)
        finally:
            self._busy.pop()
        self._properties[where] = value
        return value

    def policy_value(self, policy: Policy, name: str) -> Value:
        """A property of a policy: as set, else the default of its type, else None."""
        schema = self._library.properties("policy_types", policy.type)[name]
        cursor = policy.properties.get(name)
        value = self.checker(None).coerce(cursor, schema) if cursor else None
        return schema.default if value is None and schema.has_default else value

    def group_value(self, group: Group, name: str) -> Value:
        """A property of a group that the template sets."""
        schema = self._library.properties("group_types", group.type)[name]
        return self.checker(None).coerce(group.properties[name], schema)

    def schemas(self, template: NodeTemplate, capability: str = "") -> dict[str, Schema]:
        """The properties of a node template, or of one of its capabilities."""
        if not capability:
            return self._library.properties("node_types", template.type)
        return self._library.capability_properties(template.type, capability)

    def _declared(
        self, template: NodeTemplate, name: str, capability: str
    ) -> tuple[Schema, Cursor | None]:
        schema = self.schemas(template, capability)[name]
        if not capability:
            return schema, template.properties.get(name)
        return schema, template.capabilities.get(capability, {}).get(name)

    # --- relationships, artifacts, operations, nodes -------------------------------------------

    def relationship_value(self, scope: Between, name: str) -> Value:
        """A property of a relationship: as set, else the default of its type, else None."""
        relationship = scope.relationship
        schema = self._library.properties("relationship_types", relationship.type)[name]
        cursor = relationship.properties.get(name)
        value = self.checker(scope).coerce(cursor, schema) if cursor else None
        return schema.default if value is None and schema.has_default else value

    def _of_relationship(self, scope: Between, argument: Cursor) -> Value:
        _, name, *rest = words_of(argument) or ["", ""]
        relationship = scope.relationship
        known = self._library.properties("relationship_types", relationship.type)
        if name not in known:
            return no_member(name, relationship.name, known, "get_property", argument)
        key = (relationship.name, "", str(name))
        if key in self._busy:
            argument.problem(f"The property {shown(name)} is defined by itself.")
            return INVALID
        self._busy.append(key)
        try:
            return _follow(self.relationship_value(scope, str(name)), rest, argument)
        finally:
            self._busy.pop()

    def _nodes_of_type(self, argument: Cursor) -> Value:
        name = (words_of(argument) or [None])[0]
        if not isinstance(name, str) or not self._library.has("node_types", name):
            hint = did_you_mean(name, self._library.names("node_types"))
            if self._library.complete:
                argument.problem(f"There is no node type {shown(name)}.", hint)
            return INVALID
        templates = self.topology.templates.values()
        return [
            one.name for one in templates if self._library.derives("node_types", one.type, name)
        ]

    def _artifact(self, argument: Cursor, scope: Scope) -> Value:
        words = words_of(argument)
        if words is None or len(words) < 2 or not all(isinstance(one, str) for one in words[:2]):
            argument.problem("`get_artifact` takes a list: [node template, artifact].")
            return INVALID
        template = self._references.entity(words[0], argument, scope, words[1])
        if not isinstance(template, NodeTemplate):
            return INVALID
        if words[1] not in template.artifacts:
            hint = did_you_mean(words[1], template.artifacts)
            argument.problem(f"{shown(template.name)} has no artifact {shown(words[1])}.", hint)
            return INVALID
        if len(words) > 2:
            argument.problem(
                "Vacuo copies no artifact to a host, so it has no place there.",
                "Give the name alone: that is where the artifact comes from.",
            )
            return INVALID
        file = template.artifacts[words[1]].file
        if not file:
            argument.problem(f"The file of {shown(words[1])} is a function itself; use that one.")
            return INVALID
        return file

    def _operation_output(self, argument: Cursor, scope: Scope) -> Value:
        words = words_of(argument)
        if words is None or len(words) != 4 or not all(isinstance(one, str) for one in words):
            argument.problem(
                "`get_operation_output` takes a list: [node template, interface, operation, "
                "output]."
            )
            return INVALID
        entity, interface, operation, output = words
        template = self._references.entity(entity, argument, scope, interface)
        if not isinstance(template, NodeTemplate):
            return INVALID
        known = self._library.interfaces("node_types", template.type)
        name = short_interface(interface)
        if operation not in known.get(name, ()):
            hint = (
                did_you_mean(operation, known[name]) if name in known else did_you_mean(name, known)
            )
            of = f"{shown(template.name)} has no operation {shown(f'{interface}.{operation}')}."
            argument.problem(of, hint)
            return INVALID
        # No role gives outputs back, so this is an attribute that nothing ever sets.
        return Attribute(template.name, ("operation_output", name, operation, output))


def _is_index(rest: tuple[Any, ...]) -> bool:
    return not rest or (len(rest) == 1 and type(rest[0]) is int and rest[0] >= 0)


def _follow(value: Value, rest: list[Any], at: Cursor) -> Value:
    """What ``rest`` leads to inside a list or a map."""
    for word in rest:
        if value is None or value is INVALID or is_late(value):
            return value
        if isinstance(value, dict) and str(word) in value:
            value = value[str(word)]
        elif isinstance(value, list) and type(word) is int and 0 <= word < len(value):
            value = value[word]
        else:
            at.problem(f"There is nothing at {shown(word)} in the value that this leads to.")
            return INVALID
    return value
