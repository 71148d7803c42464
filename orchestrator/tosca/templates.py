"""Node templates and relationship templates: what is written, against what their types have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from orchestrator.tosca.artifacts import Artifact, check_artifacts
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.declared import Schema
from orchestrator.tosca.definitions import Library
from orchestrator.tosca.header import metadata
from orchestrator.tosca.interfaces import OperationAssignment, assignments
from orchestrator.tosca.problems import did_you_mean, listed, shown
from orchestrator.tosca.read import Listing, Table, Tree
from orchestrator.tosca.topology import NodeTemplate, RelationshipTemplate
from orchestrator.tosca.type_names import check_occurrences, known_type

_NODE = ("type", "description", "metadata", "properties", "requirements", "capabilities",
         "interfaces", "artifacts", "attributes", "directives", "node_filter", "copy")  # fmt: skip
_RELATIONSHIP = ("type", "description", "metadata", "properties", "attributes", "interfaces",
                 "copy")  # fmt: skip
_DIRECTIVES = {
    "select": "takes a node that exists already", "selectable": "takes a node that exists already",
    "substitute": "puts another template in its place",
    "substitutable": "puts another template in its place",
}  # fmt: skip
CONFIGURE = "Standard.configure"


def node_template(
    position: Cursor,
    library: Library,
    siblings: Mapping[str, Cursor],
    repositories: Collection[str],
) -> NodeTemplate | None:
    """The node template at ``position``; None where its type is unknown, which is reported."""
    read = _start(position, "node template", "node_types", _NODE, siblings, library)
    if read is None:
        return None
    position, keys, node_type = read
    if _is_selected(keys):
        return None
    properties = library.properties("node_types", node_type)
    given = known(keys.get("properties"), properties, "property", node_type)
    required(position, given, properties, node_type)
    attributes = library.attributes(node_type)
    operations: dict[str, OperationAssignment] = {}
    if "interfaces" in keys:
        interfaces = library.interfaces("node_types", node_type)
        operations = assignments(keys["interfaces"], node_type, interfaces)
    configure = operations.get(CONFIGURE)
    artifacts = _artifacts(keys.get("artifacts"), node_type, repositories, library)
    implementation = configure.written if configure else None
    if implementation in artifacts:
        implementation = artifacts[implementation].file
    return NodeTemplate(
        name=position.name,
        type=node_type,
        position=position,
        properties=given,
        capabilities=_capabilities(keys.get("capabilities"), node_type, library),
        inputs=configure.inputs if configure else {},
        implementation=implementation,
        attributes=known(keys.get("attributes"), attributes, "attribute", node_type),
        operations=operations,
        artifacts=artifacts,
    )


def relationship_template(
    position: Cursor, library: Library, siblings: Mapping[str, Cursor] | None = None
) -> RelationshipTemplate | None:
    """The relationship template at ``position``, one of ``siblings``, or one that is written
    inside a requirement; None where its type is unknown, which is reported."""
    kind = "relationship_types"
    read = _start(position, "relationship", kind, _RELATIONSHIP, siblings or {}, library)
    if read is None:
        return None
    position, keys, name = read
    properties = library.properties(kind, name)
    given = known(keys.get("properties"), properties, "property", name)
    required(position, given, properties, name)
    known(keys.get("attributes"), library.attributes(name, kind), "attribute", name)
    operations: dict[str, OperationAssignment] = {}
    if "interfaces" in keys:
        operations = assignments(keys["interfaces"], name, library.interfaces(kind, name))
    return RelationshipTemplate(position.name, name, position, given, operations)


def _start(
    position: Cursor,
    what: str,
    kind: str,
    allowed: tuple[str, ...],
    siblings: Mapping[str, Cursor],
    library: Library,
) -> tuple[Cursor, dict[str, Cursor], str] | None:
    """The template with what it copies, its keys, and the full name of its type."""
    if not isinstance(position.tree, Table):
        position.problem_at_key(
            f"The {what} {shown(position.name)} must be a mapping with a `type`."
        )
        return None
    copy = _copied(position, siblings)
    if copy is None:
        return None
    position = copy
    keys = position.table(allowed)
    for key in ("metadata",):
        if key in keys:
            metadata(keys[key])
    if "description" in keys and not keys["description"].empty:
        keys["description"].text()
    name = type_of(position, kind, library)
    return (position, keys, name) if name is not None else None


def type_of(position: Cursor, kind: str, library: Library) -> str | None:
    """The full name of the type of something; None where it is not known as a whole."""
    cursor = position.get("type")
    if cursor is None or cursor.empty:
        position.problem_at_key(f"{shown(position.name)} has no `type`.")
        return None
    name = known_type(cursor, kind, library)
    return name if name is not None and library.whole(kind, name) else None


# --- copy ----------------------------------------------------------------------------------------


def _copied(position: Cursor, siblings: Mapping[str, Cursor]) -> Cursor | None:
    """What is written over what it copies; None where that is nothing, which is reported."""
    copied = position.get("copy")
    if copied is None:
        return position
    name = copied.text()
    source = siblings.get(name) if name is not None else None
    if name is not None and source is None:
        hint = did_you_mean(name, siblings)
        copied.problem(f"There is no template {shown(name)} to copy.", hint)
    elif source is not None and source.get("copy") is not None:
        copied.problem(
            f"{shown(name)} is itself a copy, and may not be copied.", "Copy the original."
        )
    elif source is not None and isinstance(source.tree, Table):
        return position.replaced(_over(source.tree, position.tree))
    return None


def _over(below: Tree, above: Tree) -> Tree:
    """Mappings laid over one another, entry by entry; anything else takes the place of what was."""
    if not isinstance(below, Table) or not isinstance(above, Table):
        return above
    entries = dict(below.entries)
    for key, (mark, tree) in above.entries.items():
        merged = _over(entries[key][1], tree) if key in entries else tree
        entries[key] = (mark, merged)
    return Table(above.mark, entries)


# --- parts ---------------------------------------------------------------------------------------


def _is_selected(keys: Mapping[str, Cursor]) -> bool:
    """Whether a node is not to be made as it is written, which is reported."""
    directives = keys.get("directives")
    refused = False
    for item in directives.items() if directives is not None else ():
        word = item.text()
        if word is None:
            continue
        refused = True
        if word in _DIRECTIVES:
            sentence = f"The directive {shown(word)} {_DIRECTIVES[word]}, which Vacuo does not do."
            item.problem(sentence, "Write the node as it is to be made, without `directives`.")
        else:
            item.problem(f"There is no directive {shown(word)}.", did_you_mean(word, _DIRECTIVES))
    if "node_filter" in keys and not refused:
        keys["node_filter"].problem_at_key(
            "A `node_filter` of a node template goes with the directive `select`, which Vacuo does "
            "not follow.",
            "Write it inside a requirement.",
        )
    return refused


def known(cursor: Cursor | None, names: Mapping[str, Any], what: str, of: str) -> dict[str, Cursor]:
    """The entries of a section, of which each must be known."""
    found = {}
    for name, inner in (cursor.table() if cursor else {}).items():
        if name in names:
            found[name] = inner
        else:
            hint = did_you_mean(name, names) or (
                f"It has {listed(sorted(names))}." if names else ""
            )
            inner.problem_at_key(f"{shown(of)} has no {what} {shown(name)}.", hint)
    return found


def required(
    position: Cursor, given: Mapping[str, Cursor], schemas: Mapping[str, Schema], of: str
) -> None:
    """Reports the properties that lack."""
    for name, one in schemas.items():
        if one.required and not one.has_default and name not in given:
            position.problem_at_key(
                f"{shown(position.name)} lacks the property {shown(name)}, which {shown(of)} "
                "requires.",
                one.description,
            )


def _capabilities(
    cursor: Cursor | None, node_type: str, library: Library
) -> dict[str, dict[str, Cursor]]:
    types = library.capabilities(node_type)
    found = {}
    for name, capability in known(cursor, types, "capability", node_type).items():
        keys = capability.table(("properties", "attributes", "occurrences", "directives"))
        if "occurrences" in keys:
            check_occurrences(keys["occurrences"])
        what = f"{node_type}.{name}"
        schemas = library.capability_properties(node_type, name)
        found[name] = known(keys.get("properties"), schemas, "property", what)
        if "properties" in keys:
            required(capability, found[name], schemas, what)
        attributes = library.capability_properties(node_type, name, "attributes")
        known(keys.get("attributes"), attributes, "attribute", what)
    return found


def _artifacts(
    section: Cursor | None, node_type: str, repositories: Collection[str], library: Library
) -> dict[str, Artifact]:
    written: dict[str, Any] = library.artifacts(node_type)
    if section is not None and not isinstance(section.tree, Listing):
        sound = check_artifacts(section, repositories, library)
        written = {**written, **{name: one.value for name, one in sound.items()}}
    elif section is not None:
        section.table()
    return {name: Artifact.parse(name, one) for name, one in written.items()}
