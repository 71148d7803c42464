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
OPERATIONS = ("create", "configure", "start")
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
    return tuple(dict.fromkeys((*found, *_roles(template, library))))


def playbook_service(template: NodeTemplate, library: Library) -> NodeTemplate:
    """The service that runs them: one step for each operation, with its inputs."""
    values = {
        "steps": [
            {"source": step["source"], "inputs": _of(step["inputs"], template.name)}
            for step in _steps(template, library)
        ],
        "roles": list(_roles(template, library)),
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
    sections = [template.position.value.get("interfaces") or {}]
    for _, definition in library.lineage("node_types", template.type):
        sections.append(definition.get("interfaces") or {})
    for name in OPERATIONS:
        source, inputs = "", dict[str, Any]()
        for section in sections:
            written = _operation(section, name)
            source = source or str(written.get("implementation") or "")
            inputs = {**(written.get("inputs") or {}), **inputs}
        if source:
            yield {"source": source, "inputs": inputs}


def _operation(interfaces: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    for interface in ("Standard", "tosca.interfaces.node.lifecycle.Standard"):
        section = interfaces.get(interface)
        if isinstance(section, Mapping):
            found = (section.get("operations") or section).get(name)
            if isinstance(found, str):
                return {"implementation": found}
            if isinstance(found, Mapping):
                primary = found.get("implementation")
                if isinstance(primary, Mapping):
                    return {**found, "implementation": primary.get("primary")}
                return found
    return {}


def _roles(template: NodeTemplate, library: Library) -> tuple[str, ...]:
    sections = [template.position.value.get("artifacts") or {}]
    for _, definition in library.lineage("node_types", template.type):
        sections.append(definition.get("artifacts") or {})
    found: dict[str, str] = {}
    for section in sections:
        for name, artifact in section.items() if isinstance(section, Mapping) else ():
            if isinstance(artifact, Mapping) and artifact.get("type") == GALAXY_ROLE:
                found.setdefault(name, str(artifact.get("file")))
    return tuple(dict.fromkeys(found.values()))


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
