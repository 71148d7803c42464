"""A YAML file that a person writes: its document, the line of each part, and exact errors.

What is wrong is told by file, line and name, and never by its value: that may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import UserError

Place = tuple[str | int, ...]
"""Where in a document: names and indexes from its root on."""

_QUOTED = re.compile(r"'([^']*)'")
_TOKEN = re.compile(r"<[a-z ]+>")


def read(path: Path) -> tuple[dict[str, Any], dict[Place, str]]:
    """The document of ``path``, and ``FILE:LINE`` of each of its parts.

    A file of nothing but comments is an empty document.  Raises :class:`UserError` where it cannot
    be read, is no YAML, is no mapping or says a thing twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise _unusable(path, f"It cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise _unusable(path, "It is not text in UTF-8.") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
        lines = list(_lines(root, ())) if root else []
    except RecursionError:
        raise _unusable(path, "It is nested too deeply.") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that there is not
        raise _unusable(path, _yaml_sentence(path, error)) from None
    if document is None:  # nothing but comments
        return {}, {}
    if not isinstance(document, dict):
        raise _unusable(path, f"{path}:1: it is not a mapping of names to values.")
    _refuse_duplicates(path, lines)
    return document, {place: f"{path}:{line}" for place, line in lines}


def _lines(node: yaml.Node, place: Place) -> Iterator[tuple[Place, int]]:
    """Each part of the document with its line; a part of a mapping begins with its key."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*place, key.value), key.start_mark.line + 1
            yield from _lines(value, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*place, index), value.start_mark.line + 1
            yield from _lines(value, (*place, index))


def _refuse_duplicates(path: Path, lines: Sequence[tuple[Place, int]]) -> None:
    """YAML would take the last one silently."""
    first: dict[Place, int] = {}
    twice: dict[Place, str] = {}
    for place, line in lines:
        if place in first and place[:-1] not in twice:
            at = f"{path}:{line}: {dotted(place)}"
            twice[place] = f"{at}: is there already, in line {first[place]}."
        first.setdefault(place, line)
    if twice:
        raise _unusable(path, "\n".join(twice.values()))


def _yaml_sentence(path: Path, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else f"{path}"
    said = str(getattr(error, "problem", None) or "a value or character that YAML does not allow")
    return f"{where}: it is not YAML: {_QUOTED.sub(_harmless, said)}."


def _harmless(quoted: re.Match[str]) -> str:
    """What the parser quotes may be part of a secret; one character, or a kind of token, is not."""
    return quoted[0] if len(quoted[1]) < 2 or _TOKEN.fullmatch(quoted[1]) else "'...'"


def dotted(place: Place) -> str:
    return ".".join(str(part) for part in place)


def _unusable(path: Path, why: str) -> UserError:
    return UserError(
        f"The configuration {path} cannot be used.",
        why,
        "see docs/admin/configuration.md, or run: vacuo server config --defaults",
        code="configuration-invalid",
    )
