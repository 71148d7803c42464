"""Substitution mappings: what a template would offer in the place of a node.

Vacuo deploys such a template as it stands, so the mappings are checked and not followed.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import Library
from orchestrator.tosca.filters import check_filter
from orchestrator.tosca.problems import did_you_mean, listed, shown
from orchestrator.tosca.read import Listing, Scalar, Table
from orchestrator.tosca.templates import known
from orchestrator.tosca.topology import Topology
from orchestrator.tosca.type_names import known_type

_KEYS = ("node_type", "substitution_filter", "properties", "attributes", "capabilities",
         "requirements", "interfaces")  # fmt: skip


def check_substitution(section: Cursor, topology: Topology) -> None:
    """Reports what the mappings name and neither the node type nor the topology has."""
    keys = section.table(_KEYS)
    if "node_type" not in keys:
        section.problem_at_key("The substitution mappings have no `node_type`.")
        return
    kind = known_type(keys["node_type"], "node_types", topology.library)
    if "substitution_filter" in keys:
        check_filter(keys["substitution_filter"])
    if kind is None or not topology.library.whole("node_types", kind):
        return
    library = topology.library
    _properties(keys, kind, topology)
    for one in known(
        keys.get("capabilities"), library.capabilities(kind), "capability", kind
    ).values():
        _capability(one, library.capabilities(kind)[one.name], topology)
    for one in known(
        keys.get("requirements"), library.requirements(kind), "requirement", kind
    ).values():
        _requirement(one, library.requirements(kind)[one.name].capability, topology)
    interfaces = library.interfaces("node_types", kind)
    for interface in known(keys.get("interfaces"), interfaces, "interface", kind).values():
        for operation in interface.table().values():
            operation.problem(
                "An interface is mapped to workflows, and Vacuo runs none.", "Leave it out."
            )


def _properties(keys: Mapping[str, Cursor], kind: str, topology: Topology) -> None:
    library = topology.library
    schemas = library.properties("node_types", kind)
    for one in known(keys.get("properties"), schemas, "property", kind).values():
        words = _words(one)
        if words is None:
            continue  # a value: that is what the property must be
        name = words[0] if words else ""
        if len(words) == 1 and name not in topology.inputs:
            hint = did_you_mean(name, topology.inputs) or "Map it to an input."
            one.problem(f"There is no input {shown(name)}.", hint)
        elif len(words) == 1:
            _same_type(one, schemas[one.name].type, topology.inputs[name].schema.type)
        elif name not in topology.templates and name not in topology.broken:
            hint = did_you_mean(name, topology.templates)
            one.problem(f"There is no node template {shown(name)}.", hint)
    attributes = library.attributes(kind)
    for one in known(keys.get("attributes"), attributes, "attribute", kind).values():
        words = _words(one)
        if not words or (words[0] not in topology.outputs and len(words) < 2):
            hint = did_you_mean(words[0] if words else "", topology.outputs)
            one.problem("An attribute is mapped to an output, or to [node, attribute].", hint)


def _same_type(one: Cursor, wanted: str, given: str) -> None:
    if wanted != given:
        one.problem(f"{shown(one.name)} is of type {wanted}; the input is of type {given}.")


def _capability(one: Cursor, kind: str, topology: Topology) -> None:
    found = _pair(one, topology, "capability")
    if found is None:
        return
    template, name = found
    provided = topology.library.capabilities(topology.templates[template].type)
    if name not in provided:
        hint = did_you_mean(name, provided) or f"It has {listed(provided)}."
        one.problem(f"{shown(template)} has no capability {shown(name)}.", hint)
    elif not topology.library.derives("capability_types", provided[name], kind):
        one.problem(
            f"{shown(one.name)} is a {shown(kind)}; the capability {shown(name)} of "
            f"{shown(template)} is a {shown(provided[name])}."
        )


def _requirement(one: Cursor, capability: str, topology: Topology) -> None:
    found = _pair(one, topology, "requirement")
    if found is None:
        return
    template, name = found
    wanted = topology.library.requirements(topology.templates[template].type)
    if name not in wanted:
        hint = did_you_mean(name, wanted) or f"It has {listed(wanted)}."
        one.problem(f"{shown(template)} has no requirement {shown(name)}.", hint)
    elif not _related(topology.library, wanted[name].capability, capability):
        one.problem(
            f"{shown(one.name)} needs a {shown(capability)}; the requirement {shown(name)} of "
            f"{shown(template)} needs a {shown(wanted[name].capability)}."
        )


def _related(library: Library, one: str, other: str) -> bool:
    return library.derives("capability_types", one, other) or library.derives(
        "capability_types", other, one
    )


def _pair(one: Cursor, topology: Topology, what: str) -> tuple[str, str] | None:
    """[node template, name]; None where it is not, or where the template is broken."""
    if isinstance(one.tree, Table) and "mapping" not in one.tree.entries:
        one.table(("properties", "attributes"))
        return None  # in 1.3 a capability may be given values instead
    words = _words(one)
    if words is None or len(words) != 2:
        one.problem(f"{shown(one.name)} must be mapped to [node template, {what}].")
        return None
    if words[0] in topology.broken:
        return None
    if words[0] not in topology.templates:
        hint = did_you_mean(words[0], topology.templates)
        one.problem(f"There is no node template {shown(words[0])}.", hint)
        return None
    return words[0], words[1]


def _words(one: Cursor) -> list[str] | None:
    """The words of a mapping, in the notation of 1.0 or of 1.3; None where it is a value."""
    found: Cursor | None = one
    if isinstance(one.tree, Table):
        found = one.get("mapping")
    if found is None or not isinstance(found.tree, Listing):
        return None
    texts = [item for item in found.tree.items if isinstance(item, Scalar)]
    return [item.text for item in texts] if len(texts) == len(found.tree.items) else None
