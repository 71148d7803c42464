"""A place in a document: the tree there, its path, and where to say what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.tosca.problems import Mark, Path, Problem, Report, did_you_mean, listed, shown
from orchestrator.tosca.read import Listing, Scalar, Table, Tree, plain


@dataclass(frozen=True, slots=True)
class Cursor:
    """One value of a document.  ``key`` is where its key stands, or the value itself."""

    tree: Tree
    path: Path
    report: Report
    key: Mark

    @classmethod
    def root(cls, tree: Tree, report: Report) -> Cursor:
        return cls(tree, (), report, tree.mark)

    @property
    def name(self) -> str:
        return str(self.path[-1]) if self.path else "the document"

    @property
    def empty(self) -> bool:
        return isinstance(self.tree, Scalar) and self.tree.value is None

    @property
    def value(self) -> Any:
        return plain(self.tree)

    def problem(self, sentence: str, suggestion: str = "") -> None:
        """Something is wrong with the value."""
        self.report.add(self.tree.mark, self.path, sentence, suggestion)

    def problem_at_key(self, sentence: str, suggestion: str = "") -> None:
        """Something is wrong with there being such a key, or with what lacks in its value."""
        self.report.add(self.key, self.path, sentence, suggestion)

    def note(self, sentence: str) -> None:
        """The value is no mistake, and not what its writer may take it for."""
        self.report.note(self.tree.mark, sentence)

    def remark(self, sentence: str) -> Problem:
        """A note about there being such a key, for whoever keeps it elsewhere."""
        return Problem(self.report.file, self.key.line, self.key.column, "", sentence)

    def replaced(self, tree: Tree) -> Cursor:
        """Another value in this place."""
        return Cursor(tree, self.path, self.report, self.key)

    def get(self, key: str) -> Cursor | None:
        """The value of ``key``, or None where there is no such key or this is no mapping."""
        if not isinstance(self.tree, Table) or key not in self.tree.entries:
            return None
        mark, tree = self.tree.entries[key]
        return Cursor(tree, (*self.path, key), self.report, mark)

    def value_of(self, key: str) -> Any:
        """The plain value of ``key``; None where there is none."""
        found = self.get(key)
        return None if found is None else found.value

    def table(self, allowed: Collection[str] | None = None) -> dict[str, Cursor]:
        """The entries of a mapping; nothing at all counts as an empty one.

        Reports where this is no mapping, and every key that is not ``allowed``.
        """
        if self.empty:
            return {}
        if not isinstance(self.tree, Table):
            self.problem(f"{shown(self.name)} must be a mapping, not {kind(self.tree)}.")
            return {}
        entries = {key: self.get(key) for key in self.tree.entries}
        found = {key: inner for key, inner in entries.items() if inner is not None}
        if allowed is None:
            return found
        for key, inner in found.items():
            if key not in allowed:
                sentence = f"{shown(self.name)} has no key {shown(key)}."
                meant = did_you_mean(key, allowed)
                if self.report.imported and not meant:
                    self.report.note(inner.key, sentence)
                    continue
                hint = meant or f"Known here: {listed(sorted(allowed), 20)}."
                inner.problem_at_key(sentence, hint)
        return {key: inner for key, inner in found.items() if key in allowed}

    def pair(self, what: str) -> Cursor | None:
        """The value of a mapping's one key; reports where there is not just one."""
        if isinstance(self.tree, Table) and len(self.tree.entries) == 1:
            return self.get(next(iter(self.tree.entries)))
        self.problem(f"{what} is a mapping with one key, not {kind(self.tree)}.")
        return None

    def items(self) -> Iterator[Cursor]:
        """The items of a list; nothing at all counts as an empty one."""
        if self.empty:
            return
        if not isinstance(self.tree, Listing):
            self.problem(f"{shown(self.name)} must be a list, not {kind(self.tree)}.")
            return
        for index, tree in enumerate(self.tree.items):
            yield Cursor(tree, (*self.path, index), self.report, tree.mark)

    def text(self) -> str | None:
        """The value as text; reports where it is not."""
        if isinstance(self.tree, Scalar) and isinstance(self.tree.value, str):
            return self.tree.value
        self.problem(f"{shown(self.name)} must be text, not {kind(self.tree)}.")
        return None


def kind(tree: Tree) -> str:
    """What a value is, for a sentence."""
    if isinstance(tree, Table):
        return "a mapping"
    if isinstance(tree, Listing):
        return "a list"
    if tree.value is None:
        return "nothing"
    if isinstance(tree.value, bool):
        return f"the boolean {shown(tree.text)}"
    if isinstance(tree.value, int | float):
        return f"the number {shown(tree.text)}"
    return shown(tree.text)
