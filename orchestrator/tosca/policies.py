"""Groups and policies: their types, their properties, and the node templates they speak of."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import Library
from orchestrator.tosca.header import metadata
from orchestrator.tosca.interfaces import assignments
from orchestrator.tosca.problems import did_you_mean, listed, shown
from orchestrator.tosca.templates import known, required, type_of
from orchestrator.tosca.topology import Group, NodeTemplate, Policy

_GROUP = ("type", "description", "metadata", "properties", "attributes", "members", "interfaces")
_POLICY = ("type", "description", "metadata", "properties", "targets", "triggers")


def groups(
    section: Cursor | None, names: tuple[str, ...], found: Mapping[str, NodeTemplate],
    library: Library,
) -> tuple[Group, ...]:  # fmt: skip
    """The groups of a template; ``names`` are all node templates, ``found`` the sound ones."""
    made = []
    for name, position in (section.table() if section else {}).items():
        if name in names:
            position.problem_at_key(f"There is a node template of the name {shown(name)}, too.")
        keys = position.table(_GROUP)
        if "metadata" in keys:
            metadata(keys["metadata"])
        members = _named(keys.get("members"), names, {})
        kind = type_of(position, "group_types", library)
        if kind is None:
            made.append(Group(name, "", position, members))
            continue
        schemas = library.properties("group_types", kind)
        given = known(keys.get("properties"), schemas, "property", kind)
        required(position, given, schemas, kind)
        if "attributes" in keys:
            attributes = library.attributes(kind, "group_types")
            known(keys["attributes"], attributes, "attribute", kind)
        if "interfaces" in keys:
            _no_interfaces(keys["interfaces"], kind, library)
        allowed = library.listed("group_types", kind, "members")
        _only(keys.get("members"), allowed, found, library, f"A {shown(kind)} has")
        made.append(Group(name, kind, position, members, given))
    return tuple(made)


def _no_interfaces(section: Cursor, kind: str, library: Library) -> None:
    for name, one in assignments(section, kind, library.interfaces("group_types", kind)).items():
        if one.implementation is not None:
            one.implementation.problem(
                f"Vacuo sets up services, not groups: nothing runs {shown(name)} of this one.",
                "Let a service on each host do it.",
            )


def policies(
    section: Cursor | None, names: tuple[str, ...], found: Mapping[str, NodeTemplate],
    in_groups: tuple[Group, ...], library: Library,
) -> tuple[Policy, ...]:  # fmt: skip
    """The policies of a template, groups among their targets replaced by their members."""
    made = []
    members = {group.name: group.members for group in in_groups}
    kinds = {group.name: group.type for group in in_groups}
    seen: set[str] = set()
    for item in section.items() if section else ():
        position = item.pair("A policy")
        if position is None:
            continue
        if position.name in seen:
            position.problem_at_key(f"There are two policies {shown(position.name)}.")
        seen.add(position.name)
        keys = position.table(_POLICY)
        if "metadata" in keys:
            metadata(keys["metadata"])
        if "triggers" in keys and not keys["triggers"].empty:
            keys["triggers"].problem_at_key(
                "Vacuo watches demand and hosts by itself; it follows no `triggers`.",
                "Say what you want with the properties of a `vacuo.policies.Vacuum`.",
            )
        targets = _named(keys.get("targets"), names, members)
        kind = type_of(position, "policy_types", library)
        if kind is None:
            continue
        schemas = library.properties("policy_types", kind)
        given = known(keys.get("properties"), schemas, "property", kind)
        required(position, given, schemas, kind)
        allowed = library.listed("policy_types", kind, "targets")
        _only(keys.get("targets"), allowed, found, library, f"A {shown(kind)} is for", kinds)
        made.append(Policy(position.name, kind, position, targets, given))
    return tuple(made)


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


def _only(
    cursor: Cursor | None,
    allowed: tuple[str, ...],
    found: Mapping[str, NodeTemplate],
    library: Library,
    says: str,
    groups: Mapping[str, str] | None = None,
) -> None:
    """Reports what is named and is of none of the types that may be."""
    for item in cursor.items() if cursor and allowed else ():
        name = item.value
        if name in found:
            kind, what = "node_types", found[name].type
        elif groups and groups.get(str(name)):
            kind, what = "group_types", groups[str(name)]
        else:
            continue
        if not any(library.derives(kind, what, one) for one in allowed):
            sentence = f"{says} {listed(map(shown, allowed))}; {shown(name)} is a {shown(what)}."
            item.problem(sentence)
