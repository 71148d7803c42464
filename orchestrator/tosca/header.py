"""The head of a TOSCA document, a template or an imported one: its version and its sections."""

from __future__ import annotations

from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import KINDS
from orchestrator.tosca.problems import did_you_mean, shown
from orchestrator.tosca.read import Scalar, Table

VERSIONS = (
    "tosca_simple_yaml_1_0",
    "tosca_simple_yaml_1_1",
    "tosca_simple_yaml_1_2",
    "tosca_simple_yaml_1_3",
)
VERSION = "tosca_definitions_version"
SECTIONS = (
    VERSION, "metadata", "description", "dsl_definitions", "repositories", "imports",
    "topology_template", "template_name", "template_author", "template_version", *KINDS,
)  # fmt: skip


def top(root: Cursor) -> dict[str, Cursor] | None:
    """The sections of a document, its version checked; None where it is no mapping."""
    if not isinstance(root.tree, Table):
        root.problem(
            "A template must be a mapping.", f"It begins with `{VERSION}: {VERSIONS[-1]}`."
        )
        return None
    if not set(root.tree.entries) & set(SECTIONS):
        root.problem(
            "This is not a TOSCA template: it has none of the sections of one.",
            f"A template begins with `{VERSION}: {VERSIONS[-1]}`.",
        )
        return None
    keys = root.table(SECTIONS)
    version = keys.get(VERSION)
    if version is None:
        root.problem(f"The template has no `{VERSION}`.", f"Begin with `{VERSIONS[-1]}`.")
    elif version.value not in VERSIONS:
        _wrong_version(version)
    for key in ("dsl_definitions", "repositories", "metadata"):
        if key in keys:
            keys[key].table()
    if "metadata" in keys:
        metadata(keys["metadata"])
    for key in ("description", "template_name", "template_author", "template_version"):
        if key in keys and not keys[key].empty and not isinstance(keys[key].tree, Scalar):
            keys[key].text()
    return keys


def metadata(cursor: Cursor) -> None:
    """Metadata is a map of texts; numbers and the like are taken for theirs."""
    for one in cursor.table().values():
        if not isinstance(one.tree, Scalar):
            one.text()


def _wrong_version(version: Cursor) -> None:
    text = str(version.value)
    if text.startswith("tosca_2"):
        hint = (
            f"Write `{VERSIONS[-1]}`, and put `service_template` as `topology_template`; functions "
            "have no `$`."
        )
        version.problem("Vacuo reads TOSCA Simple Profile 1.0 to 1.3, not TOSCA 2.0.", hint)
        return
    hint = did_you_mean(text, VERSIONS) or f"Write `{VERSIONS[-1]}`."
    version.problem(f"{shown(text)} is not a version of TOSCA that Vacuo reads.", hint)
