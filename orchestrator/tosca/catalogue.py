"""The types and templates that Vacuo ships, resolved offline.

A template imports ``vacuo/types.yaml``, or one file of it such as ``vacuo/squid.yaml``.  What else
it may import is found by :mod:`orchestrator.tosca.sources`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from orchestrator import data
from orchestrator.tosca.definitions import KINDS
from orchestrator.tosca.names import ALIASES, SHIPPED

PREFIX = SHIPPED


@dataclass(frozen=True)
class ShippedTemplate:
    """A template to start from: its name, what it makes, and where it is."""

    name: str
    title: str
    path: Path


@dataclass(frozen=True)
class Bundle:
    """The types that one import brings, with those that it imports in turn.

    ``files`` are (name, SHA-256 of the content) of every file that was read.
    """

    sections: Mapping[str, Mapping[str, Any]]
    files: tuple[tuple[str, str], ...] = field(default=())


def templates() -> list[ShippedTemplate]:
    """The shipped templates, by name."""
    found = []
    for path in sorted(data.directory("tosca-templates").glob("*.yaml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        title = " ".join(str(document.get("description", "")).split())
        found.append(ShippedTemplate(path.stem, title, path))
    return found


def importable() -> tuple[str, ...]:
    """The names that a template may import."""
    types = data.directory("tosca-templates") / "types"
    return tuple(PREFIX + path.name for path in sorted(types.glob("*.yaml")))


@cache
def load(name: str) -> Bundle | None:
    """What importing ``name`` brings; None where it is not in the catalogue."""
    name = ALIASES.get(name, name)
    if name not in importable():
        return None
    sections: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    files: dict[str, str] = {}
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in files:
            continue
        path = data.directory("tosca-templates") / "types" / current.removeprefix(PREFIX)
        content = path.read_bytes()
        files[current] = hashlib.sha256(content).hexdigest()
        document = yaml.safe_load(content)
        for kind in KINDS:
            sections[kind].update(document.get(kind) or {})
        waiting += [PREFIX + imported for imported in document.get("imports") or []]
    return Bundle(sections, tuple(sorted(files.items())))
