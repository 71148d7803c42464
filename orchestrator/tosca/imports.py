"""Imports: which documents a template needs, and the types that they bring.

Nothing is opened here.  The documents lie on a *shelf*, which the parent of the sandbox fills
(:mod:`orchestrator.tosca.sources`); what is not on it is asked for with :class:`ImportsNeeded`.
The types of each document are checked like a template's own, and its problems carry its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from orchestrator.tosca import catalogue, names
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import KINDS, Library
from orchestrator.tosca.header import top
from orchestrator.tosca.local_types import local_types
from orchestrator.tosca.names import Refusal
from orchestrator.tosca.problems import START, Problem, Report, TemplateInvalid, did_you_mean, shown
from orchestrator.tosca.read import Table, Tree, read

DEPTH = 16
_ENTRY = ("file", "repository", "namespace_prefix", "namespace_uri")


@dataclass(frozen=True)
class Document:
    """An imported document: canonical name, SHA-256 of its bytes, text.

    ``shared`` is whether other templates are likely to import it too.
    """

    name: str
    sha256: str
    text: str = field(repr=False)
    shared: bool = True

    @classmethod
    def of(cls, name: str, content: bytes, shared: bool = True) -> Document | Refusal:
        try:
            text = content.decode("utf-8-sig")
            return cls(name, hashlib.sha256(content).hexdigest(), text, shared)
        except UnicodeDecodeError:
            return Refusal(f"{shown(names.shown(name), 100)} is not text in UTF-8.")


Shelf = Mapping[str, Document | Refusal]
NOTHING: Shelf = MappingProxyType({})
Sections = dict[str, dict[str, Any]]


class ImportsNeeded(Exception):
    """Documents that must be on the shelf before more can be said: their canonical names."""

    def __init__(self, needed: tuple[str, ...]) -> None:
        super().__init__(*needed)
        self.needed = needed


@dataclass(frozen=True)
class Layer:
    """The types that a document brings with all that it imports in turn, and what is wrong.

    ``files`` are (name, SHA-256) of every document that was read for it; ``notes`` are about what
    is odd in them.
    """

    sections: Mapping[str, Mapping[str, Any]]
    files: tuple[tuple[str, str], ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class _Wanted:
    """One entry of an ``imports`` section that names something."""

    cursor: Cursor
    name: str
    prefix: str = ""


@dataclass(frozen=True)
class _Read:
    """A document once it is read; without a tree where there is none to speak of."""

    tree: Tree | None
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()


# What a warm worker keeps for the children that it forks, by name and SHA-256: see `remember`.
_trees: dict[tuple[str, str], _Read] = {}
_layers: dict[tuple[str, str], Layer] = {}


def imported_types(
    root: Cursor, base: Library, shelf: Shelf, origin: str = ""
) -> tuple[Library | None, tuple[tuple[str, str], ...]]:
    """``base`` with all that the document ``root`` imports, and (name, SHA-256) of each document.

    The library is None where an import cannot be had or is broken; ``root.report`` says why.
    ``origin`` is the canonical name of the document, "" for a lone template.  Raises
    :class:`ImportsNeeded`.
    """
    walk = _Walk(base, shelf)
    before = root.report.count
    layer = walk.below(root, origin, (origin or root.report.file,))
    if walk.missing:
        raise ImportsNeeded(tuple(walk.missing))
    root.report.adopt(layer.problems)
    root.report.notes |= dict.fromkeys(layer.notes)
    library = base.with_types(layer.sections) if layer.sections else base
    files = tuple((names.shown(name), digest) for name, digest in sorted(layer.files))
    return (library if root.report.count == before else None), files


def remember(shelf: Shelf, base: Library) -> None:
    """Keep what the documents of ``shelf`` mean, for children that are forked later.

    Only for documents that a child has already read within its limits.
    """
    walk = _Walk(base, shelf)
    for name, document in shelf.items():
        if isinstance(document, Document):
            _trees.setdefault((name, document.sha256), _read(document))
            layer = walk.layer(document, ())
            if layer is not None and not layer.problems:
                _layers[name, document.sha256] = layer


def forget() -> None:
    """Let go of all that was remembered."""
    _layers.clear()
    _trees.clear()


class _Walk:
    """One walk over the documents, depth first; each is read and checked once."""

    def __init__(self, base: Library, shelf: Shelf) -> None:
        self._base = base
        self._shelf = shelf
        self._done: dict[tuple[str, str], Layer] = {}
        self.missing: dict[str, None] = {}

    def below(self, root: Cursor, origin: str, chain: tuple[str, ...]) -> Layer:
        """What the imports of the document ``root`` bring together.  ``chain`` leads to it."""
        sections: Sections = {}
        files: dict[str, str] = {}
        problems: dict[Problem, None] = {}
        notes: dict[Problem, None] = {}
        for wanted in _entries(root, origin):
            layer = self._brought(wanted, chain)
            if layer is not None:
                files.update(layer.files)
                problems |= dict.fromkeys(layer.problems)
                notes |= dict.fromkeys(layer.notes)
                _merge(sections, _prefixed(layer.sections, wanted.prefix), wanted)
        return Layer(sections, tuple(files.items()), tuple(problems), tuple(notes))

    def _brought(self, wanted: _Wanted, chain: tuple[str, ...]) -> Layer | None:
        """The layer of one entry; None where there is none, which is reported or missing."""
        name = wanted.name
        if name in chain:
            circle = (*chain[chain.index(name) :], name)
            told = " → ".join(names.shown(one) for one in circle)
            wanted.cursor.problem(f"These imports go round in a circle: {told}.")
            return None
        if len(chain) > DEPTH:
            wanted.cursor.problem(f"Imports are nested more than {DEPTH} levels deep.")
            return None
        if name.startswith(names.SHIPPED):
            bundle = catalogue.load(name)
            if bundle is None:
                wanted.cursor.problem(
                    f"{shown(name, 100)} is not in the catalogue.",
                    did_you_mean(name, catalogue.importable()) or "Import `vacuo/types.yaml`.",
                )
                return None
            return Layer(bundle.sections, bundle.files)
        found = self._shelf.get(name)
        if isinstance(found, Document):
            return self.layer(found, chain)
        if found is None:
            self.missing.setdefault(name)
        else:
            wanted.cursor.problem(found.sentence, found.suggestion)
        return None

    def layer(self, document: Document, chain: tuple[str, ...]) -> Layer | None:
        """The types of a document, checked; None where something that it imports is missing."""
        key = (document.name, document.sha256)
        known = self._done.get(key) or _layers.get(key)
        if known is None or not self._still(known, chain):
            known = self._check(document, chain)
        if known is not None:
            self._done[key] = known
        return known

    def _still(self, layer: Layer, chain: tuple[str, ...]) -> bool:
        """Whether every document behind ``layer`` is here, unchanged, and no way round to us."""
        for name, digest in layer.files:
            if name in chain:
                return False
            if not name.startswith(names.SHIPPED):
                found = self._shelf.get(name)
                if not isinstance(found, Document) or found.sha256 != digest:
                    return False
        return True

    def _check(self, document: Document, chain: tuple[str, ...]) -> Layer | None:
        found = _trees.get((document.name, document.sha256)) or _read(document)
        report = Report(names.shown(document.name), imported=True)
        report.adopt(found.problems)
        own: tuple[tuple[str, str], ...] = ((document.name, document.sha256),)
        if found.tree is None or report or top(root := Cursor.root(found.tree, report)) is None:
            return Layer({}, own, report.problems)
        before = len(self.missing)
        below = self.below(root, document.name, (*chain, document.name))
        if len(self.missing) > before:
            return None
        library = self._base.with_types(below.sections)
        _note_changes(root, self._base)
        root = root.replaced(_without(root.tree, self._base))
        checked = local_types(root, library) if not report else None
        sections = _own(root, checked, below.sections) if checked else below.sections
        return Layer(
            sections,
            (*own, *below.files),
            (*below.problems, *report.problems),
            (*below.notes, *found.notes, *report.notes),
        )


def _own(
    root: Cursor, library: Library, below: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Mapping[str, Any]]:
    """The types that ``root`` defines, and those ``below`` it."""
    found = {kind: dict(below.get(kind, {})) for kind in KINDS}
    for kind in KINDS:
        section = root.get(kind)
        for name in section.table() if section else ():
            if name in library.names(kind):  # one that is broken is not there, and told of
                found[kind][name] = library.sections[kind][name]
    return found


def _read(document: Document) -> _Read:
    report = Report(names.shown(document.name))
    try:
        tree = read(document.text, report, last_wins=True)
    except TemplateInvalid as invalid:
        return _Read(None, invalid.problems)
    if tree is None:
        report.add(START, (), "The imported document is empty.")
    return _Read(tree, report.problems, tuple(report.notes))


def _note_changes(root: Cursor, base: Library) -> None:
    """Types of the specification that a document defines otherwise: told, and not gone by."""
    for kind in KINDS:
        section = root.get(kind)
        for name, definition in (section.table() if section else {}).items():
            if base.has(kind, name) and _told(definition.value) != _told(base.sections[kind][name]):
                root.report.note(
                    definition.key,
                    f"{shown(name)} is a type of the specification, and stays what it is there.",
                )


def _told(definition: Any) -> Any:
    """A definition but for its description."""
    if not isinstance(definition, Mapping):
        return definition or {}
    return {key: value for key, value in definition.items() if key != "description"}


def _without(tree: Tree, base: Library) -> Tree:
    """A document less the types that the specification has already: those are never changed."""
    if not isinstance(tree, Table):
        return tree
    entries = dict(tree.entries)
    for kind in KINDS:
        if kind in entries and isinstance(section := entries[kind][1], Table):
            left = {n: one for n, one in section.entries.items() if not base.has(kind, n)}
            entries[kind] = (entries[kind][0], Table(section.mark, left))
    return Table(tree.mark, entries)


def _merge(sections: Sections, more: Mapping[str, Mapping[str, Any]], wanted: _Wanted) -> None:
    for kind, types in more.items():
        known = sections.setdefault(kind, {})
        for name, definition in types.items():
            if name in known and known[name] is not definition and known[name] != definition:
                wanted.cursor.problem(
                    f"The type {shown(name)} is defined here otherwise than by an import before.",
                    "Import one of them, or give one a `namespace_prefix`.",
                )
                return
            known[name] = definition


def _prefixed(
    sections: Mapping[str, Mapping[str, Any]], prefix: str
) -> Mapping[str, Mapping[str, Any]]:
    """With a prefix, each type also goes by ``prefix:name``, as one derived from it."""
    if not prefix:
        return sections
    return {
        kind: {**types, **{f"{prefix}:{name}": {"derived_from": name} for name in types}}
        for kind, types in sections.items()
    }


# --- what the entries say ------------------------------------------------------------------------


def _entries(root: Cursor, origin: str) -> Iterator[_Wanted]:
    section = root.get("imports")
    repositories = root.get("repositories")
    known = repositories.table() if repositories else {}
    for item in section.items() if section else ():
        wanted = _entry(item, known, origin)
        if wanted is not None:
            yield wanted


def _entry(item: Cursor, repositories: Mapping[str, Cursor], origin: str) -> _Wanted | None:
    """A word, ``{file: …}``, or ``{any name: word or {file: …}}``."""
    cursor = item
    if isinstance(cursor.tree, Table) and "file" not in cursor.tree.entries:
        inner = cursor.pair("An import") if len(cursor.tree.entries) == 1 else None
        if inner is None:
            cursor.problem("An import must name a `file`.", "Write `- vacuo/types.yaml`.")
            return None
        cursor = inner
    prefix, repository, file = "", None, cursor
    if isinstance(cursor.tree, Table):
        keys = cursor.table(_ENTRY)
        if "file" not in keys:
            cursor.problem("An import must name a `file`.", "Write `- vacuo/types.yaml`.")
            return None
        file, repository = keys["file"], keys.get("repository")
        prefix = (keys["namespace_prefix"].text() or "") if "namespace_prefix" in keys else ""
    if file.empty or file.value == "":
        file.problem("An import must name a file.", "Write `- vacuo/types.yaml`.")
        return None
    written = file.text()
    if written is None:
        return None
    name = (
        _in_repository(written, repository, repositories)
        if repository is not None
        else names.canonical(written, origin)
    )
    if isinstance(name, Refusal):
        file.problem(name.sentence, name.suggestion)
    return _Wanted(file, name, prefix) if isinstance(name, str) else None


def _in_repository(
    written: str, repository: Cursor, repositories: Mapping[str, Cursor]
) -> str | Refusal | None:
    name = repository.text()
    if name is None:
        return None
    if name not in repositories:
        repository.problem(
            f"There is no repository {shown(name)} in `repositories`.",
            did_you_mean(name, repositories),
        )
        return None
    place = repositories[name]
    place = (place.get("url") or place) if isinstance(place.tree, Table) else place
    address = place.text()
    if address is None:
        return None
    base = names.canonical(address.rstrip("/") + "/_", "")
    if isinstance(base, Refusal):
        place.problem(base.sentence, base.suggestion)
        return None
    found = names.canonical(written, base)
    if isinstance(found, str) and names.within(base.removesuffix("/_"), found) is None:
        return Refusal(f"The import leads out of the repository {shown(name)}.")
    return found
