"""From a document to a :class:`Topology`: every structural mistake is found and reported here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import Library
from orchestrator.tosca.header import top
from orchestrator.tosca.imports import NOTHING, Shelf, imported_types
from orchestrator.tosca.inputs import inputs, outputs
from orchestrator.tosca.local_types import local_types
from orchestrator.tosca.policies import groups, policies
from orchestrator.tosca.problems import shown
from orchestrator.tosca.requirements import RequirementReader, check_graph
from orchestrator.tosca.selection import select
from orchestrator.tosca.substitution import check_substitution
from orchestrator.tosca.templates import node_template, relationship_template
from orchestrator.tosca.topology import RelationshipTemplate, Topology

_TOPOLOGY = ("description", "inputs", "node_templates", "relationship_templates", "groups",
             "policies", "outputs", "substitution_mappings", "workflows")  # fmt: skip


def header(
    root: Cursor, base: Library, shelf: Shelf = NOTHING, origin: str = ""
) -> tuple[Library | None, tuple[tuple[str, str], ...]]:
    """Version, imports and the template's own types: the types it may use, None where this is no
    template at all; and what was imported.  Raises :class:`ImportsNeeded`."""
    if top(root) is None:
        return None, ()
    library, imports = imported_types(root, base, shelf, origin)
    if library is None:  # what lacks because of that is not a mistake of its own
        library = dataclasses.replace(base, complete=False)
    return local_types(root, library), imports


def topology(
    root: Cursor,
    library: Library,
    given: Mapping[str, Any] | None,
    imports: tuple[tuple[str, str], ...],
) -> Topology:
    """The checked topology; what is broken is left out of it and reported.

    ``given`` are the inputs, None where they are not known yet.
    """
    section = root.get("topology_template")
    keys: dict[str, Cursor] = {}
    if section is None or section.empty:
        root.problem("The template has no `topology_template`.")
        section = None
    else:
        keys = section.table(_TOPOLOGY)
    _no_workflows(keys.get("workflows"))
    declared = inputs(section, library, given, root)
    written = keys["node_templates"].table() if "node_templates" in keys else {}
    if section is not None and not written:
        section.problem_at_key("The template has no `node_templates`: there is nothing to make.")
    repositories = root.get("repositories")
    known = repositories.table() if repositories is not None else {}
    found = {name: node_template(one, library, written, known) for name, one in written.items()}
    templates = {name: template for name, template in found.items() if template}
    related = _relationships(keys.get("relationship_templates"), library)
    names = tuple(written)
    assigned = RequirementReader(library, names, templates, related).assignments()
    in_groups = groups(keys.get("groups"), names, templates, library)
    result = Topology(
        library=library,
        description=_description(root, section),
        inputs=declared,
        templates=assigned.templates,
        policies=policies(keys.get("policies"), names, templates, in_groups, library),
        outputs=outputs(keys.get("outputs"), library),
        imports=imports,
        groups=in_groups,
        relationships={name: one for name, one in related.items() if one is not None},
        broken=frozenset(names) - frozenset(templates),
        broken_inputs=_names(section, "inputs") - frozenset(declared),
    )
    result = select(result, assigned.open)
    if "substitution_mappings" in keys and not keys["substitution_mappings"].empty:
        check_substitution(keys["substitution_mappings"], result)
    return dataclasses.replace(result, circular=not check_graph(result))


def _names(section: Cursor | None, key: str) -> frozenset[str]:
    found = section.get(key) if section is not None else None
    return frozenset(found.table() if found is not None else ())


def _relationships(
    section: Cursor | None, library: Library
) -> dict[str, RelationshipTemplate | None]:
    written = section.table() if section is not None else {}
    return {name: relationship_template(one, library, written) for name, one in written.items()}


def _no_workflows(section: Cursor | None) -> None:
    for name, workflow in (section.table() if section is not None else {}).items():
        workflow.problem_at_key(
            f"Vacuo runs no workflow, so {shown(name)} would never happen.",
            "Leave it out: hosts and services are made in the order of their requirements.",
        )


def _description(root: Cursor, section: Cursor | None) -> str:
    written = (root.get("description"), section.get("description") if section else None)
    texts = [one.text() or "" for one in written if one is not None and not one.empty]
    return " ".join(next(iter(texts), "").split())
