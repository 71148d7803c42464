"""Names of the specification's types, in full and as TOSCA lets one write them: ``Compute``."""

from __future__ import annotations

from collections.abc import Container

_PREFIXES = {
    "node_types": ("tosca.nodes.", "tosca.nodes.network."),
    "capability_types": ("tosca.capabilities.", "tosca.capabilities.network."),
    "relationship_types": ("tosca.relationships.", "tosca.relationships.network."),
    "policy_types": ("tosca.policies.",),
    "group_types": ("tosca.groups.",),
    "data_types": ("tosca.datatypes.", "tosca.datatypes.network."),
    "interface_types": ("tosca.interfaces.node.lifecycle.", "tosca.interfaces.relationship."),
    "artifact_types": ("tosca.artifacts.",),
}


def full_name(kind: str, name: str, types: Container[str]) -> str:
    """The name in full, where ``types`` has that; else the name as it is."""
    short = name.removeprefix("tosca:")
    if name in types or ("." in short and short == name):
        return name
    full = (prefix + short for prefix in _PREFIXES.get(kind, ()))
    return next((one for one in full if one in types), name)
