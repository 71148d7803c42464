"""What a type declares: its properties and its requirements, one definition at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

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
    "tosca:PortSpec": "tosca.datatypes.network.PortSpec",
    "Credential": "tosca.datatypes.Credential",
    "tosca:Credential": "tosca.datatypes.Credential",
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
    node_filter: Any = None  # plain, as a type has it
    counted: bool = True  # the type says how many


def refined(layers: Iterable[Any]) -> dict[str, Schema]:
    """Definitions of properties, those of the nearest type first, laid over one another."""
    found: dict[str, Any] = {}
    for layer in reversed(list(layers)):
        for key, value in (layer or {}).items():
            above: Any = found.get(key)
            both = isinstance(value, dict) and isinstance(above, dict)
            found[key] = {**above, **value} if both else value
    return {key: Schema.parse(key, value) for key, value in found.items()}


def requirement(name: str, value: Any) -> RequirementDefinition:
    """From a well-formed definition; a bare word is the capability."""
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
        node_filter=value.get("node_filter"),
        counted="occurrences" in value,
    )
