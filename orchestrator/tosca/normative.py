"""The types that the TOSCA specification defines: tosca-parser's, and those of 1.2 and 1.3 that it
lacks."""

from __future__ import annotations

from typing import Any

from toscaparser.elements.entity_type import EntityType

from orchestrator.tosca.definitions import KINDS

_NAMED = {"name": {"type": "string", "required": False}}
_SIZE = {
    "type": "scalar-unit.size",
    "default": "0 MB",
    "constraints": [{"greater_or_equal": "0 MB"}],
}
_LACKING: dict[str, dict[str, Any]] = {
    "capability_types": {
        "tosca.capabilities.Compute": {
            "derived_from": "tosca.capabilities.Container",
            "properties": _NAMED,
        },
        "tosca.capabilities.Network": {
            "derived_from": "tosca.capabilities.Root",
            "properties": _NAMED,
        },
        "tosca.capabilities.Storage": {
            "derived_from": "tosca.capabilities.Root",
            "properties": _NAMED,
        },
    },
    "node_types": {
        "tosca.nodes.Abstract.Compute": {
            "derived_from": "tosca.nodes.Root",
            "capabilities": {"host": {"type": "tosca.capabilities.Compute"}},
        },
        "tosca.nodes.Abstract.Storage": {
            "derived_from": "tosca.nodes.Root",
            "properties": {"name": {"type": "string"}, "size": _SIZE},
        },
        "tosca.nodes.Storage.BlockStorage": {
            "derived_from": "tosca.nodes.Abstract.Storage",
            "properties": {
                "volume_id": {"type": "string", "required": False},
                "snapshot_id": {"type": "string", "required": False},
            },
            "capabilities": {"attachment": {"type": "tosca.capabilities.Attachment"}},
        },
        "tosca.nodes.Storage.ObjectStorage": {
            "derived_from": "tosca.nodes.Abstract.Storage",
            "properties": {"maxsize": {"type": "scalar-unit.size", "required": False}},
            "capabilities": {"storage_endpoint": {"type": "tosca.capabilities.Endpoint"}},
        },
    },
    "data_types": {
        "tosca.datatypes.json": {"derived_from": "string"},
        "tosca.datatypes.xml": {"derived_from": "string"},
        "tosca.datatypes.TimeInterval": {
            "derived_from": "tosca.datatypes.Root",
            "properties": {"start_time": {"type": "timestamp"}, "end_time": {"type": "timestamp"}},
        },
    },
    "interface_types": {"tosca.interfaces.Root": {}},
}


def normative_types() -> dict[str, dict[str, Any]]:
    """The definitions of the TOSCA specification, by section."""
    whole = EntityType.TOSCA_DEF_LOAD_AS_IS
    found = {
        kind: {**copied(_LACKING.get(kind, {})), **copied(dict(whole.get(kind) or {}))}
        for kind in KINDS
    }
    # As 1.2 has it; a container capability it is still.
    host = found["node_types"]["tosca.nodes.Compute"]["capabilities"]["host"]
    host["type"] = "tosca.capabilities.Compute"
    return found


def copied(value: Any) -> Any:
    """Plain data once more, faster than :func:`copy.deepcopy`."""
    if isinstance(value, dict):
        return {
            key: copied(inner) if isinstance(inner, dict | list) else inner
            for key, inner in value.items()
        }
    return [copied(inner) for inner in value] if isinstance(value, list) else value
