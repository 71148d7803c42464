"""Artifacts of types and templates, in short and in extended notation."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import Library
from orchestrator.tosca.problems import did_you_mean, shown
from orchestrator.tosca.read import Table
from orchestrator.tosca.type_names import known_type
from orchestrator.tosca.values import is_function

_KEYS = ("file", "type", "repository", "description", "deploy_path", "version", "checksum",
         "checksum_algorithm", "properties")  # fmt: skip
FILE = "tosca.artifacts.File"
DEPLOYMENT = "tosca.artifacts.Deployment"


@dataclass(frozen=True)
class Artifact:
    """A file that a node template names: ``file`` as written, empty where a function gives it,
    and the type of it."""

    name: str
    file: str
    type: str = FILE
    repository: str | None = None

    @classmethod
    def parse(cls, name: str, written: Any) -> Artifact:
        """From a well-formed definition; a bare word is the file."""
        if not isinstance(written, dict):
            return cls(name, str(written))
        repository = written.get("repository")
        file = written.get("file")
        known = "" if isinstance(file, dict) else str(file)
        return cls(name, known, str(written.get("type") or FILE), repository)


def check_artifacts(
    section: Cursor, repositories: Collection[str] | None, library: Library
) -> dict[str, Cursor]:
    """The sound artifacts of a section; the others are reported.

    ``repositories`` are those that the document declares, None where that is not to be asked.
    """
    found = {}
    for name, artifact in section.table().items():
        before = artifact.report.count
        if isinstance(artifact.tree, Table):
            _extended(artifact, repositories, library)
        elif artifact.empty:
            artifact.problem_at_key(f"The artifact {shown(name)} has no file.")
        else:
            artifact.text()
        if artifact.report.count == before:
            found[name] = artifact
    return found


def _extended(artifact: Cursor, repositories: Collection[str] | None, library: Library) -> None:
    keys = artifact.table(_KEYS)
    if "file" not in keys or keys["file"].empty:
        artifact.problem_at_key(f"The artifact {shown(artifact.name)} has no `file`.")
    else:
        if not is_function(keys["file"].tree):  # real templates take the file from an input
            keys["file"].text()
    if "type" in keys:
        known_type(keys["type"], "artifact_types", library)
    if "repository" in keys and repositories is not None:
        name = keys["repository"].text()
        if name is not None and name not in repositories:
            hint = did_you_mean(name, repositories)
            keys["repository"].problem(f"There is no repository {shown(name)}.", hint)
    if "properties" in keys:
        keys["properties"].table()
