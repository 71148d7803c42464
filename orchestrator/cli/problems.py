"""What a person is told when something goes wrong: what, why, what to try; and where to read on."""

from __future__ import annotations

import json
import re
import sys
import traceback
from dataclasses import dataclass, field
from typing import Any

import httpx
import typer
from rich.text import Text

from orchestrator.cli import exitcodes, render
from orchestrator.cli.session import SCHEMA, Output, Session
from orchestrator.errors import UserError

# The parser's error for a command that was typed wrongly; Typer exports only this subclass of it.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


@dataclass
class Failure(UserError):
    """A :class:`UserError` with what only the command line knows of it.

    ``docs`` is where the code is documented, ``correlation`` the server's name for the request,
    ``errors`` the entries of a problem's list, as in ``docs/user/api.md``.
    """

    docs: str = ""
    correlation: str = ""
    exit_code: int = exitcodes.ERROR
    errors: list[dict[str, Any]] = field(default_factory=list)


def of_response(response: httpx.Response) -> Failure:
    """The failure that an error answer tells of, whether or not it is problem+json."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or "code" not in body:
        return Failure(
            f"{response.url.host} answered {response.status_code} and not as a Vacuo server does.",
            "Something else may listen at that address, or a proxy stands between.",
            "check the address with: vacuo doctor",
            code="not-vacuo",
            status=response.status_code,
        )
    attempt = str(body.get("attempt") or "")
    if response.status_code == httpx.codes.UNAUTHORIZED and not attempt:
        attempt = "vacuo login"
    kind = str(body.get("type") or "")
    return Failure(
        str(body.get("what") or body.get("detail") or body.get("title") or "The request failed."),
        str(body.get("why") or ""),
        attempt,
        code=str(body["code"]),
        status=response.status_code,
        docs=str(response.url.join(kind)) if kind else "",
        correlation=str(body.get("correlation") or ""),
        exit_code=exitcodes.of_status(response.status_code),
        errors=[entry for entry in body.get("errors") or [] if isinstance(entry, dict)],
    )


def unreachable(server: str, error: httpx.TransportError) -> Failure:
    """No answer at all; the message of the transport is the why."""
    if isinstance(error, httpx.TimeoutException):
        why = "It did not answer in time."
    else:
        message = re.sub(r"^\[Errno -?\d+\] ", "", render.one_line(error))
        why = f"{message or type(error).__name__}."
    return Failure(
        f"No Vacuo server answers at {server}.",
        why,
        "start one with: vacuo server start; or name another with --server URL or VACUO_SERVER",
        code="server-unreachable",
        status=0,
        docs="docs/user/cli.md#exit-codes",
        exit_code=exitcodes.UNREACHABLE,
    )


def show(session: Session | None, error: Exception) -> int:
    """Print ``error`` on standard error and return the exit code it means."""
    if isinstance(error, UsageError):
        error = _usage(error)
    if not isinstance(error, UserError):
        return _unexpected(session, error)
    exit_code = error.exit_code if isinstance(error, Failure) else _exit_code(error)
    if session is None:
        session = Session(server="")
    if session.output is Output.JSON:
        print(json.dumps({"schema": SCHEMA, "error": _as_json(error)}), file=sys.stderr)
    else:
        for line in _lines(error):
            session.err.print(line, soft_wrap=True)
    if session.debug:
        traceback.print_exception(error, file=sys.stderr)
    return exit_code


def _exit_code(error: UserError) -> int:
    """For the errors of the modules below, which know codes and no exit codes."""
    if error.code in ("server-unreachable", "issuer-unreachable"):
        return exitcodes.UNREACHABLE
    return exitcodes.of_status(error.status)


def _usage(error: Exception) -> Failure:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "vacuo"
    message = getattr(error, "format_message", lambda: str(error))()
    return Failure(
        render.one_line(message),
        "",
        f"{command} --help",
        code="usage",
        docs="docs/user/cli.md#exit-codes",
        exit_code=exitcodes.USAGE,
    )


def _unexpected(session: Session | None, error: Exception) -> int:
    if session is not None and session.debug:
        traceback.print_exception(error, file=sys.stderr)
        return exitcodes.ERROR
    return show(
        session,
        # The message of an unknown error may hold anything, a token too: only its kind is shown.
        Failure(
            f"The command stopped at an error that it does not know ({type(error).__name__}).",
            "This is a fault of Vacuo.",
            "the same command with --debug, and report what it prints",
            code="internal",
        ),
    )


def _as_json(error: UserError) -> dict[str, Any]:
    document: dict[str, Any] = {
        "code": error.code,
        "what": error.what,
        "why": error.why,
        "try": error.attempt,
    }
    if isinstance(error, Failure):
        document |= {
            "docs": error.docs,
            "correlation": error.correlation,
            "errors": error.errors,
        }
    return document


def _lines(error: UserError) -> list[Text]:
    lines = [Text.assemble(("error: ", "bold red"), (render.plain(error.what), "bold"))]
    errors = error.errors if isinstance(error, Failure) else []
    if error.why and not errors:
        lines.append(_part("  why: ", error.why))
    lines += [_part("       ", sentence_of(entry)) for entry in errors]
    if error.attempt:
        lines.append(_part("  try: ", error.attempt))
    tail = error.code
    if isinstance(error, Failure):
        tail += f" · {error.docs}" if error.docs else ""
        tail += f" · request {error.correlation}" if error.correlation else ""
    lines.append(Text(f"       [{render.plain(tail)}]", "dim"))
    return lines


def sentence_of(entry: dict[str, Any]) -> str:
    """One entry of a problem's list on one line: where, what, and what was perhaps meant."""
    place = ":".join(str(entry[k]) for k in ("file", "line", "column") if entry.get(k) is not None)
    sentence = str(entry.get("sentence", ""))
    hint = entry.get("suggestion") or ""
    return ": ".join(part for part in (place, sentence) if part) + (f" ({hint})" if hint else "")


def _part(label: str, text: str) -> Text:
    indented = render.plain(text).replace("\n", "\n" + " " * len(label))
    return Text.assemble((label, "dim"), indented)
