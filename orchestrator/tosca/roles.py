"""Whether our own hosts and services ask only for operations that a role realises."""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.tosca.artifacts import DEPLOYMENT
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import SERVICE, Library
from orchestrator.tosca.operations import Operation
from orchestrator.tosca.problems import shown
from orchestrator.tosca.templates import CONFIGURE
from orchestrator.tosca.topology import NodeTemplate, Requirement, Topology

ROLE = re.compile(r"vacuo\.site\.[a-z][a-z0-9_]*")


def check_roles(topology: Topology) -> None:
    """Reports operations, artifacts and relationships that nothing would carry out."""
    for template in topology.templates.values():
        is_service = topology.library.derives("node_types", template.type, SERVICE)
        if not is_service and not topology.library.is_host(template.type):
            continue
        for name, implementation, at in _operations(template, topology.library, is_service):
            _realised(name, implementation, at, template, is_service)
        _artifacts(template, topology.library)
        for requirement in template.requirements:
            _relationship(requirement, topology.library)


def _operations(
    template: NodeTemplate, library: Library, is_service: bool
) -> Iterator[tuple[str, str, Cursor]]:
    """What implements each operation, and where that stands; what a type brings stands at the
    template's ``type``."""
    for name, assignment in template.operations.items():
        written = assignment.written
        if written is not None and assignment.implementation is not None:
            artifact = template.artifacts.get(written)
            yield name, artifact.file if artifact else written, assignment.implementation
    of_type: dict[str, Operation] = library.operations("node_types", template.type)
    at = template.position.get("type") or template.position
    for name, operation in of_type.items() if is_service else ():
        if operation.implementation and name not in template.operations:
            artifact = template.artifacts.get(operation.implementation)
            yield name, artifact.file if artifact else operation.implementation, at


def _realised(
    name: str, implementation: str, at: Cursor, template: NodeTemplate, is_service: bool
) -> None:
    if not is_service:
        at.problem(
            f"Vacuo runs nothing on a host itself, so {shown(name)} of {shown(template.name)} "
            "would never happen.",
            "Let a service on it do that.",
        )
    elif name != CONFIGURE:
        at.problem(
            f"Vacuo realises `{CONFIGURE}` and no other operation, not {name}.",
            "Let one role do it all in `configure`.",
        )
    elif not ROLE.fullmatch(implementation):
        at.problem(
            f"{shown(implementation)} is not a role of Vacuo's collection.",
            "Roles are named `vacuo.site.<role>`.",
        )


def _artifacts(template: NodeTemplate, library: Library) -> None:
    written = template.position.get("artifacts")
    for name, artifact in (written.table() if written else {}).items():
        found = template.artifacts.get(name)
        if found and library.derives("artifact_types", found.type, DEPLOYMENT):
            artifact.problem_at_key(
                f"Vacuo deploys no artifacts, so {shown(name)} would reach no host.",
                "Give it to the service as a property, and let its role fetch it.",
            )


def _relationship(requirement: Requirement, library: Library) -> None:
    if requirement.relationship is None:
        return
    kind = requirement.relationship_type
    implemented = {
        name
        for name, one in library.operations("relationship_types", kind).items()
        if one.implementation
    } | {name for name, one in requirement.relationship.operations.items() if one.written}
    for name in sorted(implemented):
        requirement.relationship.position.problem_at_key(
            f"Vacuo configures services, not relationships, so {shown(name)} would never run.",
            "Let the role of the service do it.",
        )
