"""YAML to a tree that knows where everything stood, with limits that hold before it is expanded.

Scalars follow the YAML 1.2 core schema, and the booleans of YAML 1.1 (``yes``, ``off``) besides;
timestamps, base-60 and octal-looking numbers stay text.  An alias shares the tree it names, so it
costs nothing; its expanded size is counted all the same and bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from orchestrator.tosca.problems import START, Mark, Path, Report, TemplateInvalid, shown

DEPTH = 48
NODES = 100_000  # after expansion
ALIASES = 1_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
_FALSE = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_BASED = re.compile(r"0(?:x[0-9a-fA-F]{1,15}|o[0-7]{1,20})")
_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,40}\.[0-9]{0,40}|\.?[0-9]{1,40})(?:[eE][-+]?[0-9]{1,3})?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]")
_TEXT_TAGS = frozenset({"!", "tag:yaml.org,2002:str"})


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value as YAML reads it, and the text that stood there."""

    mark: Mark
    value: str | int | float | bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping: key to (place of the key, value)."""

    mark: Mark
    entries: dict[str, tuple[Mark, Tree]]


@dataclass(frozen=True, slots=True)
class Listing:
    """A sequence."""

    mark: Mark
    items: tuple[Tree, ...]


Tree = Scalar | Table | Listing


def read(text: str, report: Report, *, last_wins: bool = False) -> Tree | None:
    """The one document in ``text``; None where there is none.

    Raises :class:`TemplateInvalid` where it is not YAML or too large to be expanded; other
    problems (duplicate keys, keys that are not text) go into ``report``.  With ``last_wins`` a
    duplicate key is a note only, and its last value counts: for documents that whoever sends the
    template cannot change.
    """
    try:
        return _Composer(text, report, last_wins).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Mark(mark.line + 1, mark.column + 1) if mark else START
        report.add(where, (), f"This is not YAML: {error.problem or 'it cannot be read'}.")
    except yaml.YAMLError:
        report.add(START, (), "This is not YAML: it holds characters that text may not hold.")
    raise TemplateInvalid(report.problems)


def plain(tree: Tree) -> Any:
    """The tree as dict, list and scalars."""
    if isinstance(tree, Scalar):
        return tree.value
    if isinstance(tree, Listing):
        return [plain(item) for item in tree.items]
    return {key: plain(value) for key, (_, value) in tree.entries.items()}


def tree_of(value: Any, mark: Mark) -> Tree:
    """Plain data as a tree all of which stands at ``mark``; late values stay as they are."""
    if isinstance(value, dict):
        entries = {str(key): (mark, tree_of(inner, mark)) for key, inner in value.items()}
        return Table(mark, entries)
    if isinstance(value, list | tuple):
        return Listing(mark, tuple(tree_of(inner, mark) for inner in value))
    return Scalar(mark, value, str(value))


class _Composer:
    """Builds the tree from parser events; recursion is bounded by ``DEPTH``."""

    def __init__(self, text: str, report: Report, last_wins: bool) -> None:
        self._last_wins = last_wins
        self._events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        self._report = report
        self._anchors: dict[str, tuple[Tree, int, int]] = {}  # tree, expanded size, height
        self._open: set[str] = set()
        self._size = 0
        self._aliases = 0

    def document(self) -> Tree | None:
        next(self._events)  # the start of the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        tree, _ = self._node(next(self._events), 0, ())
        next(self._events)  # the end of the document
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._report.add(_mark(after), (), "A second YAML document begins here; give only one.")
        return tree

    def _node(self, event: Any, depth: int, path: Path) -> tuple[Tree, int]:
        """The tree that begins with ``event``, and its height."""
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth, path)
        self._grow(1, event, depth, path)
        before, anchor = self._size, event.anchor
        if anchor:
            self._open.add(anchor)
        tree: Tree
        if isinstance(event, yaml.ScalarEvent):
            tree, height = self._scalar(event, path), 0
        elif isinstance(event, yaml.SequenceStartEvent):
            tree, height = self._listing(event, depth, path)
        else:
            tree, height = self._table(event, depth, path)
        if anchor:
            self._open.discard(anchor)
            self._anchors[anchor] = (tree, self._size - before + 1, height)
        return tree, height

    def _grow(self, by: int, event: Any, depth: int, path: Path) -> None:
        self._size += by
        if depth > DEPTH:
            self._give_up(event, path, f"This is nested more than {DEPTH} levels deep.")
        if self._size > NODES:
            self._give_up(
                event, path, f"The document has more than {NODES} values, aliases included."
            )

    def _alias(self, event: Any, depth: int, path: Path) -> tuple[Tree, int]:
        self._aliases += 1
        if self._aliases > ALIASES:
            self._give_up(event, path, f"The document has more than {ALIASES} aliases.")
        if event.anchor in self._open:
            self._give_up(event, path, f"The alias {shown('*' + event.anchor)} contains itself.")
        if event.anchor not in self._anchors:
            self._give_up(event, path, f"The alias {shown('*' + event.anchor)} names no anchor.")
        tree, size, height = self._anchors[event.anchor]
        self._grow(size, event, depth + height, path)
        return tree, height

    def _scalar(self, event: Any, path: Path) -> Scalar:
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            self._tag(event, path)
        if event.tag is not None or not event.implicit[0]:
            return Scalar(_mark(event), event.value, event.value)
        return Scalar(_mark(event), resolve(event.value), event.value)

    def _listing(self, event: Any, depth: int, path: Path) -> tuple[Listing, int]:
        if event.tag not in (None, "!", "tag:yaml.org,2002:seq"):
            self._tag(event, path)
        items: list[Tree] = []
        highest = 0
        while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
            tree, height = self._node(inner, depth + 1, (*path, len(items)))
            items.append(tree)
            highest = max(highest, height + 1)
        return Listing(_mark(event), tuple(items)), highest

    def _table(self, event: Any, depth: int, path: Path) -> tuple[Table, int]:
        if event.tag not in (None, "!", "tag:yaml.org,2002:map"):
            self._tag(event, path)
        entries: dict[str, tuple[Mark, Tree]] = {}
        merged: list[Table] = []
        highest = 0
        while not isinstance(inner := next(self._events), yaml.MappingEndEvent):
            key, _ = self._node(inner, depth + 1, path)
            name = self._key(key, path)
            value, height = self._node(next(self._events), depth + 1, (*path, name))
            highest = max(highest, height + 1)
            if name == "<<" and isinstance(inner, yaml.ScalarEvent) and inner.implicit[0]:
                merged += self._merged(value, path)
            elif name in entries:
                first = entries[name][0].line
                sentence = f"The key {shown(name)} stands here twice; the first is in line {first}."
                if self._last_wins:
                    self._report.note(key.mark, f"{sentence} This one counts.")
                    entries[name] = (key.mark, value)
                else:
                    self._report.add(key.mark, (*path, name), sentence, "Remove one of them.")
            else:
                entries[name] = (key.mark, value)
        for table in merged:
            for name, entry in table.entries.items():
                entries.setdefault(name, entry)
        return Table(_mark(event), entries), highest

    def _key(self, key: Tree, path: Path) -> str:
        if not isinstance(key, Scalar):
            self._report.add(key.mark, path, "A key must be text, not a mapping or a list.")
            return f"?{key.mark.line}:{key.mark.column}"
        if not isinstance(key.value, str):
            hint = f'Write "{key.text}", in quotes.' if key.text else ""
            what = {bool: "a boolean", int: "a number", float: "a number"}.get(
                type(key.value), "nothing at all"
            )
            sentence = f"A key must be text; YAML reads {shown(key.text)} as {what}."
            self._report.add(key.mark, path, sentence, hint)
        return key.text

    def _merged(self, value: Tree, path: Path) -> list[Table]:
        tables = list(value.items) if isinstance(value, Listing) else [value]
        for table in tables:
            if not isinstance(table, Table):
                sentence = "Only a mapping, or a list of mappings, can be merged with `<<`."
                self._report.add(table.mark, (*path, "<<"), sentence)
        return [table for table in tables if isinstance(table, Table)]

    def _tag(self, event: Any, path: Path) -> None:
        self._report.add(
            _mark(event), path, f"The YAML tag {shown(event.tag)} is not allowed here."
        )

    def _give_up(self, event: Any, path: Path, sentence: str) -> None:
        self._report.add(_mark(event), path, sentence)
        raise TemplateInvalid(self._report.problems)


def resolve(text: str) -> str | int | float | bool | None:
    """What a plain scalar means."""
    if text in _NULLS:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text) and not _LEADING_ZERO.match(text) and any(c in text for c in ".eE"):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def _mark(event: Any) -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)
