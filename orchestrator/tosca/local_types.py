"""Checks of the types that a document brings, a template or an imported one.

What passes here is well formed, so that :mod:`orchestrator.tosca.definitions` can take it as it
is.
"""

from __future__ import annotations

from orchestrator.tosca.artifacts import check_artifacts
from orchestrator.tosca.constraints import check_constraint
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.declared import BASIC
from orchestrator.tosca.definitions import KINDS, LINEAGE, Library
from orchestrator.tosca.filters import check_filter
from orchestrator.tosca.interfaces import check_definitions
from orchestrator.tosca.problems import did_you_mean, shown
from orchestrator.tosca.read import Scalar, Table
from orchestrator.tosca.schemas import PROPERTY_KEYS, basic_type, entry_schema, schema
from orchestrator.tosca.self_references import check_self_references
from orchestrator.tosca.type_names import check_occurrences, known_type, known_types

_COMMON = ("derived_from", "version", "metadata", "description")
_KEYS = {
    "node_types": (
        *_COMMON, "properties", "attributes", "requirements", "capabilities", "interfaces",
        "artifacts",
    ),
    "capability_types": (*_COMMON, "properties", "attributes", "valid_source_types"),
    "relationship_types": (
        *_COMMON, "properties", "attributes", "interfaces", "valid_target_types",
    ),
    "policy_types": (*_COMMON, "properties", "targets", "triggers"),
    "group_types": (
        *_COMMON, "properties", "attributes", "members", "interfaces", "capabilities",
        "requirements",
    ),
    "data_types": (*_COMMON, "properties", "constraints", "entry_schema", "key_schema", "type"),
    "artifact_types": (*_COMMON, "properties", "mime_type", "file_ext"),
}  # fmt: skip
_REQUIREMENT_KEYS = ("capability", "node", "relationship", "occurrences", "description",
                     "node_filter", "metadata")  # fmt: skip
_CAPABILITY_KEYS = ("type", "description", "properties", "attributes", "valid_source_types",
                    "occurrences", "metadata")  # fmt: skip


def local_types(root: Cursor, library: Library) -> Library:
    """``library`` with the document's own types.

    Those that are broken are reported, and are doubtful in it, with all that derives from them.
    """
    written: dict[str, dict[str, Cursor]] = {}
    broken: set[tuple[str, str]] = set()
    for kind in KINDS:
        section = root.get(kind)
        written[kind] = section.table() if section is not None else {}
        for name, definition in written[kind].items():
            if library.canonical(kind, name) in library.names(kind):
                definition.problem_at_key(f"The type {shown(name)} exists already.")
                broken.add((kind, name))
            elif not isinstance(definition.tree, Table):
                definition.problem(f"The definition of {shown(name)} must be a mapping.")
                broken.add((kind, name))
    known = library.with_types(
        {
            kind: {n: one.value for n, one in types.items() if (kind, n) not in broken}
            for kind, types in written.items()
        }
    ).without(new := {one for one in broken if not library.has(*one)})
    for kind in KINDS:
        for name, definition in written[kind].items():
            if (kind, name) not in broken and not _is_sound(definition, kind, known):
                new.add((kind, name))
    known = known.without(new)
    for name, definition in written["node_types"].items():
        interfaces = definition.get("interfaces")
        if interfaces is not None and known.whole("node_types", name):
            check_self_references(name, interfaces, known)
    return known


def _is_sound(definition: Cursor, kind: str, library: Library) -> bool:
    before = definition.report.count
    if kind == "interface_types":
        check_interface_type(definition, library)
    else:
        _type(definition, kind, library)
    return definition.report.count == before


def check_interface_type(cursor: Cursor, library: Library) -> None:
    """An interface type holds operations beside the keys of every type."""
    keys = cursor.table()
    _parent(cursor, keys, "interface_types", library)
    operations = keys.get("operations")
    names = operations.table() if operations is not None else keys
    reserved = (*_COMMON, "inputs", "operations", "notifications")
    for name, operation in names.items():
        if name not in reserved and isinstance(operation.tree, Table):
            operation.table(("description", "inputs", "outputs", "implementation", "metadata"))


def _type(cursor: Cursor, kind: str, library: Library) -> None:
    keys = cursor.table(_KEYS[kind])
    _parent(cursor, keys, kind, library)
    for section in ("properties", "attributes"):
        for definition in (keys[section].table() if section in keys else {}).values():
            partial = _inherits(cursor.name, kind, section, definition.name, library)
            _property(definition, library, partial)
    for key, listed_kind in {
        "valid_source_types": "node_types",
        "valid_target_types": "capability_types",
        "members": "node_types",
    }.items():
        if key in keys:
            known_types(keys[key], (listed_kind,), library)
    if kind == "policy_types" and "targets" in keys:
        known_types(keys["targets"], ("node_types", "group_types"), library)
    if "interfaces" in keys:
        check_definitions(keys["interfaces"], library)
    if kind == "data_types":
        _data_type(keys, library)
    if kind in ("node_types", "group_types"):
        _node_type(cursor.name, keys, library)


