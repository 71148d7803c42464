"""``credentials``: what clouds and hosts are entered with, and the login that deployments go on
with; kept by the server, shown to nobody.

What is secret comes from a file or from standard input, never from an argument: other users of a
machine see those.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.table import Table
from rich.text import Text

from orchestrator.cli import render, session
from orchestrator.errors import UserError

Name = Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")]
Group = Annotated[
    str | None, typer.Option("--group", metavar="GROUP", help="For all of this group of yours.")
]

app = typer.Typer(
    name="credentials",
    help="Credentials for clouds and hosts, and your login for what deployments need later: the "
    "server keeps them sealed and shows them to nobody.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def add(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="openstack, ec2, opennebula or ssh.")],
    name: Name,
    file: Annotated[
        Path,
        typer.Option(
            "--file",
            "-f",
            help="The fields as YAML, a clouds.yaml, or a private key; - is standard input.",
        ),
    ],
    cloud: Annotated[
        str | None, typer.Option("--cloud", help="Which cloud of a clouds.yaml.")
    ] = None,
    group: Group = None,
) -> None:
    """Add a credential, or put another in its place."""
    current = session.of(context)
    fields = _fields(kind, _read(file), cloud)
    body = {"kind": kind, "secrets": fields, "userGroup": group}
    made = current.api.send("PUT", f"/credentials/{name}", body)
    current.emit("credential", made, [Text(f"{kind} credential {name} is kept")], [name])
    current.next("vacuo credentials list")


@app.command("list")
def list_(context: typer.Context) -> None:
    """List your credentials and those of your groups, and your login: never what they hold."""
    current = session.of(context)
    answer = current.api.get("/credentials")
    found, kept = answer["content"], answer["logins"]
    table = Table("NAME", "KIND", "GROUP", "FINGERPRINT", "ADDED", "LAST USE", box=None)
    for one in found:
        fields = ("name", "kind", "userGroup", "fingerprint", "creationTime", "lastUse")
        table.add_row(*(render.plain(str(one[field] or "-")) for field in fields))
    lines = [_told(login) for login in kept]
    logins = [{"name": login["issuer"], "kind": "login", **login} for login in kept]
    current.emit("credentials", [*found, *logins], [table, *lines], [one["name"] for one in found])
    if any(login["state"] == "ended" for login in kept):
        current.next("vacuo credentials renew")


@app.command()
def remove(context: typer.Context, name: Name, group: Group = None) -> None:
    """Have the server forget a credential."""
    current = session.of(context)
    query = {"userGroup": group} if group else {}
    current.api.answer("DELETE", f"/credentials/{name}", query)
    current.emit("removed", name, [Text(f"credential {name} is forgotten")], [name])


@app.command()
def renew(
    context: typer.Context,
    browser: Annotated[
        bool,
        typer.Option("--browser", help="Log in on a page in a browser of this machine."),
    ] = False,
) -> None:
    """Log in once more, for the server: it keeps that login for what your deployments need."""
    from orchestrator.cli.login import refresh_token

    current = session.of(context)
    me = current.api.get("/whoami")["issuer"]
    token = refresh_token(current, me, browser)
    kept = current.api.send("PUT", "/delegation", {"refreshToken": token})
    current.emit("login", kept, [_told(kept)], [kept["issuer"]])
    current.next("vacuo list")


@app.command("forget-login")
def forget_login(context: typer.Context) -> None:
    """Have the server forget your login, and the issuer too."""
    current = session.of(context)
    current.api.answer("DELETE", "/delegation", {})
    current.emit("removed", "login", [Text("your login is forgotten")], ["login"])


def _told(login: dict[str, Any]) -> Text:
    """One line on a login that the server keeps."""
    issuer = render.plain(login["issuer"])
    if login["state"] == "good":
        ends = login["endsAt"]
        until = f"until {render.plain(ends)}" if ends else "for as long as the issuer renews it"
        return Text(f"Your login at {issuer} is kept {until}.")
    if login["state"] == "ended":
        return Text(f"Your login at {issuer} has ended: {render.plain(login['why'])}.", "red")
    why = render.plain(login["why"])
    return Text(f"Your login at {issuer} gives no tokens: {why}.", "yellow")


def _read(file: Path) -> str:
    if str(file) == "-":
        return sys.stdin.read()
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise UserError(f"{file} cannot be read.", f"{why}.", code="file-unreadable") from None


def _fields(kind: str, text: str, cloud: str | None) -> dict[str, Any]:
    if kind == "ssh" and text.lstrip().startswith("-----BEGIN"):
        return {"private_key": text}
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:  # its message repeats what is in the file
        document = None
    if isinstance(document, dict) and isinstance(document.get("clouds"), dict):
        return _cloud(document["clouds"], cloud)
    if not isinstance(document, dict) or not document:
        raise UserError(
            "The file does not hold a credential.",
            "It has to be a YAML mapping of its fields.",
            "see docs/user/cli.md",
            code="credential-unusable",
        )
    return document


def _cloud(clouds: dict[str, Any], wanted: str | None) -> dict[str, Any]:
    if wanted is None and len(clouds) == 1:
        (wanted,) = clouds
    found = clouds.get(wanted) if wanted else None
    if not isinstance(found, dict):
        raise UserError(
            f"The clouds.yaml has no cloud {wanted}." if wanted else "Which cloud is meant?",
            f"It has {', '.join(map(str, clouds)) or 'none'}.",
            "--cloud NAME",
            code="cloud-unknown",
        )
    kept = ("auth", "auth_type", "region_name", "interface", "identity_api_version")
    return {name: value for name, value in found.items() if name in kept}
