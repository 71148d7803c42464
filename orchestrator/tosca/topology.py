"""A template once its structure is known to be sound: node templates and what leads where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.tosca.artifacts import Artifact
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.declared import RequirementDefinition, Schema
from orchestrator.tosca.definitions import HOSTED_ON, Library
from orchestrator.tosca.interfaces import OperationAssignment


@dataclass(frozen=True)
class InputDeclaration:
    """An input with its value: as given, else the default, else None.  ``position`` is the
    declaration, ``source`` where the value stands."""

    schema: Schema
    position: Cursor
    source: Cursor | None


@dataclass(frozen=True)
class RelationshipTemplate:
    """A relationship: one of ``relationship_templates``, or written inside a requirement."""

    name: str
    type: str
    position: Cursor
    properties: Mapping[str, Cursor] = field(default_factory=dict)
    operations: Mapping[str, OperationAssignment] = field(default_factory=dict)


@dataclass(frozen=True)
class Requirement:
    """A requirement of a node template that leads to the node template ``target``.

    ``capability`` is the name of the capability of the target that meets it, "" where any does.
    """

    definition: RequirementDefinition
    target: str
    position: Cursor
    relationship: RelationshipTemplate | None = None
    capability: str = ""

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def relationship_type(self) -> str:
        return self.relationship.type if self.relationship else self.definition.relationship


@dataclass(frozen=True)
class NodeTemplate:
    """A node template: what was written, by property, capability, attribute and operation."""

    name: str
    type: str
    position: Cursor
    properties: Mapping[str, Cursor] = field(default_factory=dict)
    capabilities: Mapping[str, Mapping[str, Cursor]] = field(default_factory=dict)
    inputs: Mapping[str, Cursor] = field(default_factory=dict)  # of Standard.configure
    implementation: str | None = None  # of Standard.configure
    requirements: tuple[Requirement, ...] = ()
    attributes: Mapping[str, Cursor] = field(default_factory=dict)
    operations: Mapping[str, OperationAssignment] = field(default_factory=dict)
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)  # those of its type too

    def targets(self, requirement: str) -> tuple[str, ...]:
        return tuple(r.target for r in self.requirements if r.name == requirement)


@dataclass(frozen=True)
class Group:
    name: str
    type: str
    position: Cursor
    members: tuple[str, ...]
    properties: Mapping[str, Cursor] = field(default_factory=dict)


@dataclass(frozen=True)
class Policy:
    name: str
    type: str
    position: Cursor
    targets: tuple[str, ...]  # groups already replaced by their members
    properties: Mapping[str, Cursor] = field(default_factory=dict)


@dataclass(frozen=True)
class Topology:
    """A whole template, ready to be evaluated."""

    library: Library
    description: str
    inputs: Mapping[str, InputDeclaration]
    templates: Mapping[str, NodeTemplate]
    policies: tuple[Policy, ...] = ()
    outputs: Mapping[str, Cursor] = field(default_factory=dict)
    imports: tuple[tuple[str, str], ...] = ()
    groups: tuple[Group, ...] = ()
    relationships: Mapping[str, RelationshipTemplate] = field(default_factory=dict)
    substitution: Cursor | None = None
    broken: frozenset[str] = frozenset()  # node templates that are left out, and reported
    broken_inputs: frozenset[str] = frozenset()
    circular: bool = False  # requirements lead in a circle, which is reported

    def hosts_of(self, name: str) -> Iterator[NodeTemplate]:
        """The template itself, what it is hosted on, and so on down to the machine."""
        seen: set[str] = set()
        while name in self.templates and name not in seen:
            seen.add(name)
            template = self.templates[name]
            yield template
            name = next((r.target for r in template.requirements if self.hosts(r)), "")

    def hosts(self, requirement: Requirement) -> bool:
        return self.library.derives("relationship_types", requirement.relationship_type, HOSTED_ON)

    def machine_of(self, name: str) -> NodeTemplate | None:
        """The Compute template that ``name`` ends up on; itself if it is one."""
        chain = self.hosts_of(name)
        return next((t for t in chain if self.library.is_host(t.type)), None)


@dataclass(frozen=True)
class Reference:
    """What get_property or get_attribute names: a template, what of it, and words that follow."""

    template: str
    name: str
    rest: tuple[Any, ...] = ()
    capability: str = ""
