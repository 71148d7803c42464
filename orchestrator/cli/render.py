"""How values look: durations, states, tables; and text from elsewhere made harmless."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

# Everything a terminal might obey: a boot console or an Ansible message is somebody else's text.
_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_STYLES = {
    "COMPLETE": "green",
    "JOINED": "green",
    "FAILED": "bold red",
    "DELETING": "magenta",
    "DRAINING": "magenta",
    "GONE": "dim",
    "UNKNOWN": "yellow",
}


def plain(value: object) -> str:
    """``value`` as text without terminal escapes, control and direction characters."""
    return _CONTROLS.sub("", _SEQUENCES.sub("", str(value).replace("\r\n", "\n")))


def one_line(value: object) -> str:
    """:func:`plain`, on a single line."""
    return " ".join(plain(value).split())


def duration(seconds: float | None) -> str:
    """``73`` → ``1m13s``; None, which is *unknown*, → ``?``."""
    if seconds is None:
        return "?"
    left = max(0, int(seconds))
    if left < 60:
        return f"{left}s"
    if left < 3600:
        return f"{left // 60}m{left % 60:02d}s"
    if left < 86400:
        return f"{left // 3600}h{left % 3600 // 60:02d}m"
    return f"{left // 86400}d{left % 86400 // 3600:02d}h"


def number(value: object) -> str:
    """A count, or ``?`` where it is not known."""
    return "?" if value is None else plain(value)


def timestamp(value: object) -> float | None:
    """Seconds since the epoch of an ISO 8601 text or a number; None where it is neither."""
    if isinstance(value, int | float):
        return float(value)
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return None


def age(value: object, now: float | None = None) -> str:
    """How long ago the moment ``value`` was."""
    then = timestamp(value)
    return "?" if then is None else duration((time.time() if now is None else now) - then)


def clock(value: object) -> str:
    """The local time of day of a moment."""
    then = timestamp(value)
    return "--:--:--" if then is None else time.strftime("%H:%M:%S", time.localtime(then))


def state(word: object) -> Text:
    """A status or a node state in its colour."""
    text = plain(word)
    style = next((style for key, style in _STYLES.items() if text.endswith(key)), "cyan")
    return Text(text, style)


def marks(node: Mapping[str, Any]) -> str:
    """What an update does to a node that is there: it is outdated, or refreshing, or neither."""
    return ", ".join(word for word in ("outdated", "refreshing") if node.get(word))


def phase(word: object, marked: str) -> Text:
    """A node's phase with its :func:`marks`."""
    return Text.assemble(state(word), (f" {marked}" if marked else "", "yellow"))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A plain table; cells that are not :class:`Text` are made harmless text."""
    made = Table(
        *columns, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold"
    )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(plain(cell)) for cell in row))
    return made


def reason_lines(reason: Mapping[str, Any]) -> list[Text]:
    """A reason as the API gives it: the sentence with its code, then the command to run next."""
    lines = [
        Text.assemble(plain(reason.get("sentence", "")), (f"  [{plain(reason['code'])}]", "dim"))
    ]
    command = reason.get("nextCommand")
    if command:
        lines.append(Text.assemble(("  next: ", "dim"), plain(command)))
    return lines


def bar(parts: Sequence[tuple[int, str]], whole: int, width: int = 30) -> Text:
    """A bar of ``whole`` cut into coloured parts; what is left over is dotted."""
    if whole <= 0:
        return Text("·" * width, "dim")
    text, used = Text(), 0
    for count, style in parts:
        cells = min(width - used, round(width * count / whole))
        text.append("█" * cells, style)
        used += cells
    return text.append("·" * (width - used), "dim")
