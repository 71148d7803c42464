"""What every command shares: the two consoles, the form of output, and the server."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from orchestrator.cli import render

if TYPE_CHECKING:
    from orchestrator.cli.client import Api

SCHEMA = "vacuo.cli/1"
# Where there is no terminal, nothing is folded or cut: the reader is a file or another program.
_WIDE = 400


class Output(StrEnum):
    """The form of what goes to standard output."""

    TABLE = "table"
    JSON = "json"
    NAME = "name"
    SARIF = "sarif"  # these two are for `validate` alone
    GITHUB = "github"


def console(error: bool, color: bool) -> Console:
    """A console on one of the two standard streams, which obeys no markup in what it is given."""
    stream = sys.stderr if error else sys.stdout
    return Console(
        file=stream,
        no_color=not color or None,
        color_system="auto" if color else None,
        markup=False,
        emoji=False,
        highlight=False,
        width=None if stream.isatty() else _WIDE,
    )


@dataclass
class Session:
    """One call of the command.  Data goes to ``out``, everything said about it to ``err``."""

    server: str
    output: Output = Output.TABLE
    debug: bool = False
    color: bool = True
    show_request: bool = False
    out: Console = field(init=False, repr=False)
    err: Console = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.color = self.color and not os.environ.get("NO_COLOR")
        self.out = console(error=False, color=self.color)
        self.err = console(error=True, color=self.color)

    @cached_property
    def api(self) -> Api:
        # Imported on the first request: `vacuo validate` and completion start faster without it.
        from orchestrator.cli.client import Api

        return Api(self)

    def emit(
        self, kind: str, data: Any, shown: Iterable[RenderableType], names: Iterable[str] = ()
    ) -> None:
        """Print ``data`` once, in the form that was asked for.

        ``kind`` is its key in the JSON document; ``shown`` is the form for people; ``names`` are
        the lines of ``--output name``.
        """
        if self.output is Output.JSON:
            self.document(kind, data)
        elif self.output is Output.NAME:
            for name in names:
                self.out.print(Text(render.plain(name)), soft_wrap=True)
        else:
            for part in shown:
                self.out.print(part)

    def document(self, kind: str, data: Any, compact: bool = False) -> None:
        """One JSON document, or one line of a JSON stream, on standard output."""
        indent = None if compact else 2
        text = json.dumps({"schema": SCHEMA, kind: data}, indent=indent, ensure_ascii=False)
        print(text, file=self.out.file, flush=True)

    def say(self, text: str | Text, style: str = "") -> None:
        """Something about the work, for the person who watches."""
        self.err.print(text if isinstance(text, Text) else Text(render.plain(text), style))

    def next(self, command: str) -> None:
        """What a person would do next; a program that asked for JSON or names is not told."""
        if self.output is Output.TABLE and command:
            self.err.print(Text.assemble(("next: ", "dim"), render.plain(command)), soft_wrap=True)


def of(context: typer.Context) -> Session:
    """The session that the global options made."""
    found = context.find_object(Session)
    assert found is not None, "the callback of the root command makes the session"
    return found
