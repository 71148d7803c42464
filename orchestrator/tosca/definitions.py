"""Type definitions: what TOSCA, Vacuo and the template itself define, with inheritance resolved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from orchestrator.tosca.declared import BASIC, RequirementDefinition, Schema, refined, requirement
from orchestrator.tosca.operations import (
    Operation,
    operations_in,
    operations_of,
    short_interface,
)
from orchestrator.tosca.short_names import full_name

COMPUTE = "tosca.nodes.Compute"
SERVICE = "vacuo.nodes.Service"
POOL_MEMBER = "vacuo.nodes.PoolMember"
POOL = "vacuo.nodes.Pool"
VACUUM = "vacuo.policies.Vacuum"
PLACEMENT = "tosca.policies.Placement"
HOSTED_ON = "tosca.relationships.HostedOn"

KINDS = (
    "node_types",
    "capability_types",
    "relationship_types",
    "policy_types",
    "group_types",
    "data_types",
    "interface_types",
    "artifact_types",
)
LINEAGE = 32  # how many types one may derive from, one above the other
_CHILDREN = 16


@dataclass(frozen=True)
class Library:
    """All types that a template may use: section to name to plain, well-formed definition.

    ``doubtful`` are (section, name) of types that exist and are broken; ``complete`` is False
    where an import could not be had.  What is wrong only because of these is not reported.
    """

    sections: Mapping[str, Mapping[str, Any]]
    doubtful: frozenset[tuple[str, str]] = frozenset()
    complete: bool = True

    def with_types(self, more: Mapping[str, Mapping[str, Any]]) -> Library:
        """With the types of ``more`` as well.  The same ones, object for object, give the same
        library, so that what shipped types mean is found out once."""
        if not any(more.values()):
            return self
        key = tuple((kind, name, id(one)) for kind in more for name, one in more[kind].items())
        if key not in self._children:
            sections = {
                kind: {**self.sections.get(kind, {}), **more.get(kind, {})} for kind in KINDS
            }
            grown = replace(self, sections=sections)
            if not any(self.has(kind, name) for kind, name, _ in key):
                grown._cache.update(self._cache)  # a new type changes none that was there
            if len(self._children) >= _CHILDREN:
                self._children.clear()
            self._children[key] = grown
        return self._children[key]

    def without(self, broken: Iterable[tuple[str, str]]) -> Library:
        """With the (section, name) of ``broken`` known to exist, and no more than that."""
        gone = frozenset(broken)
        if not gone:
            return self
        sections = {
            kind: {name: one for name, one in types.items() if (kind, name) not in gone}
            for kind, types in self.sections.items()
        }
        return replace(self, sections=sections, doubtful=self.doubtful | gone)

    @cached_property
    def _cache(self) -> dict[tuple[str, ...], Any]:
        return {}

    @cached_property
    def _children(self) -> dict[tuple[tuple[str, str, int], ...], Library]:
        return {}

    def _kept(self, kind: str, name: str, what: str, make: Callable[[], Any]) -> Any:
        """What ``make`` finds out about a type, once; about an unknown one, each time."""
        where = (kind, name, what)
        if where not in self._cache:
            value = make()
            if name not in self.sections.get(kind, {}):
                return value
            self._cache[where] = value
        return self._cache[where]

    def names(self, kind: str) -> tuple[str, ...]:
        return tuple(self.sections.get(kind, {}))

    def canonical(self, kind: str, name: str) -> str:
        """The full name of a type that TOSCA lets one write short: ``Compute``, ``tosca:Root``."""
        return full_name(kind, name, self.sections.get(kind, {}))

    def has(self, kind: str, name: str) -> bool:
        return self.canonical(kind, name) in self.sections.get(kind, {})

    def may_be(self, kind: str, name: str) -> bool:
        """Whether a type that is not here may exist: it is broken, or an import is missing."""
        return not self.complete or (kind, name) in self.doubtful

    def whole(self, kind: str, name: str) -> bool:
        """Whether the type and all that it derives from are known."""
        *_, (_, root) = [("", {"derived_from": name}), *self.lineage(kind, name)]
        return self.has(kind, name) and not (
            root.get("derived_from") and root["derived_from"] not in BASIC
        )

    def data_type_is_whole(self, name: str) -> bool:
        return name in BASIC or self.whole("data_types", name)

    def lineage(self, kind: str, name: str) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """The type and its ancestors, itself first; ends at an unknown one and in a cycle."""
        found: Sequence[tuple[str, Mapping[str, Any]]] = self._kept(
            kind, name, "lineage", lambda: tuple(self._lineage(kind, name))
        )
        return found

    def _lineage(self, kind: str, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        seen: set[str] = set()
        types = self.sections.get(kind, {})
        name = self.canonical(kind, name)
        while name in types and name not in seen:
            seen.add(name)
            definition = types[name] or {}
            yield name, definition
            name = self.canonical(kind, str(definition.get("derived_from") or ""))

    def derives(self, kind: str, name: str, base: str) -> bool:
        ancestors: frozenset[str] = self._kept(
            kind, name, "ancestors", lambda: frozenset(one for one, _ in self.lineage(kind, name))
        )
        return base in ancestors or self.canonical(kind, base) in ancestors

    def is_host(self, node_type: str) -> bool:
        return self.derives("node_types", node_type, COMPUTE)

    def properties(self, kind: str, name: str) -> dict[str, Schema]:
        return self._merged(kind, name, "properties")

    def attributes(self, name: str, kind: str = "node_types") -> dict[str, Schema]:
        return self._merged(kind, name, "attributes")

    def _merged(self, kind: str, name: str, section: str) -> dict[str, Schema]:
        schemas: dict[str, Schema] = self._kept(
            kind,
            name,
            section,
            lambda: refined(definition.get(section) for _, definition in self.lineage(kind, name)),
        )
        return schemas

    def own_properties(self, node_type: str) -> dict[str, Schema]:
        """Properties declared below Vacuo's root types: those that become variables of a role."""
        declared: set[str] = set()
        for name, definition in self.lineage("node_types", node_type):
            if name in (SERVICE, POOL_MEMBER):
                break
            declared |= set(definition.get("properties") or {})
        properties = self.properties("node_types", node_type)
        return {name: schema for name, schema in properties.items() if name in declared}

    def requirements(self, node_type: str) -> dict[str, RequirementDefinition]:
        found: dict[str, RequirementDefinition] = self._kept(
            "node_types", node_type, "requirements", lambda: self._requirements(node_type)
        )
        return found

    def _requirements(self, node_type: str) -> dict[str, RequirementDefinition]:
        found: dict[str, RequirementDefinition] = {}
        for _, definition in self.lineage("node_types", node_type):
            for item in definition.get("requirements") or []:
                for name, value in item.items():
                    found.setdefault(name, requirement(name, value))
        return found

    def capabilities(self, node_type: str) -> dict[str, str]:
        """The names of a node's capabilities and their types."""
        found: dict[str, str] = self._kept(
            "node_types", node_type, "capabilities", lambda: self._capabilities(node_type)
        )
        return found

    def _capabilities(self, node_type: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in self._capability_definitions(node_type):
            kind = value if isinstance(value, str) else value.get("type")
            if kind is not None:
                found.setdefault(name, str(kind))
        return found

    def capability_properties(
        self, node_type: str, capability: str, section: str = "properties"
    ) -> dict[str, Schema]:
        """Those of the capability's type, as the node type refines them."""
        found: dict[str, Schema] = self._kept(
            "node_types",
            node_type,
            f"{section} of {capability}",
            lambda: self._capability_properties(node_type, capability, section),
        )
        return found

    def _capability_properties(
        self, node_type: str, capability: str, section: str
    ) -> dict[str, Schema]:
        definitions = [
            value.get(section)
            for name, value in self._capability_definitions(node_type)
            if name == capability and isinstance(value, Mapping)
        ]
        kind = self.capabilities(node_type).get(capability, "")
        lineage = self.lineage("capability_types", kind)
        return refined([*definitions, *(definition.get(section) for _, definition in lineage)])

    def _capability_definitions(self, node_type: str) -> Iterator[tuple[str, Any]]:
        for _, definition in self.lineage("node_types", node_type):
            yield from (definition.get("capabilities") or {}).items()

    def valid_sources(self, node_type: str, capability: str) -> tuple[str, ...]:
        """The node types that a capability may serve; none is all."""
        for name, value in self._capability_definitions(node_type):
            if (
                name == capability
                and isinstance(value, Mapping)
                and value.get("valid_source_types")
            ):
                return tuple(map(str, value["valid_source_types"]))
        kind = self.capabilities(node_type).get(capability, "")
        return self.listed("capability_types", kind, "valid_source_types")

    def listed(self, kind: str, name: str, key: str) -> tuple[str, ...]:
        """The nearest list under ``key`` of a type and its ancestors."""
        for _, definition in self.lineage(kind, name):
            if definition.get(key):
                return tuple(map(str, definition[key]))
        return ()

    def artifacts(self, node_type: str) -> dict[str, Any]:
        """The artifacts that a type and its ancestors bring, as written."""
        found: dict[str, Any] = {}
        for _, definition in self.lineage("node_types", node_type):
            found = {**(definition.get("artifacts") or {}), **found}
        return found

    def interfaces(self, kind: str, name: str) -> dict[str, frozenset[str]]:
        """The interfaces that a type has, by their short names, and the operations of each."""
        found: dict[str, frozenset[str]] = self._kept(
            kind, name, "interfaces", lambda: self._interfaces(kind, name)
        )
        return found

    def _interfaces(self, kind: str, name: str) -> dict[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {}
        for _, definition in self.lineage(kind, name):
            for interface, body in (definition.get("interfaces") or {}).items():
                short = short_interface(interface)
                found[short] = found.get(short, frozenset()) | operations_of(body)
                if isinstance(body, Mapping) and body.get("type"):
                    found[short] |= self._specified(str(body["type"]))
                found[short] |= self._specified(interface)
        if kind == "relationship_types":
            found.setdefault("Configure", self._specified("Configure"))
        return found

    def _specified(self, interface_type: str) -> frozenset[str]:
        found: frozenset[str] = frozenset()
        for _, definition in self.lineage("interface_types", interface_type):
            found |= operations_of(definition)
        return found

    def operations(self, kind: str, name: str) -> dict[str, Operation]:
        """What a type and its ancestors implement, by ``Interface.operation``."""
        found: dict[str, Operation] = self._kept(
            kind, name, "operations", lambda: self._operations(kind, name)
        )
        return found

    def _operations(self, kind: str, name: str) -> dict[str, Operation]:
        found: dict[str, Operation] = {}
        for _, definition in self.lineage(kind, name):
            for key, above in operations_in(definition.get("interfaces")).items():
                below = found.get(key, Operation())
                nearest = below if below.implementation else above
                inputs = {**above.inputs, **below.inputs}
                found[key] = Operation(nearest.implementation, inputs, nearest.dependencies)
        return found

    def configure(self, node_type: str) -> Operation:
        """The operation that sets a service up, as the type and its ancestors have it."""
        return self.operations("node_types", node_type).get("Standard.configure", Operation())
