"""``doctor``: what works and what does not, each with what to do; also when the server is down."""

from __future__ import annotations

import email.utils
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import typer
from rich.text import Text

from orchestrator import __version__, settings
from orchestrator.cli import exitcodes, login, render, session
from orchestrator.cli.problems import Failure
from orchestrator.cli.session import Session
from orchestrator.errors import UserError

Json = dict[str, Any]

# Tokens are refused on a clock that is further off than this (reference: nbf skew of 60 s).
_SKEW_SECONDS = 60.0


@dataclass(frozen=True)
class Check:
    """One thing looked at.  ``ok`` is None where it cannot be told."""

    name: str
    ok: bool | None
    detail: str
    fix: str = ""


def doctor(context: typer.Context) -> None:
    """Check everything, and say what to mend."""
    current = session.of(context)
    checks = []
    for check in _checks(current):
        checks.append(check)
        if current.output is session.Output.TABLE:
            for line in _lines(check):
                current.out.print(line, soft_wrap=True)
    if current.output is not session.Output.TABLE:
        current.emit("checks", [asdict(check) for check in checks], [], _failed(checks))
    if _failed(checks):
        raise typer.Exit(exitcodes.ERROR)
    current.next("vacuo up TEMPLATE")


def _failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if check.ok is False]


def _checks(current: Session) -> Iterator[Check]:
    yield _configuration()
    yield _ssh()
    up = _server(current)
    yield up
    if not up.ok:
        yield Check("clock", None, "The server's clock cannot be read while it does not answer.")
        yield _token(current, asked=False)
        yield Check("sites and pools", None, "Only the server can look at them.", up.fix)
        return
    yield _clock(current)
    token = _token(current, asked=True)
    yield token
    yield from _told(current, "/readyz", public=True)
    if token.ok:
        yield from _told(current, "/checks", public=False)
    else:
        yield Check("sites and pools", None, "They are shown to those who log in.", token.fix)


def _lines(check: Check) -> Iterator[Text]:
    mark, style = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("?", "yellow")}[check.ok]
    yield Text.assemble(
        (mark, style), f" {render.one_line(check.name):16} {render.one_line(check.detail)}"
    )
    if check.fix and check.ok is not True:
        yield Text.assemble(("    fix: ", "dim"), render.one_line(check.fix))


def _attempt(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except UserError as error:
        detail = " ".join(part for part in (error.what, error.why) if part)
        return Check(name, False, detail, error.attempt)


def _configuration() -> Check:
    """Only where there is a file: a machine that is only a client needs none."""

    def look() -> Check:
        path = settings.find()
        if path is None:
            return Check("configuration", True, "No vacuo.yaml here: this machine is a client.")
        found = settings.load(path)
        sites, pools = len(found.sites), len(found.pools)
        return Check("configuration", True, f"{path}: {sites} sites, {pools} pools.")

    return _attempt("configuration", look)


def _ssh() -> Check:
    if shutil.which("ssh"):
        return Check("ssh", True, "There is an ssh client for: vacuo ssh.")
    return Check("ssh", False, "vacuo ssh needs an ssh client.", "install an OpenSSH client")


def _server(current: Session) -> Check:
    def look() -> Check:
        info = current.api.get("/info", public=True)
        version = str(info.get("version"))
        detail = f"{current.server} answers, version {version}."
        if version.split(".")[:2] != __version__.split(".")[:2]:
            fix = f"install vacuo {version} here, or {__version__} there"
            return Check("server", False, f"{detail} This command is {__version__}.", fix)
        return Check("server", True, detail)

    return _attempt("server", look)


def _clock(current: Session) -> Check:
    def look() -> Check:
        header = current.api.answer("GET", "/healthz", {}, public=True).headers.get("Date")
        if not header:
            return Check("clock", None, "The server does not tell its time.")
        # The header is cut to whole seconds.
        skew = time.time() - email.utils.parsedate_to_datetime(header).timestamp() - 0.5
        detail = f"{abs(skew):.0f} s from the server's clock."
        if abs(skew) > _SKEW_SECONDS:
            fix = "synchronise the clocks of both machines (chrony, systemd-timesyncd)"
            return Check("clock", False, detail, fix)
        return Check("clock", True, detail)

    return _attempt("clock", look)


def _token(current: Session, asked: bool) -> Check:
    """Whether there is a token, how long it lasts, and whether the server takes it."""

    def look() -> Check:
        found = login.find_credential(current)
        left = found.seconds_left(time.time())
        lasts = "" if left is None else f" It ends in {render.duration(left)}."
        if left is not None and left <= 0:
            return Check("token", False, "The token has ended.", "vacuo login")
        if not asked:
            return Check(
                "token",
                None,
                f"There is one ({found.source}); only the server can check it.{lasts}",
            )
        current.api.get("/deployments", size=1)
        return Check("token", True, f"The server takes it ({found.source}).{lasts}")

    return _attempt("token", look)


def _told(current: Session, path: str, public: bool) -> Iterator[Check]:
    """Checks that the server makes; an answer of 503 that holds checks is an answer."""
    try:
        response = current.api.answer("GET", path, {}, public=public, accept=(503,))
        checks = response.json()["checks"]
    except Failure as failure:
        if failure.status == 404:
            yield Check(path, None, "This server does not offer the check.")
        else:
            yield Check(path, False, f"{failure.what} {failure.why}".strip(), failure.attempt)
        return
    except (ValueError, KeyError, TypeError):
        yield Check(path, False, "The answer of the server cannot be read.", "see the server's log")
        return
    for check in checks:
        reason = check.get("reason") or {}
        detail = (
            reason.get("sentence") or check.get("detail") or ("It works." if check["ok"] else "")
        )
        yield Check(check["name"], check["ok"], detail, reason.get("nextCommand") or "")
