"""Foreign node types and what realises them here, as data: ``tosca-templates/adapters``.

The files hold names only, in the form that ``adapters/indigo.yaml`` explains; the types come with
the template's imports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from orchestrator import data
from orchestrator.tosca.definitions import Library

VERSION = 1
_VERSION = "vacuo_adapter_version"
_PARTS = ("type", "properties", "requirements")


class How(StrEnum):
    """What becomes of a foreign node template."""

    SERVICES = "services"
    HOST = "host"
    CARRIER = "carrier"
    LEFT_OUT = "left_out"
    REFUSED = "refused"


@dataclass(frozen=True)
class Part:
    """One of our types that realises a foreign one.

    ``properties`` are plain values, expressions over the foreign template (SELF) or
    ``{"parameter": name}``; ``requirements`` name the type that meets each.
    """

    type: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    requirements: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """What becomes of one foreign type, and of the types below it.  ``sentence`` says why."""

    type: str
    how: How
    sentence: str = ""
    parts: tuple[Part, ...] = ()
    unused: tuple[str, ...] = ()
    refused_if: Mapping[str, str] = field(default_factory=dict)
    provides: tuple[str, ...] = ()
    scales: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Adapters:
    """All entries by type, and the values of their parameters."""

    entries: Mapping[str, Entry]
    parameters: Mapping[str, Any]

    def entry(self, node_type: str, library: Library) -> Entry | None:
        """The nearest entry among ``node_type`` and its ancestors."""
        names = (name for name, _ in library.lineage("node_types", node_type))
        return next((self.entries[name] for name in names if name in self.entries), None)

    def amended(self, library: Library) -> Library:
        """``library`` with the capabilities that templates use and the types do not have."""
        types = library.sections.get("node_types", {})
        more: dict[str, Any] = {}
        for name, entry in self.entries.items():
            known = [one for one in entry.provides if library.has("capability_types", one)]
            if name in types and known:
                added = {one.rpartition(".")[2].lower(): {"type": one} for one in known}
                own = (types[name] or {}).get("capabilities") or {}
                more[name] = {**types[name], "capabilities": {**added, **own}}
        return library.with_types({"node_types": more}) if more else library

    def with_parameters(self, given: Mapping[str, Any]) -> Adapters:
        """The same, with what a server says; names that no file has are left alone."""
        known = {name: value for name, value in given.items() if name in self.parameters}
        return Adapters(self.entries, {**self.parameters, **known}) if known else self


@cache
def shipped() -> Adapters:
    """The adapters that come with Vacuo."""
    entries: dict[str, Entry] = {}
    parameters: dict[str, Any] = {}
    for path in sorted((data.directory("tosca-templates") / "adapters").glob("*.yaml")):
        found = parse(yaml.safe_load(path.read_text(encoding="utf-8")), path)
        entries |= found.entries
        parameters |= found.parameters
    return Adapters(entries, parameters)


def parse(document: Any, path: Path) -> Adapters:
    """One file; raises ``ValueError`` for what is not in the form."""
    if not isinstance(document, dict) or document.get(_VERSION) != VERSION:
        raise ValueError(f"{path}: `{_VERSION}` must be {VERSION}")
    if unknown := set(document) - {_VERSION, "parameters", "node_types"}:
        raise ValueError(f"{path}: unknown section {sorted(unknown)[0]}")
    written = document.get("parameters") or {}
    parameters = {name: one["value"] for name, one in written.items()}
    types = document.get("node_types") or {}
    entries = {name: _entry(name, one, path) for name, one in types.items()}
    for entry in entries.values():
        for part in entry.parts:
            for name in _parameters_in(dict(part.properties)):
                if name not in parameters:
                    raise ValueError(f"{path}: {entry.type} uses an unknown parameter {name}")
    return Adapters(entries, parameters)


def _entry(name: str, written: Mapping[str, Any], path: Path) -> Entry:
    ways = [how for how in How if how in written]
    if len(ways) != 1:
        raise ValueError(f"{path}: {name} must have exactly one of {', '.join(How)}")
    known = {*How, "note", "unused", "refused_if", "provides", "scales"}
    if unknown := set(written) - known:
        raise ValueError(f"{path}: {name} has an unknown key {sorted(unknown)[0]}")
    how = ways[0]
    parts: tuple[Part, ...] = ()
    sentence = str(written.get("note", ""))
    if how is How.SERVICES:
        parts = tuple(_part(name, one, path) for one in written[how])
    else:
        sentence = str(written[how])
    return Entry(
        type=name,
        how=how,
        sentence=" ".join(sentence.split()),
        parts=parts,
        unused=tuple(written.get("unused") or ()),
        refused_if=dict(written.get("refused_if") or {}),
        provides=tuple(written.get("provides") or ()),
        scales=dict(written.get("scales") or {}),
    )


def _part(name: str, written: Mapping[str, Any], path: Path) -> Part:
    if unknown := set(written) - set(_PARTS):
        raise ValueError(f"{path}: a service of {name} has an unknown key {sorted(unknown)[0]}")
    return Part(
        type=str(written["type"]),
        properties=dict(written.get("properties") or {}),
        requirements=dict(written.get("requirements") or {}),
    )


def _parameters_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        if set(value) == {"parameter"}:
            return [str(value["parameter"])]
        return [name for inner in value.values() for name in _parameters_in(inner)]
    if isinstance(value, list):
        return [name for inner in value for name in _parameters_in(inner)]
    return []