def _property(definition: Cursor, library: Library, partial: bool) -> None:
    if definition.empty and partial:
        return
    if not isinstance(definition.tree, Table) and isinstance(definition.value, str):
        definition.problem(
            f"The definition of {shown(definition.name)} must be a mapping with a `type`.",
            f"Write `{{type: {definition.value}}}`.",
        )
        return
    schema(definition, library, PROPERTY_KEYS, partial=partial)


def _inherits(of: str, kind: str, section: str, name: str, library: Library) -> bool:
    """Whether an ancestor has such an entry, so that this is a refinement of it."""
    above = library.lineage(kind, of)[1:]
    sections = (definition.get(section) for _, definition in above)
    return any(isinstance(found, dict) and name in found for found in sections)


def _parent(cursor: Cursor, keys: dict[str, Cursor], kind: str, library: Library) -> None:
    parent = keys.get("derived_from")
    if parent is not None and (name := parent.text()) is not None:
        if not (kind == "data_types" and name in BASIC):
            known_type(parent, kind, library)
    elif parent is None and kind != "data_types" and not cursor.name.endswith(".Root"):
        cursor.problem_at_key(f"The type {shown(cursor.name)} does not say what it derives from.")
    lineage = [name for name, _ in library.lineage(kind, cursor.name)]
    if lineage and (library.sections[kind][lineage[-1]] or {}).get("derived_from") in lineage:
        cursor.problem_at_key(f"The type {shown(cursor.name)} derives from itself.")
    elif len(lineage) > LINEAGE:
        sentence = f"The type {shown(cursor.name)} has more than {LINEAGE} types above it."
        cursor.problem_at_key(sentence)
    for key in ("version", "description"):
        if key in keys and not keys[key].empty and not isinstance(keys[key].tree, Scalar):
            keys[key].text()
    if "metadata" in keys:
        keys["metadata"].table()


def _data_type(keys: dict[str, Cursor], library: Library) -> None:
    """A data type may be a basic one with constraints: by ``type``, or by ``derived_from``."""
    named = keys.get("type") or keys.get("derived_from")
    name = named.value if named is not None and isinstance(named.value, str) else ""
    if "type" in keys and (written := keys["type"].text()) is not None and written not in BASIC:
        hint = did_you_mean(written, BASIC)
        keys["type"].problem(f"{shown(written)} is not a basic type.", hint)
    for key in ("entry_schema", "key_schema"):
        if key in keys:
            entry_schema(keys[key], library)
    for item in keys["constraints"].items() if "constraints" in keys else ():
        check_constraint(item, basic_type(name, library))


def _node_type(of: str, keys: dict[str, Cursor], library: Library) -> None:
    for item in keys["requirements"].items() if "requirements" in keys else ():
        requirement = item.pair("A requirement")
        if requirement is not None:
            inherited = requirement.name in _inherited_requirements(of, library)
            _requirement(requirement, library, inherited)
    for capability in (keys["capabilities"].table() if "capabilities" in keys else {}).values():
        _capability(of, capability, library)
    if "artifacts" in keys:
        check_artifacts(keys["artifacts"], None, library)


def _capability(of: str, cursor: Cursor, library: Library) -> None:
    named: Cursor | None = cursor
    if isinstance(cursor.tree, Table):
        keys = cursor.table(_CAPABILITY_KEYS)
        named = keys.get("type")
        if named is None and not _inherits(of, "node_types", "capabilities", cursor.name, library):
            cursor.problem_at_key(f"The capability {shown(cursor.name)} has no type.")
        if "valid_source_types" in keys:
            known_types(keys["valid_source_types"], ("node_types",), library)
        if "occurrences" in keys:
            check_occurrences(keys["occurrences"])
        for section in ("properties", "attributes"):
            for one in (keys[section].table() if section in keys else {}).values():
                _property(one, library, partial=True)
    if named is not None:
        known_type(named, "capability_types", library)


def _inherited_requirements(of: str, library: Library) -> set[str]:
    """The requirements of the types above, as far as they are well formed."""
    found: set[str] = set()
    for _, definition in library.lineage("node_types", of)[1:]:
        items = definition.get("requirements")
        for item in items if isinstance(items, list) else ():
            found |= set(item) if isinstance(item, dict) else set()
    return found


def _requirement(cursor: Cursor, library: Library, inherited: bool) -> None:
    if isinstance(cursor.tree, Scalar):
        known_type(cursor, "capability_types", library)
        return
    keys = cursor.table(_REQUIREMENT_KEYS)
    for key, kind in {"capability": "capability_types", "node": "node_types"}.items():
        if key in keys:
            known_type(keys[key], kind, library)
    if "capability" not in keys and not inherited:
        cursor.problem_at_key(f"The requirement {shown(cursor.name)} has no `capability`.")
    relationship = keys.get("relationship")
    if relationship is not None:
        named = relationship.get("type") if isinstance(relationship.tree, Table) else relationship
        if named is not None:
            known_type(named, "relationship_types", library)
        else:
            relationship.problem_at_key("The relationship has no `type`.")
        if isinstance(relationship.tree, Table):
            words = relationship.table(("type", "interfaces"))
            if "interfaces" in words:
                check_definitions(words["interfaces"], library)
    if "occurrences" in keys:
        check_occurrences(keys["occurrences"])
    if "node_filter" in keys:
        check_filter(keys["node_filter"])
