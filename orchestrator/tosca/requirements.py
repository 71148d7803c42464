"""Requirements: who leads to whom, whether it fits, and that nothing goes in a circle."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import Library, RequirementDefinition
from orchestrator.tosca.problems import did_you_mean, listed, shown
from orchestrator.tosca.read import Table
from orchestrator.tosca.topology import NodeTemplate, Requirement, Topology


def requirements(
    template: NodeTemplate,
    templates: Mapping[str, NodeTemplate],
    names: tuple[str, ...],
    library: Library,
) -> NodeTemplate:
    """``template`` with its requirements, each led to its target and checked.

    ``names`` are all node templates that were written, ``templates`` those that are sound.
    """
    definitions = library.requirements(template.type)
    found: list[Requirement] = []
    written: dict[str, int] = {}
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
        written[name] = written.get(name, 0) + 1
        target = _target(position, names, library)
        if target is None or target not in templates:
            continue
        if _fits(position, template, templates[target], definition, library):
            found.append(Requirement(definition, target, position))
    for definition in definitions.values():
        _occurrences(template, definition, written.get(definition.name, 0), templates, library)
    return dataclasses.replace(template, requirements=tuple(found))


def _relationship(cursor: Cursor | None, library: Library) -> None:
    """A relationship named in a template must be of a type that is known."""
    if cursor is None:
        return
    named = cursor.get("type") if isinstance(cursor.tree, Table) else cursor
    if named is None:
        cursor.problem_at_key("The relationship has no `type`.")
    elif (name := named.text()) is not None and not library.has("relationship_types", name):
        hint = did_you_mean(name, library.names("relationship_types"))
        named.problem(f"There is no relationship type {shown(name)}.", hint)


def _target(position: Cursor, names: tuple[str, ...], library: Library) -> str | None:
    named: Cursor | None = position
    if isinstance(position.tree, Table):
        keys = position.table(
            ("node", "capability", "relationship", "occurrences", "node_filter", "properties")
        )
        if "node_filter" in keys:
            keys["node_filter"].problem_at_key("Vacuo does not know `node_filter` yet.")
        _relationship(keys.get("relationship"), library)
        named = keys.get("node")
    if named is None or named.empty:
        position.problem_at_key(
            f"The requirement {shown(position.name)} leads nowhere.", "Name a node template."
        )
        return None
    name = named.text()
    if name is not None and name not in names:
        named.problem(f"There is no node template {shown(name)}.", did_you_mean(name, names))
        return None
    return name


def _fits(
    position: Cursor,
    template: NodeTemplate,
    target: NodeTemplate,
    definition: RequirementDefinition,
    library: Library,
) -> bool:
    """Whether the target is of the type, and has the capability, that is required."""
    wanted = definition.node
    if wanted and not library.derives("node_types", target.type, wanted):
        position.problem(
            f"{shown(template.name)} needs a {shown(wanted)} as its {shown(definition.name)}; "
            f"{shown(target.name)} is a {shown(target.type)}."
        )
        return False
    provided = library.capabilities(target.type).values()
    if any(library.derives("capability_types", one, definition.capability) for one in provided):
        return True
    position.problem(
        f"{shown(target.name)} has no capability {shown(definition.capability)}, which the "
        f"requirement {shown(definition.name)} of {shown(template.name)} needs."
    )
    return False


def _occurrences(
    template: NodeTemplate,
    definition: RequirementDefinition,
    count: int,
    templates: Mapping[str, NodeTemplate],
    library: Library,
) -> None:
    at = template.position.get("requirements") or template.position
    if count < definition.least:
        wanted = definition.node
        fitting = (
            other.name
            for other in templates.values()
            if wanted and library.derives("node_types", other.type, wanted)
        )
        hint = next((f"Add `- {definition.name}: {name}`." for name in fitting), "")
        sentence = f"{shown(template.name)} lacks the requirement {shown(definition.name)}"
        at.problem_at_key(f"{sentence}, a {shown(wanted or definition.capability)}.", hint)
    elif definition.most is not None and count > definition.most:
        sentence = f"{shown(template.name)} has the requirement {shown(definition.name)} {count}"
        at.problem_at_key(f"{sentence} times; {definition.most} is the most.")


def check_graph(topology: Topology) -> None:
    """Reports requirements that go in a circle, and services that end up on no machine."""
    edges = {
        name: [requirement.target for requirement in template.requirements]
        for name, template in topology.templates.items()
    }
    cycle = find_cycle(edges)
    if cycle:
        position = topology.templates[cycle[0]].position
        position.problem_at_key(f"The requirements go in a circle: {' → '.join(cycle)}.")
        return
    for name, template in topology.templates.items():
        hosted = [
            requirement for requirement in template.requirements if topology.hosts(requirement)
        ]
        if len(hosted) > 1:
            hosted[1].position.problem(f"{shown(name)} is hosted on two things at once.")
        elif topology.machine_of(name) is None and hosted:
            hosted[0].position.problem(f"{shown(name)} does not end up on a tosca.nodes.Compute.")


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
