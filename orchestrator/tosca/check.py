"""From a document to a :class:`Topology`: every structural mistake is found and reported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import Library, configure_of
from orchestrator.tosca.header import top
from orchestrator.tosca.imports import NOTHING, Shelf, imported_types
from orchestrator.tosca.local_types import configure, local_types, schema
from orchestrator.tosca.problems import START, did_you_mean, listed, shown
from orchestrator.tosca.read import Scalar, Table, tree_of
from orchestrator.tosca.requirements import check_graph, requirements
from orchestrator.tosca.topology import InputDeclaration, NodeTemplate, Policy, Topology

_TOPOLOGY = ("description", "inputs", "node_templates", "groups", "policies", "outputs")
_NOT_YET = ("relationship_templates", "substitution_mappings", "workflows")
_TEMPLATE = ("type", "description", "metadata", "properties", "requirements", "capabilities",
             "interfaces")  # fmt: skip
_TEMPLATE_NOT_YET = ("directives", "artifacts", "attributes", "node_filter", "copy")


def header(
    root: Cursor, base: Library, shelf: Shelf = NOTHING, origin: str = ""
) -> tuple[Library | None, tuple[tuple[str, str], ...]]:
    """Version, imports and the template's own types: the types it may use, None where they are
    not known; and what was imported.  Raises :class:`ImportsNeeded`."""
    if top(root) is None:
        return None, ()
    library, imports = imported_types(root, base, shelf, origin)
    return (local_types(root, library) if library else None), imports


def inputs(
    topology: Cursor | None, library: Library, given: Mapping[str, Any], root: Cursor
) -> dict[str, InputDeclaration]:
    """The declared inputs with what was given for them."""
    section = topology.get("inputs") if topology else None
    found: dict[str, InputDeclaration] = {}
    declared = section.table() if section else {}
    for name, declaration in declared.items():
        definition = schema(declaration, library)
        if definition is None:
            continue
        source = declaration.get("default")
        if name in given:
            parameter = Cursor(
                tree_of(given[name], declaration.key),
                ("parameters", name),
                declaration.report,
                declaration.key,
            )
            source = None if given[name] is None else parameter
        if definition.required and (source is None or source.empty):
            declaration.problem_at_key(
                f"The input {shown(name)} needs a value.",
                f"Give one as a parameter, `-p {name}=…`, or write a `default`.",
            )
        found[name] = InputDeclaration(definition, declaration, source)
    for name in given:
        if name not in declared:
            hint = did_you_mean(name, declared) or f"It has {listed(declared) or 'none'}."
            mark = section.key if section else START
            place = Cursor(Scalar(mark, None, ""), ("parameters", name), root.report, mark)
            place.problem_at_key(f"The template has no input {shown(name)}.", hint)
    return found


def topology(
    root: Cursor, library: Library, given: Mapping[str, Any], imports: tuple[tuple[str, str], ...]
) -> Topology:
    """The checked topology; what is broken is left out of it and reported."""
    section = root.get("topology_template")
    keys: dict[str, Cursor] = {}
    if section is None or section.empty:
        root.problem("The template has no `topology_template`.")
        section = None
    else:
        for name in _NOT_YET:
            if (unused := section.get(name)) is not None and not unused.empty:
                unused.problem_at_key(f"Vacuo does not know `{name}` yet.", "Leave it out.")
        keys = section.table((*_TOPOLOGY, *_NOT_YET))
    declared = inputs(section, library, given, root)
    nodes = keys["node_templates"].table() if "node_templates" in keys else {}
    if section is not None and not nodes:
        section.problem_at_key("The template has no `node_templates`: there is nothing to make.")
    found = {name: _node(position, library) for name, position in nodes.items()}
    templates = {name: template for name, template in found.items() if template}
    linked = {
        name: requirements(template, templates, tuple(nodes), library)
        for name, template in templates.items()
    }
    groups = _groups(keys.get("groups"), tuple(nodes), library)
    result = Topology(
        library=library,
        description=_description(root, section),
        inputs=declared,
        templates=linked,
        policies=_policies(keys.get("policies"), tuple(nodes), groups, library),
        outputs=_outputs(keys.get("outputs")),
        imports=imports,
        broken=frozenset(nodes) - frozenset(linked),
    )
    if not result.broken:
        check_graph(result)
    return result


def _description(root: Cursor, section: Cursor | None) -> str:
    written = (root.get("description"), section.get("description") if section else None)
    texts = [one.text() or "" for one in written if one is not None and not one.empty]
    return " ".join(next(iter(texts), "").split())


def _node(position: Cursor, library: Library) -> NodeTemplate | None:
    if not isinstance(position.tree, Table):
        position.problem_at_key(
            f"The node template {shown(position.name)} must be a mapping with a `type`."
        )
        return None
    for name in _TEMPLATE_NOT_YET:
        if (unused := position.get(name)) is not None and not unused.empty:
            unused.problem_at_key(f"Vacuo does not know `{name}` of a node template yet.")
    keys = position.table((*_TEMPLATE, *_TEMPLATE_NOT_YET))
    node_type = _type(position, "node_types", library)
    if node_type is None:
        return None
    properties = library.properties("node_types", node_type)
    given = _known(keys.get("properties"), properties, "property", node_type)
    for name, one in properties.items():
        if one.required and not one.has_default and name not in given:
            position.problem_at_key(
                f"{shown(position.name)} lacks the property {shown(name)}, which "
                f"{shown(node_type)} requires.",
                one.description,
            )
    implementation, written = None, None
    if "interfaces" in keys:
        before = position.report.count
        written = configure(keys["interfaces"])
        if position.report.count == before:
            implementation = configure_of(keys["interfaces"].value).implementation
    return NodeTemplate(
        name=position.name,
        type=node_type,
        position=position,
        properties=given,
        capabilities=_capabilities(keys.get("capabilities"), node_type, library),
        inputs=written.table() if written else {},
        implementation=implementation,
    )


def _type(position: Cursor, kind: str, library: Library) -> str | None:
    cursor = position.get("type")
    if cursor is None or cursor.empty:
        position.problem_at_key(f"{shown(position.name)} has no `type`.")
        return None
    name = cursor.text()
    if name is not None and not library.has(kind, name):
        what = kind.removesuffix("s").replace("_", " ")
        hint = did_you_mean(name, library.names(kind))
        if not hint and name.startswith("vacuo."):
            hint = "Import `vacuo/types.yaml`."
        cursor.problem(f"There is no {what} {shown(name)}.", hint)
        return None
    return name


def _known(
    cursor: Cursor | None, known: Mapping[str, Any], what: str, of: str
) -> dict[str, Cursor]:
    """The entries of a section, of which each must be known."""
    found = {}
    for name, inner in (cursor.table() if cursor else {}).items():
        if name in known:
            found[name] = inner
        else:
            hint = did_you_mean(name, known) or (
                f"It has {listed(sorted(known))}." if known else ""
            )
            inner.problem_at_key(f"{shown(of)} has no {what} {shown(name)}.", hint)
    return found


def _capabilities(
    cursor: Cursor | None, node_type: str, library: Library
) -> dict[str, dict[str, Cursor]]:
    types = library.capabilities(node_type)
    found = {}
    for name, capability in _known(cursor, types, "capability", node_type).items():
        keys = capability.table(("properties", "attributes", "occurrences"))
        properties = library.properties("capability_types", types[name])
        what = f"{node_type}.{name}"
        found[name] = _known(keys.get("properties"), properties, "property", what)
    return found


def _groups(
    cursor: Cursor | None, nodes: tuple[str, ...], library: Library
) -> dict[str, tuple[str, ...]]:
    found = {}
    for name, group in (cursor.table() if cursor else {}).items():
        keys = group.table(("type", "description", "metadata", "properties", "members"))
        group_type = _type(group, "group_types", library)
        if group_type is not None:
            properties = library.properties("group_types", group_type)
            _known(keys.get("properties"), properties, "property", group_type)
        found[name] = _named(keys.get("members"), nodes, {})
    return found


def _named(
    cursor: Cursor | None, nodes: tuple[str, ...], groups: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """The node templates that a list names, by themselves or through a group."""
    found: dict[str, None] = {}
    for item in cursor.items() if cursor else ():
        name = item.text()
        if name is None:
            continue
        if name in groups:
            found |= dict.fromkeys(groups[name])
        elif name in nodes:
            found[name] = None
        else:
            hint = did_you_mean(name, (*nodes, *groups))
            item.problem(f"There is no node template {shown(name)}.", hint)
    return tuple(found)


def _policies(
    cursor: Cursor | None,
    nodes: tuple[str, ...],
    groups: Mapping[str, tuple[str, ...]],
    library: Library,
) -> tuple[Policy, ...]:
    found = []
    for item in cursor.items() if cursor else ():
        position = item.pair("A policy")
        if position is None:
            continue
        keys = position.table(
            ("type", "description", "metadata", "properties", "targets", "triggers")
        )
        if "triggers" in keys and not keys["triggers"].empty:
            keys["triggers"].problem_at_key("Vacuo does not know `triggers` yet.")
        policy_type = _type(position, "policy_types", library)
        if policy_type is None:
            continue
        properties = library.properties("policy_types", policy_type)
        given = _known(keys.get("properties"), properties, "property", policy_type)
        targets = _named(keys.get("targets"), nodes, groups)
        for name, one in properties.items():
            if one.required and not one.has_default and name not in given:
                position.problem_at_key(f"{shown(position.name)} lacks the property {shown(name)}.")
        found.append(Policy(position.name, policy_type, position, targets, given))
    return tuple(found)


def _outputs(cursor: Cursor | None) -> dict[str, Cursor]:
    found = {}
    for name, output in (cursor.table() if cursor else {}).items():
        value = output.table(("description", "value", "type")).get("value")
        if value is None or value.empty:
            output.problem_at_key(f"The output {shown(name)} has no `value`.")
        else:
            found[name] = value
    return found
