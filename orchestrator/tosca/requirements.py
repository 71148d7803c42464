"""Requirements: who leads to whom, whether it fits, and that nothing goes in a circle."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.declared import RequirementDefinition
from orchestrator.tosca.definitions import SERVICE, Library
from orchestrator.tosca.filters import check_filter
from orchestrator.tosca.problems import did_you_mean, listed, shown
from orchestrator.tosca.read import Scalar, Table
from orchestrator.tosca.templates import relationship_template
from orchestrator.tosca.topology import NodeTemplate, RelationshipTemplate, Requirement, Topology
from orchestrator.tosca.type_names import check_occurrences, known_type

_KEYS = ("node", "capability", "relationship", "occurrences", "node_filter", "properties",
         "metadata", "description")  # fmt: skip
_DEPENDS = "tosca.relationships.DependsOn"


@dataclass(frozen=True)
class Wanted:
    """A requirement as a template writes it.  ``node`` is the template it names, None where one
    is to be found by ``node_type``, ``capability`` and ``node_filter``."""

    source: str
    definition: RequirementDefinition
    position: Cursor
    node: str | None = None
    node_type: str | None = None
    capability: str | None = None  # the name of a capability of the target, or a type of one
    relationship: RelationshipTemplate | None = None
    node_filter: Cursor | None = None
    most: int | None = 1  # how many may be found


@dataclass
class Assignments:
    """The requirements of all templates: those that name their targets, and those to be found."""

    templates: dict[str, NodeTemplate]
    open: list[Wanted] = field(default_factory=list)
    written: dict[tuple[str, str], int] = field(default_factory=dict)


class RequirementReader:
    """Reads the requirements of node templates.

    ``names`` are all node templates that were written, ``templates`` those that are sound,
    ``relationships`` the relationship templates, None for those that are not.
    """

    def __init__(
        self,
        library: Library,
        names: tuple[str, ...],
        templates: Mapping[str, NodeTemplate],
        relationships: Mapping[str, RelationshipTemplate | None],
    ) -> None:
        self._library = library
        self._names = names
        self._templates = templates
        self._relationships = relationships
        self._read = Assignments(dict(templates))

    def assignments(self) -> Assignments:
        for name, template in self._templates.items():
            found = tuple(self._of(template))
            self._read.templates[name] = dataclasses.replace(template, requirements=found)
        for template in self._templates.values():
            self._enough(template)
        return self._read

    def _of(self, template: NodeTemplate) -> Iterable[Requirement]:
        definitions = self._library.requirements(template.type)
        section = template.position.get("requirements")
        for item in section.items() if section else ():
            position = item.pair("A requirement")
            if position is None:
                continue
            name = position.name
            definition = definitions.get(name)
            if definition is None:
                hint = did_you_mean(name, definitions) or f"It has {listed(definitions)}."
                sentence = f"{shown(template.type)} has no requirement {shown(name)}."
                position.problem_at_key(sentence, hint)
                continue
            key = (template.name, name)
            self._read.written[key] = self._read.written.get(key, 0) + 1
            wanted = self._wanted(template, definition, position)
            if wanted is None:
                continue
            if wanted.node is None:
                self._read.open.append(wanted)
            elif wanted.node in self._templates:
                target = self._templates[wanted.node]
                if (found := fitting(wanted, template, target, self._library)) is not None:
                    yield found

    def _wanted(
        self, template: NodeTemplate, definition: RequirementDefinition, position: Cursor
    ) -> Wanted | None:
        wanted = Wanted(template.name, definition, position, node_type=definition.node)
        if not isinstance(position.tree, Table):
            return self._node(wanted, None if position.empty else position, position)
        keys = position.table(_KEYS)
        before = position.report.count
        relationship = keys.get("relationship")
        occurrences = check_occurrences(keys["occurrences"]) if "occurrences" in keys else None
        capability = keys["capability"].text() if "capability" in keys else None
        if "node_filter" in keys:
            check_filter(keys["node_filter"])
        wanted = dataclasses.replace(
            wanted,
            capability=capability,
            relationship=self._relationship(relationship, definition),
            node_filter=keys.get("node_filter"),
            most=occurrences[1] if occurrences else 1,
        )
        return (
            self._node(wanted, keys.get("node"), position)
            if position.report.count == before
            else None
        )

    def _node(self, wanted: Wanted, named: Cursor | None, position: Cursor) -> Wanted | None:
        """Who is named: a node template, or a type of node."""
        if named is None or named.empty:
            if wanted.node_filter is None and wanted.capability is None:
                position.problem_at_key(
                    f"The requirement {shown(position.name)} leads nowhere.",
                    "Name a node template.",
                )
                return None
            return wanted
        name = named.text()
        if name is None:
            return None
        if name in self._names:
            return dataclasses.replace(wanted, node=name)
        if self._library.has("node_types", name):
            node_type = self._library.canonical("node_types", name)
            return dataclasses.replace(wanted, node_type=node_type)
        named.problem(f"There is no node template {shown(name)}.", did_you_mean(name, self._names))
        return None

    def _relationship(
        self, cursor: Cursor | None, definition: RequirementDefinition
    ) -> RelationshipTemplate | None:
        """A relationship template, the name of one or of a type, or one written here."""
        if cursor is None or cursor.empty:
            return None
        if isinstance(cursor.tree, Table):
            return relationship_template(_typed(cursor, definition), self._library)
        name = cursor.text()
        if name is None:
            return None
        if name in self._relationships:
            return self._relationships[name]
        if not self._library.has("relationship_types", name) and did_you_mean(
            name, self._relationships
        ):
            hint = did_you_mean(name, self._relationships)
            cursor.problem(f"There is no relationship template {shown(name)}.", hint)
            return None
        kind = known_type(cursor, "relationship_types", self._library)
        return RelationshipTemplate(name, kind, cursor) if kind is not None else None

    def _enough(self, template: NodeTemplate) -> None:
        for definition in self._library.requirements(template.type).values():
            self._occurrences(template, definition)

    def _occurrences(self, template: NodeTemplate, definition: RequirementDefinition) -> None:
        count = self._read.written.get((template.name, definition.name), 0)
        at = template.position.get("requirements") or template.position
        if count < definition.least and self._is_needed(template, definition):
            wanted = definition.node
            fit = (
                other.name
                for other in self._templates.values()
                if wanted
                and other is not template
                and self._library.derives("node_types", other.type, wanted)
            )
            hint = next((f"Add `- {definition.name}: {name}`." for name in fit), "")
            sentence = f"{shown(template.name)} lacks the requirement {shown(definition.name)}"
            at.problem_at_key(f"{sentence}, a {shown(wanted or definition.capability)}.", hint)
        elif definition.most is not None and count > definition.most:
            sentence = (
                f"{shown(template.name)} has the requirement {shown(definition.name)} {count}"
            )
            at.problem_at_key(f"{sentence} times; {definition.most} is the most.")

    def _is_needed(self, template: NodeTemplate, definition: RequirementDefinition) -> bool:
        """TOSCA counts one where a type does not count, and lets an orchestrator meet what is
        left open: real templates leave hosts out of what is to be set up anywhere."""
        return definition.counted or self._library.derives("node_types", template.type, SERVICE)


def _typed(cursor: Cursor, definition: RequirementDefinition) -> Cursor:
    """A relationship that is written in a requirement without a type has that of the definition."""
    if not isinstance(cursor.tree, Table) or "type" in cursor.tree.entries:
        return cursor
    kind = Scalar(cursor.key, definition.relationship, definition.relationship)
    entries = {"type": (cursor.key, kind), **cursor.tree.entries}
    return cursor.replaced(Table(cursor.tree.mark, entries))


def fitting(
    wanted: Wanted, template: NodeTemplate, target: NodeTemplate, library: Library
) -> Requirement | None:
    """The requirement as met by ``target``; None, and reported, where it does not fit."""
    definition, position = wanted.definition, wanted.position
    of_type = wanted.node_type or definition.node
    if of_type and not library.derives("node_types", target.type, of_type):
        position.problem(
            f"{shown(template.name)} needs a {shown(of_type)} as its {shown(definition.name)}; "
            f"{shown(target.name)} is a {shown(target.type)}."
        )
        return None
    capability = provider(wanted, target, library)
    if capability is None:
        needed = wanted.capability or definition.capability
        known = library.capabilities(target.type)
        position.problem(
            f"{shown(target.name)} has no capability {shown(needed)}, which the requirement "
            f"{shown(definition.name)} of {shown(template.name)} needs.",
            did_you_mean(needed, known) if wanted.capability else "",
        )
        return None
    sources = library.valid_sources(target.type, capability)
    if sources and not any(library.derives("node_types", template.type, one) for one in sources):
        position.problem(
            f"The capability {shown(capability)} of {shown(target.name)} serves "
            f"{listed(map(shown, sources))}; {shown(template.name)} is a {shown(template.type)}."
        )
        return None
    if wanted.relationship is not None and not _relates(wanted, target, capability, library):
        return None
    named = capability if wanted.capability else ""
    return Requirement(definition, target.name, position, wanted.relationship, named)


def provider(wanted: Wanted, target: NodeTemplate, library: Library) -> str | None:
    """The capability of ``target`` that meets the requirement: by name, else by type."""
    provided = library.capabilities(target.type)
    needed = wanted.definition.capability

    def meets(name: str, kind: str) -> bool:
        if wanted.capability not in (None, name) and not library.derives(
            "capability_types", kind, str(wanted.capability)
        ):
            return False
        # A definition may name a capability of its node by its name, too.
        return name == needed or library.derives("capability_types", kind, needed)

    fit = [name for name, kind in provided.items() if meets(name, kind)]
    for name in fit:  # one that is meant for such a source, before others
        if not library.valid_sources(target.type, name):
            return name
    return fit[0] if fit else None


def _relates(wanted: Wanted, target: NodeTemplate, capability: str, library: Library) -> bool:
    relationship = wanted.relationship
    assert relationship is not None
    of = wanted.definition.relationship
    kind = "relationship_types"
    if of != _DEPENDS and not library.derives(kind, relationship.type, of):
        relationship.position.problem_at_key(
            f"{shown(wanted.definition.name)} is a {shown(of)}, which {shown(relationship.type)} "
            "does not derive from."
        )
        return False
    valid = library.listed(kind, relationship.type, "valid_target_types")
    provided = library.capabilities(target.type)[capability]
    if not valid or any(library.derives("capability_types", provided, one) for one in valid):
        return True
    relationship.position.problem_at_key(
        f"A {shown(relationship.type)} leads to {listed(map(shown, valid))}; the capability "
        f"{shown(capability)} of {shown(target.name)} is a {shown(provided)}."
    )
    return False


def check_graph(topology: Topology) -> bool:
    """Reports requirements that go in a circle, and services that end up on no machine; False
    where there is a circle."""
    edges = {
        name: [requirement.target for requirement in template.requirements]
        for name, template in topology.templates.items()
    }
    cycle = find_cycle(edges)
    if cycle:
        position = topology.templates[cycle[0]].position
        position.problem_at_key(f"The requirements go in a circle: {' → '.join(cycle)}.")
        return False
    for name, template in topology.templates.items():
        hosted = [r for r in template.requirements if topology.hosts(r)]
        machines = {machine.name for r in hosted if (machine := topology.machine_of(r.target))}
        if len(machines) > 1:
            hosted[1].position.problem(f"{shown(name)} is hosted on two things at once.")
        elif hosted and not topology.broken and topology.machine_of(name) is None:
            hosted[0].position.problem(f"{shown(name)} does not end up on a tosca.nodes.Compute.")
    return True


def find_cycle(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """A cycle as the names on it, the first one again at the end; empty where there is none."""
    done: set[str] = set()
    for start in edges:
        path: list[str] = []
        stack = [(start, iter(edges.get(start, ())))] if start not in done else []
        if stack:
            path.append(start)
        while stack:
            _, following = stack[-1]
            target = next(following, None)
            if target is None:
                stack.pop()
                done.add(path.pop())
            elif target in path:
                return [*path[path.index(target) :], target]
            elif target not in done and target in edges:
                path.append(target)
                stack.append((target, iter(edges[target])))
    return []
