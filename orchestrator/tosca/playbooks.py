"""Foreign playbooks and Galaxy roles: which a node template needs, and the service that runs them.

They run on the host itself, never on the server, and only where an administrator has pinned each
by its checksum (``templates.playbooks``); :mod:`orchestrator.configure.playbooks` puts them there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import SERVICE, Library
from orchestrator.tosca.read import tree_of
from orchestrator.tosca.topology import NodeTemplate

PLAYBOOKS = "vacuo.nodes.ForeignPlaybooks"  # in no file: a template cannot ask for it
ROLE = "vacuo.site.playbook"
GALAXY_ROLE = "tosca.artifacts.AnsibleGalaxy.role"
# The operations that make a node what it is, in the order in which TOSCA calls them.
OPERATIONS = ("Standard.create", "Standard.configure", "Standard.start")
TYPES: Mapping[str, Mapping[str, Any]] = {
    "node_types": {
        PLAYBOOKS: {
            "derived_from": SERVICE,
            "properties": {
                "steps": {"type": "list"},
                "roles": {"type": "list"},
            },
            "requirements": [
                {
                    "host": {
                        "capability": "tosca.capabilities.Container",
                        "node": "tosca.nodes.Compute",
                        "relationship": "tosca.relationships.HostedOn",
                    }
                }
            ],
            "interfaces": {"Standard": {"configure": {"implementation": ROLE}}},
        }
    }
}


def sources(template: NodeTemplate, library: Library) -> tuple[str, ...]:
    """Playbooks and Galaxy roles that the template, or its type, names."""
    found = [step["source"] for step in _steps(template, library)]
    return tuple(dict.fromkeys((*found, *_roles(template))))


def playbook_service(template: NodeTemplate, library: Library) -> NodeTemplate:
    """The service that runs them: one step for each operation, with its inputs."""
    values = {
        "steps": [
            {"source": step["source"], "inputs": _of(step["inputs"], template.name)}
            for step in _steps(template, library)
        ],
        "roles": list(_roles(template)),
    }
    position = template.position
    properties = {
        name: Cursor(
            tree_of(value, position.key), (*position.path, name), position.report, position.key
        )
        for name, value in values.items()
    }
    return NodeTemplate(template.name, PLAYBOOKS, position, properties)


def _steps(template: NodeTemplate, library: Library) -> Iterator[dict[str, Any]]:
    of_type = library.operations("node_types", template.type)
    for operation in OPERATIONS:
        typed, written = of_type.get(operation), template.operations.get(operation)
        source = written.written if written is not None else None
        source = source or (typed.implementation if typed is not None else None)
        if source:
            own = {name: one.value for name, one in written.inputs.items()} if written else {}
            artifact = template.artifacts.get(source)
            yield {
                "source": artifact.file if artifact else source,
                "inputs": {**(typed.inputs if typed is not None else {}), **own},
            }


def _roles(template: NodeTemplate) -> tuple[str, ...]:
    wanted = (one.file for one in template.artifacts.values() if one.type == GALAXY_ROLE)
    return tuple(dict.fromkeys(wanted))


def _of(value: Any, template: str) -> Any:
    """An expression with SELF as the foreign template; HOST stays what it is below it."""
    if isinstance(value, dict):
        return {
            key: [template if word == "SELF" else word for word in inner]
            if key in ("get_property", "get_attribute") and isinstance(inner, list)
            else _of(inner, template)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_of(inner, template) for inner in value]
    return value
