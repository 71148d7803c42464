"""TOSCA's functions: known values now, late values as :class:`orchestrator.model.Attribute`.

``get_property`` and ``get_attribute`` may lead through a requirement of the node,
``[SELF, squid, port]``; where the requirement is not used they give null, and ``concat`` and
``token`` around a null give null.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.model import Attribute, Concat, Token, Value
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import POOL_MEMBER, SERVICE, Schema
from orchestrator.tosca.problems import did_you_mean, listed, shown
from orchestrator.tosca.read import Listing, Scalar, tree_of
from orchestrator.tosca.topology import NodeTemplate, Policy, Reference, Topology
from orchestrator.tosca.values import INVALID, REFUSED_FUNCTIONS, Checker, is_late

# What Vacuo fills in for every host, and so for every service on one.
RUNTIME = (
    "private_address",
    "public_address",
    "node_name",
    "deployment",
    "site",
    "group",
    "cores",
    "memory_mb",
)


class Evaluator:
    """Evaluates the functions of one topology.  Every property is evaluated once."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._library = topology.library
        self._inputs: dict[str, Value] = {}
        self._properties: dict[tuple[str, str, str], Value] = {}
        self._busy: list[tuple[str, str, str]] = []

    def checker(self, scope: str | None) -> Checker:
        """A checker of values that stand inside the node template ``scope``."""
        return Checker(self._library, lambda cursor: self.evaluate(cursor, scope))

    def evaluate(self, cursor: Cursor, scope: str | None) -> Value:
        """The value of the function at ``cursor``: plain, late, None, or INVALID."""
        (name, argument), *_ = cursor.table().items()
        if name in REFUSED_FUNCTIONS:
            cursor.problem_at_key(f"Vacuo cannot know `{name}` when it reads a template.")
            return INVALID
        if name == "get_input":
            return self._get_input(argument)
        if name in ("concat", "token"):
            return self._text(name, argument, scope)
        reference = self.reference(name, argument, scope)
        if reference is None or reference is INVALID:
            return reference
        if name == "get_attribute" and not reference.capability:
            found = self._attribute(reference, argument, scope)
            if found is not None:
                return found
        return self._property(reference, argument)

    # --- get_input ---------------------------------------------------------------------------

    def _get_input(self, argument: Cursor) -> Value:
        words = _words(argument)
        if words is None or not isinstance(words[0], str):
            argument.problem("`get_input` takes the name of an input.")
            return INVALID
        name, *rest = words
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
            if declaration.source is not None:
                value = Checker(self._library).coerce(declaration.source, declaration.schema)
            self._inputs[name] = value
        return self._inputs[name]

    # --- get_property, get_attribute ---------------------------------------------------------

    def reference(self, function: str, argument: Cursor, scope: str | None) -> Any:
        """What the words of the function lead to: a Reference; None through a requirement that is
        not used; INVALID."""
        words = _words(argument)
        if words is None or len(words) < 2 or not isinstance(words[0], str):
            argument.problem(f"`{function}` takes a list: [node template, {function[4:]}].")
            return INVALID
        template = self._entity(words[0], argument, scope, str(words[1]))
        if template is None:
            return INVALID
        return self._member(function, template, words[1:], argument)

    def _entity(self, name: str, at: Cursor, scope: str | None, what: str) -> NodeTemplate | None:
        templates = self.topology.templates
        if name in ("SELF", "HOST"):
            if scope is None:
                at.problem(f"`{name}` means nothing outside of a node template.", "Name one.")
                return None
            if name == "SELF":
                return templates[scope]
            hosts = list(self.topology.hosts_of(scope))[1:]
            having = (h for h in hosts if what in self._library.properties("node_types", h.type))
            found = next(having, hosts[-1] if hosts else None)
            if found is None:
                at.problem(f"{shown(scope)} is not hosted on anything.")
            return found
        if name in ("SOURCE", "TARGET"):
            at.problem(f"`{name}` is for relationships, which Vacuo does not configure.")
            return None
        if name in self.topology.broken:
            return None  # that has been said where it stands
        if name not in templates:
            hint = did_you_mean(name, (*templates, "SELF", "HOST"))
            at.problem(f"There is no node template {shown(name)}.", hint)
            return None
        return templates[name]

    def _member(self, function: str, template: NodeTemplate, words: list[Any], at: Cursor) -> Any:
        name, rest = str(words[0]), words[1:]
        attributes = self.attributes(template) if function == "get_attribute" else {}
        properties = self._library.properties("node_types", template.type)
        if name in attributes or name in properties:
            return Reference(template.name, name, tuple(rest))
        requirements = self._library.requirements(template.type)
        if name in requirements and rest:
            targets = template.targets(name)
            if not targets:
                return None
            target = self.topology.templates.get(targets[0])
            if target is None:
                return INVALID
            return self._through(function, target, requirements[name].capability, rest, at)
        capabilities = self._library.capabilities(template.type)
        if name in capabilities and rest:
            inner = self._library.properties("capability_types", capabilities[name])
            if rest[0] in inner:
                return Reference(template.name, str(rest[0]), tuple(rest[1:]), name)
            return self._no_member(rest[0], f"{template.name}.{name}", inner, function, at)
        known = (*attributes, *properties, *requirements)
        return self._no_member(name, template.name, known, function, at)

    def _through(
        self, function: str, target: NodeTemplate, capability: str, words: list[Any], at: Cursor
    ) -> Any:
        """A property or attribute of a requirement's target, or of the capability it meets."""
        name = str(words[0])
        for provided, provided_type in self._library.capabilities(target.type).items():
            inner = self._library.properties("capability_types", provided_type)
            plain = self._library.properties("node_types", target.type)
            fits = self._library.derives("capability_types", provided_type, capability)
            if fits and name in inner and name not in plain:
                return Reference(target.name, name, tuple(words[1:]), provided)
        return self._member(function, target, words, at)

    @staticmethod
    def _no_member(name: Any, of: str, known: Iterable[str], function: str, at: Cursor) -> Any:
        what = "attribute" if function == "get_attribute" else "property"
        hint = did_you_mean(name, known)
        at.problem(f"{shown(of)} has no {what} {shown(name)} that Vacuo knows.", hint)
        return INVALID

    def attributes(self, template: NodeTemplate) -> dict[str, None]:
        """The attributes of a node template that will be known once there is a host."""
        names = {"tosca_name": None}
        node_type = template.type
        if self.topology.machine_of(template.name) is not None:
            names |= dict.fromkeys(RUNTIME)
        return names | self._pool_attributes(node_type)

    def _pool_attributes(self, node_type: str) -> dict[str, None]:
        """What only a member of a pool knows of itself."""
        names: dict[str, None] = {}
        if self._library.derives("node_types", node_type, POOL_MEMBER):
            for ancestor, definition in self._library.lineage("node_types", node_type):
                if ancestor == SERVICE:
                    break
                names |= dict.fromkeys(definition.get("attributes") or {})
        return names

    def _attribute(self, reference: Reference, at: Cursor, scope: str | None) -> Value:
        template = self.topology.templates[reference.template]
        if reference.name not in self.attributes(template):
            return None
        if reference.name == "tosca_name":
            return template.name
        if reference.name in self._pool_attributes(template.type) and scope != template.name:
            at.problem(f"Only {shown(template.name)} itself may know its {shown(reference.name)}.")
            return INVALID
        path = (reference.name, *(str(word) for word in reference.rest))
        return Attribute(self._known_as(template), path)

    def _known_as(self, template: NodeTemplate) -> str:
        """The template by which a running deployment knows an attribute: foreign ones are not in
        it, and theirs are those of their host."""
        machine = self.topology.machine_of(template.name)
        ours = self._library.derives("node_types", template.type, SERVICE)
        return template.name if ours or machine is None else machine.name

    def _property(self, reference: Reference, at: Cursor) -> Value:
        template = self.topology.templates[reference.template]
        value = self.property_value(template, reference.name, reference.capability)
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

    def _declared(
        self, template: NodeTemplate, name: str, capability: str
    ) -> tuple[Schema, Cursor | None]:
        if not capability:
            schemas = self._library.properties("node_types", template.type)
            return schemas[name], template.properties.get(name)
        kind = self._library.capabilities(template.type)[capability]
        schema = self._library.properties("capability_types", kind)[name]
        return schema, template.capabilities.get(capability, {}).get(name)

    # --- concat, token -----------------------------------------------------------------------

    def _text(self, name: str, argument: Cursor, scope: str | None) -> Value:
        if not isinstance(argument.tree, Listing):
            argument.problem(f"`{name}` takes a list.")
            return INVALID
        parts = []
        for item in argument.items():
            part = self.checker(scope).free(item)
            if isinstance(part, dict | list):
                item.problem(f"`{name}` joins texts, not mappings or lists.")
                part = INVALID
            parts.append(part)
        if any(part is INVALID for part in parts):
            return INVALID
        if name == "token":
            return self._token(argument, parts)
        if any(part is None for part in parts):
            return None
        if any(is_late(part) for part in parts):
            return Concat(tuple(part if is_late(part) else _written(part) for part in parts))
        return "".join(_written(part) for part in parts)

    @staticmethod
    def _token(argument: Cursor, parts: list[Any]) -> Value:
        if len(parts) != 3 or not isinstance(parts[1], str) or not parts[1]:
            argument.problem("`token` takes [text, separator, index].")
            return INVALID
        text, separator, index = parts
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            argument.problem("The index of `token` must be a whole number from 0.")
            return INVALID
        if text is None:
            return None
        if is_late(text):
            return Token(text, separator, index)
        pieces = str(text).split(separator)
        if index >= len(pieces):
            argument.problem(f"`token` wants part {index} of {shown(text)}, which has fewer.")
            return INVALID
        return pieces[index]


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _words(argument: Cursor) -> list[Any] | None:
    """The arguments of a function: a word alone is a list of one."""
    tree = argument.tree
    if isinstance(tree, Scalar):
        return None if tree.value is None else [tree.value]
    if isinstance(tree, Listing) and tree.items:
        words = [item.value if isinstance(item, Scalar) else None for item in tree.items]
        return None if None in words else words
    return None


def _follow(value: Value, rest: list[Any], at: Cursor) -> Value:
    """What ``rest`` leads to inside a list or a map."""
    for word in rest:
        if value is None or value is INVALID or is_late(value):
            return value
        if isinstance(value, dict) and str(word) in value:
            value = value[str(word)]
        elif isinstance(value, list) and isinstance(word, int) and 0 <= word < len(value):
            value = value[word]
        else:
            at.problem(f"There is nothing at {shown(word)} in the value that this leads to.")
            return INVALID
    return value
