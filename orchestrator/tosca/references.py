"""What the words of ``get_property`` and ``get_attribute`` lead to.

They may lead through a requirement of the node, ``[SELF, squid, port]``, or into a capability of
it, ``[server, host, num_cpus]``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.declared import Schema
from orchestrator.tosca.definitions import POOL, POOL_MEMBER, SERVICE
from orchestrator.tosca.problems import did_you_mean, shown
from orchestrator.tosca.read import Listing, Scalar
from orchestrator.tosca.topology import NodeTemplate, Reference, RelationshipTemplate, Topology
from orchestrator.tosca.values import INVALID

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
    "other_addresses",
)


@dataclass(frozen=True)
class Between:
    """Inside a relationship: SELF is the relationship, SOURCE and TARGET are node templates, ""
    where no requirement uses it."""

    relationship: RelationshipTemplate
    source: str = ""
    target: str = ""


Scope = str | Between | None  # inside a node template, a relationship, or neither


class References:
    """Finds what is meant in one topology; what is not there is reported."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._library = topology.library

    def find(self, function: str, argument: Cursor, scope: Scope) -> Any:
        """What the words of the function lead to: a Reference; a Between where that is a
        relationship; None through a requirement that is not used; INVALID."""
        words = words_of(argument)
        if words is None or len(words) < 2 or not isinstance(words[0], str):
            argument.problem(f"`{function}` takes a list: [node template, {function[4:]}].")
            return INVALID
        template = self.entity(words[0], argument, scope, str(words[1]))
        if template is None or isinstance(template, Between):
            return INVALID if template is None else template
        return self._member(function, template, words[1:], argument)

    def entity(
        self, name: str, at: Cursor, scope: Scope, what: str
    ) -> NodeTemplate | Between | None:
        templates = self._topology.templates
        if name in ("SELF", "HOST", "SOURCE", "TARGET"):
            return self._keyword(name, at, scope, what)
        if name in self._topology.broken:
            return None  # that has been said where it stands
        if name in templates:
            return templates[name]
        if name in self._topology.relationships:
            return Between(self._topology.relationships[name])
        hint = did_you_mean(name, (*templates, "SELF", "HOST"))
        at.problem(f"There is no node template {shown(name)}.", hint)
        return None

    def _keyword(
        self, name: str, at: Cursor, scope: Scope, what: str
    ) -> NodeTemplate | Between | None:
        templates = self._topology.templates
        if isinstance(scope, Between):
            if name == "SELF":
                return scope
            end = {"SOURCE": scope.source, "TARGET": scope.target}.get(name)
            if end:
                return templates.get(end)
            if end is None:
                at.problem(f"`{name}` means nothing inside of a relationship.")
            return None
        if name in ("SOURCE", "TARGET"):
            at.problem(f"`{name}` means nothing outside of a relationship.", "Name a template.")
            return None
        if scope is None:
            at.problem(f"`{name}` means nothing outside of a node template.", "Name one.")
            return None
        if name == "SELF":
            return templates[scope]
        hosts = list(self._topology.hosts_of(scope))[1:]
        having = (h for h in hosts if what in self._library.properties("node_types", h.type))
        found = next(having, hosts[-1] if hosts else None)
        if found is None and not self._topology.broken:
            at.problem(f"{shown(scope)} is not hosted on anything.")
        return found

    def _member(self, function: str, template: NodeTemplate, words: list[Any], at: Cursor) -> Any:
        name, rest = str(words[0]), words[1:]
        attributes: dict[str, Any] = {}
        if function == "get_attribute":
            attributes = {**self.attributes(template), **self._library.attributes(template.type)}
        properties = self._library.properties("node_types", template.type)
        if name in attributes or name in properties:
            return Reference(template.name, name, tuple(rest))
        requirements = self._library.requirements(template.type)
        if name in requirements and rest:
            targets = template.targets(name)
            if not targets:
                return None
            target = self._topology.templates.get(targets[0])
            if target is None:
                return INVALID
            return self._through(function, target, requirements[name].capability, rest, at)
        capabilities = self._library.capabilities(template.type)
        if name in capabilities and rest:
            inner = self._of_capability(function, template, name)
            if str(rest[0]) in inner:
                return Reference(template.name, str(rest[0]), tuple(rest[1:]), name)
            return no_member(rest[0], f"{template.name}.{name}", inner, function, at)
        known = (*attributes, *properties, *requirements, *capabilities)
        return no_member(name, template.name, known, function, at)

    def _of_capability(self, function: str, template: NodeTemplate, name: str) -> dict[str, Schema]:
        properties = self._library.capability_properties(template.type, name)
        if function != "get_attribute":
            return properties
        attributes = self._library.capability_properties(template.type, name, "attributes")
        return {**attributes, **properties}

    def _through(
        self, function: str, target: NodeTemplate, capability: str, words: list[Any], at: Cursor
    ) -> Any:
        """A property or attribute of a requirement's target, or of the capability it meets."""
        name = str(words[0])
        plain = self._library.properties("node_types", target.type)
        for provided, provided_type in self._library.capabilities(target.type).items():
            fits = self._library.derives("capability_types", provided_type, capability)
            its = self._of_capability(function, target, provided) if fits else {}
            if name in its and name not in plain:
                return Reference(target.name, name, tuple(words[1:]), provided)
        return self._member(function, target, words, at)

    def attributes(self, template: NodeTemplate) -> dict[str, None]:
        """The attributes of a node template that will be known once there is a host."""
        names = {"tosca_name": None}
        node_type = template.type
        if self._library.is_host(node_type) or self._library.derives(
            "node_types", node_type, SERVICE
        ):
            names |= dict.fromkeys(RUNTIME)
        return names | self.pool_attributes(node_type) | self.secrets(node_type)

    def secrets(self, node_type: str) -> dict[str, None]:
        """What a pool of the template's own gives to hosts of the template, and to nobody else."""
        if not self._library.derives("node_types", node_type, POOL):
            return {}
        everybodys = self._library.attributes(SERVICE)
        return dict.fromkeys(n for n in self._library.attributes(POOL) if n not in everybodys)

    def pool_attributes(self, node_type: str) -> dict[str, None]:
        """What only a member of a pool knows of itself."""
        names: dict[str, None] = {}
        if self._library.derives("node_types", node_type, POOL_MEMBER):
            for ancestor, definition in self._library.lineage("node_types", node_type):
                if ancestor == SERVICE:
                    break
                names |= dict.fromkeys(definition.get("attributes") or {})
        return names


def no_member(name: Any, of: str, known: Iterable[str], function: str, at: Cursor) -> Any:
    what = "attribute" if function == "get_attribute" else "property"
    hint = did_you_mean(name, known)
    at.problem(f"{shown(of)} has no {what} {shown(name)} that Vacuo knows.", hint)
    return INVALID


def words_of(argument: Cursor) -> list[Any] | None:
    """The arguments of a function: a word alone is a list of one."""
    tree = argument.tree
    if isinstance(tree, Scalar):
        return None if tree.value is None else [tree.value]
    if isinstance(tree, Listing) and tree.items:
        words = [item.value if isinstance(item, Scalar) else None for item in tree.items]
        return None if None in words else words
    return None
