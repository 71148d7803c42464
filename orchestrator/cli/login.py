"""``login`` and ``logout``, and where the command line finds its token and its server."""

from __future__ import annotations

import io
import os
import sys
import time
import webbrowser
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from orchestrator.cli import render, session
from orchestrator.cli.session import Output, Session
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.identity.credentials import Credential, DeviceCode, LoginTarget

DEFAULT_SERVER = "http://127.0.0.1:8420"
# A token with less than this left may end before a long command does, and is worth a word.
_SOON_SECONDS = 600.0


def login(
    context: typer.Context,
    client_credentials_file: Annotated[
        Path | None,
        typer.Option(
            help="For scripts: a JSON file (mode 0600) with client_id and client_secret.",
        ),
    ] = None,
    browser: Annotated[
        bool,
        typer.Option("--browser", help="Log in on a page in a browser of this machine."),
    ] = False,
    issuer: Annotated[
        str | None,
        typer.Option(help="The issuer to use, where the server trusts several; its name or URL."),
    ] = None,
) -> None:
    """Log in with a code to approve in a browser, or on a page of this machine's."""
    from orchestrator.identity.credentials import Credentials

    current = session.of(context)
    credentials = Credentials()
    target = _target(credentials.targets(current.server), issuer)
    if client_credentials_file is not None:
        found = credentials.client_login(current.server, client_credentials_file, target)
    elif browser and _has_browser(current):
        found = credentials.browser_login(current.server, lambda page: _open(current, page), target)
    else:
        found = credentials.device_login(
            current.server, lambda code: _show_code(current, code), target
        )
    _remember(current.server)
    left = found.seconds_left(time.time())
    told = {"server": current.server, "issuer": target.issuer if target else None}
    line = Text(f"Logged in to {current.server}. The token lasts {render.duration(left)}.")
    current.emit("login", told | {"seconds_left": left}, [line], [current.server])
    current.next("vacuo doctor")


def logout(context: typer.Context) -> None:
    """Forget the login, here and at the issuer."""
    from orchestrator.identity.credentials import Credentials

    current = session.of(context)
    had = Credentials().logout(current.server)
    text = (
        f"Logged out of {current.server}."
        if had
        else f"You were not logged in to {current.server}."
    )
    current.emit("logout", {"server": current.server, "had_login": had}, [Text(text)])
    current.next("vacuo login")


def refresh_token(current: Session, issuer: str, browser: bool) -> str:
    """A refresh token of a login for the server alone: nothing of it is kept here."""
    from orchestrator.identity.credentials import Credentials
    from orchestrator.identity.login import IssuerClient

    targets = Credentials().targets(current.server)
    target = next((one for one in targets if one.issuer == issuer), None)
    if target is None or target.delegation_scope is None:
        raise UserError(
            "The server keeps no login of yours.",
            "It keeps none of people of your issuer.",
            "ask the server's administrator (docs/admin/identity.md)",
            "login-not-kept",
        )
    client = IssuerClient(replace(target, scope=target.delegation_scope))
    if browser and _has_browser(current):
        found = client.browser_flow(lambda page: _open(current, page))
    else:
        found = client.device_flow(lambda code: _show_code(current, code))
    if found.refresh_token is None:
        raise UserError(
            "The issuer gave no login that can be renewed.",
            "Its answer has no refresh token.",
            "ask the server's administrator (iam/README.md tells what the client must be allowed)",
            "login-failed",
        )
    return found.refresh_token


def find_credential(current: Session) -> Credential:
    """The token of this person for this server; raises :class:`UserError` where there is none."""
    # Imported when a token is needed: `vacuo validate` and `--help` start faster without it.
    from orchestrator.identity.credentials import Credentials

    return Credentials().find(current.server)


def find_token(current: Session) -> str:
    """The token itself; says so on standard error when it ends soon and nobody renews it."""
    found = find_credential(current)
    left = found.seconds_left(time.time())
    soon = left is not None and 0 < left < _SOON_SECONDS and not found.renews
    if left is not None and soon and current.output is Output.TABLE:
        current.say(f"Your token ends in {_minutes(left)} ({found.source}).", "yellow")
    return found.token


def _minutes(seconds: float) -> str:
    whole = round(seconds / 60)
    return "a minute" if whole < 2 else f"{whole} minutes"


def remembered_server() -> str:
    """The server of the last login, else the one that runs on this machine by default."""
    with suppress(OSError, UnicodeDecodeError):
        found = _memory().read_text(encoding="utf-8").strip()
        if found:
            return found
    return DEFAULT_SERVER


def _remember(server: str) -> None:
    path = _memory()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(server + "\n", encoding="utf-8")


def _memory() -> Path:
    state = os.environ.get("XDG_STATE_HOME")
    home = os.environ.get("HOME") or str(Path.home())
    return (Path(state) if state else Path(home) / ".local" / "state") / "vacuo" / "server"


def _target(targets: tuple[LoginTarget, ...], wanted: str | None) -> LoginTarget | None:
    """The issuer that was named; None, which is the server's first, where none was."""
    if wanted is None:
        return targets[0] if targets else None
    for target in targets:
        if wanted in (target.name, target.issuer):
            return target
    raise UserError(
        f"The server does not trust an issuer {wanted}.",
        f"It trusts {', '.join(target.name for target in targets) or 'none'}.",
        "--issuer with one of these names",
        code="issuer-unknown",
    )


def _show_code(current: Session, code: DeviceCode) -> None:
    """The code and where to enter it; on a terminal also as a picture for a telephone."""
    current.say(Text.assemble("Open  ", (code.verification_uri, "underline")))
    current.say(
        Text.assemble(
            "enter ", (code.user_code, "bold"), f"  (within {render.duration(code.expires_in)})"
        )
    )
    complete = code.verification_uri_complete
    if complete:
        current.say(f"or open {complete}")
        if current.err.is_terminal:
            current.say(_picture(complete))


def _has_browser(current: Session) -> bool:
    """Whether a page can be shown here; where it cannot, the code can be approved elsewhere."""
    named = os.environ.get("BROWSER")
    drawn = sys.platform != "linux" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if named or drawn:
        return True
    current.say("There is no browser here; approve a code elsewhere instead.", "yellow")
    return False


def _open(current: Session, page: str) -> None:
    current.say(Text.assemble("Log in on this page  ", (page, "underline")))
    webbrowser.open(page)


def _picture(url: str) -> Text:
    import segno

    drawn = io.StringIO()
    made: Any = segno.make(url, error="l")
    made.terminal(drawn, compact=True, border=2)
    return Text.from_ansi(drawn.getvalue())
