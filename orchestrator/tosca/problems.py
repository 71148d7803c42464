"""What is wrong with a template, precisely: one :class:`Problem` for each thing, all at once."""

from __future__ import annotations

import difflib
import heapq
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from orchestrator.errors import UserError
from orchestrator.tosca import patience

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in the text: line and column, both from 1."""

    line: int
    column: int


START = Mark(1, 1)
SUGGESTING_SECONDS = 0.15  # of processor time, for all suggestions about one document
_suggesting = 0.0
_LONGEST = 100
_CANDIDATES = 400


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or to be noted: where in file and document, what, what to try.

    ``line`` and ``column`` count from 1; ``path`` is dotted, with list indices in brackets;
    ``sentence`` ends in a full stop; ``suggestion`` is empty where there is none.
    """

    file: str
    line: int
    column: int
    path: str
    sentence: str
    suggestion: str = ""

    @property
    def message(self) -> str:
        return f"{self.sentence} {self.suggestion}".rstrip()

    def as_text(self, source: str = "") -> str:
        """``file:line:column: sentence``, and the line of ``source`` with a caret below."""
        head = f"{self.file}:{self.line}:{self.column}: {self.message}"
        lines = source.split("\n")
        if not source or not 0 < self.line <= len(lines):
            return head
        line = lines[self.line - 1].rstrip("\r").replace("\t", " ")
        first = max(0, self.column - 100)
        return f"{head}\n  {line[first : first + 160]}\n  {' ' * (self.column - 1 - first)}^"


class TemplateInvalid(UserError):
    """A template, or the parameters given with it, cannot be used; ``problems`` says why."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        super().__init__(
            f"The template has {count} problems." if count != 1 else "The template has a problem.",
            "\n".join(problem.as_text() for problem in self.problems),
            code="template-invalid",
            status=400,
        )

    def as_text(self, source: str = "") -> str:
        """Every problem, with its line of ``source``."""
        return "\n".join(problem.as_text(source) for problem in self.problems)


class Report:
    """Collects the problems of one file; with the ``limit``-th it raises :class:`TemplateInvalid`.

    Of an ``imported`` file, which whoever sends the template cannot change, what is odd and
    harmless is a note.
    """

    def __init__(self, file: str, limit: int = 200, imported: bool = False) -> None:
        global _suggesting
        if not imported:
            _suggesting = 0.0
            patience.begin()
        self.file = file
        self.imported = imported
        self._limit = limit
        self._problems: dict[Problem, None] = {}
        self._adopted: dict[Problem, None] = {}
        self._muted = False
        self.count = 0  # of all that were added, kept or not
        self.notes: dict[Problem, None] = {}

    def add(self, mark: Mark, path: Path, sentence: str, suggestion: str = "") -> None:
        if self._muted:
            return
        self.count += 1
        where = dotted(path)
        problem = Problem(self.file, mark.line, mark.column, where, sentence, suggestion)
        self._problems[problem] = None
        if len(self._problems) >= self._limit:
            raise TemplateInvalid(self.problems)

    def note(self, mark: Mark, sentence: str) -> None:
        """Something that is no problem, and that whoever sent the template should know."""
        if not self._muted and len(self.notes) < self._limit:
            self.notes[Problem(self.file, mark.line, mark.column, "", sentence)] = None

    def adopt(self, problems: Iterable[Problem]) -> None:
        """Take over problems of other files, in their order; they stand after those of this one."""
        more = dict.fromkeys(problems)
        self.count += len(more)
        self._adopted |= dict(list(more.items())[: self._limit])

    @contextmanager
    def muted(self) -> Iterator[None]:
        """Look at values before it is certain that they count: nothing is reported meanwhile."""
        before, self._muted = self._muted, True
        try:
            yield
        finally:
            self._muted = before

    @property
    def problems(self) -> tuple[Problem, ...]:
        own = sorted(self._problems, key=lambda p: (p.line, p.column, p.sentence))
        return (*own, *self._adopted)

    def __bool__(self) -> bool:
        return bool(self._problems or self._adopted)

    def raise_if_any(self) -> None:
        if self:
            raise TemplateInvalid(self.problems)


def dotted(path: Path) -> str:
    """``("policies", 0, "type")`` as ``policies[0].type``."""
    text = ""
    for word in path:
        text += f"[{word}]" if isinstance(word, int) else f".{word}" if text else word
    return text


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """A suggestion of the known word most like ``word``, or nothing.

    Comparing is slow, and a hostile document has much to compare: of many words only those of
    about the same length are looked at, and none once :data:`SUGGESTING_SECONDS` are over.
    """
    global _suggesting
    if _suggesting > SUGGESTING_SECONDS:
        return ""
    began = time.process_time()
    text = str(word)[:_LONGEST]
    candidates = [name for name in known if len(name) <= _LONGEST]
    if len(candidates) > _CANDIDATES:
        candidates = heapq.nsmallest(
            _CANDIDATES, candidates, key=lambda name: abs(len(name) - len(text))
        )
    close = difflib.get_close_matches(text, candidates, n=1, cutoff=0.6)
    if not close and text:
        lower = {name.lower().rpartition(".")[2]: name for name in candidates}
        close = difflib.get_close_matches(text.lower().rpartition(".")[2], lower, n=1, cutoff=0.75)
        close = [lower[name] for name in close]
    _suggesting += time.process_time() - began
    return f"Did you mean `{close[0]}`?" if close else ""


def shown(value: object, limit: int = 60) -> str:
    """A value as a sentence can hold it: short, on one line, in back-quotes."""
    text = " ".join(str(value).split())
    return f"`{text[: limit - 1]}…`" if len(text) > limit else f"`{text}`"


def listed(words: Iterable[object], limit: int = 8) -> str:
    """``a, b, c``, cut where it gets long."""
    texts = [str(word) for word in words]
    return ", ".join(texts[:limit]) + (", …" if len(texts) > limit else "")
