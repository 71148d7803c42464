"""Type definitions: what TOSCA, Vacuo and the template itself define, with inheritance resolved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

COMPUTE = "tosca.nodes.Compute"
SERVICE = "vacuo.nodes.Service"
POOL_MEMBER = "vacuo.nodes.PoolMember"
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
SCALARS = (
    "string",
    "integer",
    "float",
    "boolean",
    "timestamp",
    "range",
    "version",
    "scalar-unit.size",
    "scalar-unit.time",
    "scalar-unit.frequency",
)
BASIC = (*SCALARS, "list", "map", "number")
# Names that TOSCA lets one write short.
SHORT = {
    "PortDef": "tosca.datatypes.network.PortDef",
    "PortSpec": "tosca.datatypes.network.PortSpec",
    "tosca:PortDef": "tosca.datatypes.network.PortDef",
    "Compute": COMPUTE,
}
ABSENT: Any = object()


@dataclass(frozen=True)
class Schema:
    """The definition of a property, an input, an attribute, or of the entries of one."""

    name: str
    type: str = "string"
    required: bool = True
    default: Any = ABSENT
    description: str = ""
    constraints: tuple[tuple[str, Any], ...] = ()
    entry: Schema | None = None
    key: Schema | None = None

    @classmethod
    def parse(cls, name: str, definition: Any) -> Schema:
        """From a well-formed definition; a bare word is the name of a type."""
        if isinstance(definition, str):
            definition = {"type": definition}
        entry, key = definition.get("entry_schema"), definition.get("key_schema")
        constraints = definition.get("constraints") or []
        type_name = str(definition.get("type", "string"))
        return cls(
            name=name,
            type=SHORT.get(type_name, type_name),
            required=definition.get("required", True) is not False,
            default=definition.get("default", ABSENT),
            description=" ".join(str(definition.get("description") or "").split()),
            constraints=tuple(next(iter(constraint.items())) for constraint in constraints),
            entry=cls.parse(name, entry) if entry else None,
            key=cls.parse(name, key) if key else None,
        )

    @property
    def has_default(self) -> bool:
        return self.default is not ABSENT and self.default is not None


@dataclass(frozen=True)
class RequirementDefinition:
    """What a node needs of others: how many (``most`` None: any number), of which kind."""

    name: str
    capability: str
    node: str | None
    relationship: str
    least: int = 1
    most: int | None = 1


@dataclass(frozen=True)
class Operation:
    """What realises a type: a role, and inputs beyond the properties."""

    implementation: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Library:
    """All types that a template may use: section to name to plain, well-formed definition."""

    sections: Mapping[str, Mapping[str, Any]]

    def with_types(self, more: Mapping[str, Mapping[str, Any]]) -> Library:
        return Library(
            {kind: {**self.sections.get(kind, {}), **more.get(kind, {})} for kind in KINDS}
        )

    @cached_property
    def _cache(self) -> dict[tuple[str, str, str], Any]:
        return {}

    def names(self, kind: str) -> tuple[str, ...]:
        return tuple(self.sections.get(kind, {}))

    def has(self, kind: str, name: str) -> bool:
        return name in self.sections.get(kind, {})

    def lineage(self, kind: str, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The type and its ancestors, itself first; ends at an unknown one and in a cycle."""
        seen: set[str] = set()
        types = self.sections.get(kind, {})
        while name in types and name not in seen:
            seen.add(name)
            definition = types[name] or {}
            yield name, definition
            name = str(definition.get("derived_from", ""))

    def derives(self, kind: str, name: str, base: str) -> bool:
        return any(ancestor == base for ancestor, _ in self.lineage(kind, name))

    def is_host(self, node_type: str) -> bool:
        return self.derives("node_types", node_type, COMPUTE)

    def properties(self, kind: str, name: str) -> dict[str, Schema]:
        return self._merged(kind, name, "properties")

    def attributes(self, name: str) -> dict[str, Schema]:
        return self._merged("node_types", name, "attributes")

    def _merged(self, kind: str, name: str, section: str) -> dict[str, Schema]:
        where = (kind, name, section)
        if where not in self._cache:
            found: dict[str, Any] = {}
            for _, definition in reversed(list(self.lineage(kind, name))):
                for key, value in (definition.get(section) or {}).items():
                    refined = isinstance(value, dict) and isinstance(found.get(key), dict)
                    found[key] = {**found[key], **value} if refined else value
            self._cache[where] = {key: Schema.parse(key, value) for key, value in found.items()}
        schemas: dict[str, Schema] = self._cache[where]
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
        found: dict[str, RequirementDefinition] = {}
        for _, definition in self.lineage("node_types", node_type):
            for item in definition.get("requirements") or []:
                for name, value in item.items():
                    found.setdefault(name, _requirement(name, value))
        return found

    def capabilities(self, node_type: str) -> dict[str, str]:
        """The names of a node's capabilities and their types."""
        found: dict[str, str] = {}
        for _, definition in self.lineage("node_types", node_type):
            for name, value in (definition.get("capabilities") or {}).items():
                found.setdefault(name, value if isinstance(value, str) else str(value.get("type")))
        return found

    def configure(self, node_type: str) -> Operation:
        """The operation that sets a service up, as the type and its ancestors have it."""
        implementation: str | None = None
        inputs: dict[str, Any] = {}
        for _, definition in self.lineage("node_types", node_type):
            operation = configure_of(definition.get("interfaces") or {})
            implementation = implementation or operation.implementation
            inputs = {**operation.inputs, **inputs}
        return Operation(implementation, inputs)


def configure_of(interfaces: Mapping[str, Any]) -> Operation:
    """``Standard.configure`` of a plain ``interfaces`` section."""
    for name in ("Standard", "tosca.interfaces.node.lifecycle.Standard"):
        interface = interfaces.get(name)
        if isinstance(interface, Mapping):
            operations = interface.get("operations", interface) or {}
            operation = operations.get("configure")
            if isinstance(operation, str):
                return Operation(operation)
            if isinstance(operation, Mapping):
                inputs = {k: _assigned(v) for k, v in (operation.get("inputs") or {}).items()}
                return Operation(operation.get("implementation"), inputs)
    return Operation()


def _assigned(value: Any) -> Any:
    """An input of an operation may be given as a value, or as a definition with a default."""
    if isinstance(value, Mapping) and "type" in value and ("default" in value or "value" in value):
        return value.get("value", value.get("default"))
    return value


def _requirement(name: str, value: Any) -> RequirementDefinition:
    if isinstance(value, str):
        value = {"capability": value}
    least, most = value.get("occurrences") or (1, 1)
    relationship = value.get("relationship") or "tosca.relationships.DependsOn"
    if isinstance(relationship, Mapping):
        relationship = relationship.get("type", "tosca.relationships.DependsOn")
    return RequirementDefinition(
        name=name,
        capability=str(value.get("capability", "tosca.capabilities.Node")),
        node=value.get("node"),
        relationship=str(relationship),
        least=int(least),
        most=None if most == "UNBOUNDED" else int(most),
    )
