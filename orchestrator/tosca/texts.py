"""``concat``, ``join`` and ``token``: texts made of texts, now or once they are known."""

from __future__ import annotations

from typing import Any

from orchestrator.model import Concat, Join, Token, Value
from orchestrator.tosca.cursor import Cursor, kind
from orchestrator.tosca.problems import shown
from orchestrator.tosca.read import Listing
from orchestrator.tosca.values import INVALID, Checker, is_late


def text_function(name: str, argument: Cursor, checker: Checker) -> Value:
    """The value of one of the three; null where a part is, INVALID where a part is."""
    if not isinstance(argument.tree, Listing):
        argument.problem(f"`{name}` takes a list.")
        return INVALID
    if name == "join":
        return _join(argument, checker)
    parts = []
    for item in argument.items():
        part = checker.free(item)
        if isinstance(part, dict | list) or item.empty:
            item.problem(f"`{name}` takes texts, not {kind(item.tree)}.")
            part = INVALID
        parts.append(part)
    if any(part is INVALID for part in parts):
        return INVALID
    return _token(argument, parts) if name == "token" else _concat(parts)


def _concat(parts: list[Any]) -> Value:
    if any(part is None for part in parts):
        return None
    if any(is_late(part) for part in parts):
        return Concat(tuple(part if is_late(part) else _written(part) for part in parts))
    return "".join(_written(part) for part in parts)


def _join(argument: Cursor, checker: Checker) -> Value:
    items = list(argument.items())
    if not 1 <= len(items) <= 2:
        argument.problem("`join` takes [list of texts, delimiter].")
        return INVALID
    texts = checker.free(items[0])
    delimiter = checker.free(items[1]) if len(items) == 2 else ""
    if texts is INVALID or delimiter is INVALID:
        return INVALID
    if not isinstance(delimiter, str):
        items[1].problem("The delimiter of `join` must be text that is known now.")
        return INVALID
    if texts is None or is_late(texts):
        return None if texts is None else Join(texts, delimiter)
    if not isinstance(texts, list) or any(isinstance(one, dict | list) for one in texts):
        items[0].problem("`join` takes a list of texts, and a delimiter.")
        return INVALID
    if any(is_late(one) for one in texts):
        return Join([one if is_late(one) else _written(one) for one in texts], delimiter)
    return delimiter.join(_written(one) for one in texts)


def _token(argument: Cursor, parts: list[Any]) -> Value:
    if len(parts) != 3 or not isinstance(parts[1], str) or not parts[1]:
        argument.problem("`token` takes [text, separator, index].")
        return INVALID
    text, separator, index = parts
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        argument.problem("The index of `token` must be a whole number from 0.")
        return INVALID
    if text is None:
        return None
    if is_late(text):
        return Token(text, separator, index)
    pieces = str(text).split(separator)
    if index >= len(pieces):
        argument.problem(f"`token` wants part {index} of {shown(text)}, which has fewer.")
        return INVALID
    return pieces[index]


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
