"""``server`` and ``worker``: the process that does the work, started on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.text import Text

from orchestrator import settings
from orchestrator.cli import example, render, session
from orchestrator.cli.options import Configuration
from orchestrator.cli.redact import redacted
from orchestrator.errors import UserError

app = typer.Typer(
    name="server",
    help="Run the server here, or show its configuration.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def server(context: typer.Context, config: Configuration = None) -> None:
    """Run the server on this machine (the same as: server start), or show its configuration."""
    if context.invoked_subcommand is None:
        _serve(session.of(context), config)
    else:
        context.obj = context.find_object(session.Session)
        context.meta["vacuo.config"] = config


@app.command()
def start(context: typer.Context, config: Configuration = None) -> None:
    """Start the server: the API and the control loop in one process, until it is stopped."""
    _serve(session.of(context), config or context.meta.get("vacuo.config"))


@app.command("config")
def config_(
    context: typer.Context,
    config: Configuration = None,
    defaults: Annotated[
        bool,
        typer.Option("--defaults", help="Print an example file in which every field is explained."),
    ] = False,
) -> None:
    """Show the configuration as the server would use it; secrets are not shown."""
    current = session.of(context)
    if defaults:
        text = example.document()
        current.emit("example", text, [Text(text.rstrip("\n"))])
        current.next("vacuo server config --config FILE")
        return
    path, effective = _effective(config or context.meta.get("vacuo.config"))
    shown: Any = redacted(effective.model_dump(mode="json"))
    text = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)
    current.say(f"from {path}" if path else "no file was found: these are the defaults", "dim")
    current.emit("config", shown, [Text(render.plain(text).rstrip("\n"))])
    current.next("vacuo server start")


@app.command("rotate-key")
def rotate_key(context: typer.Context, config: Configuration = None) -> None:
    """Make a new master key and seal all stored secrets with it; the server may run meanwhile."""
    current = session.of(context)
    _, effective = _effective(config or context.meta.get("vacuo.config"))
    from orchestrator.api.server import rotate_master_key

    count = rotate_master_key(effective)
    current.emit("rotated", {"secrets": count}, [Text(f"{count} secrets have the new master key")])
    current.next("forget the old key: copies of it open what was stored before, in backups too")


@app.command("move-secrets")
def move_secrets(context: typer.Context, config: Configuration = None) -> None:
    """Move all stored secrets to where the configuration says that they are kept (secrets.backend:
    the database or Vault); the server has to be stopped meanwhile."""
    current = session.of(context)
    _, effective = _effective(config or context.meta.get("vacuo.config"))
    from orchestrator.api.server import move_secrets

    found = move_secrets(effective)
    place = "Vault" if effective.secrets.backend == "vault" else "the database"
    text = f"{found.moved} secrets moved to {place}"
    current.emit("moved", {"secrets": found.moved}, [Text(text)])
    if found.unreadable:
        raise UserError(
            f"{len(found.unreadable)} secrets could not be read and are left as they are.",
            f"They are called: {', '.join(sorted(set(found.unreadable)))}.",
            "keep the former vault_url, or the master keys, in place, and call it again",
            code="secrets-not-moved",
        )
    current.next("vacuo server start")


def worker() -> None:
    """Explain why there are no separate workers; exit code 1."""
    raise UserError(
        "There are no separate workers: many workers on one queue need PostgreSQL, and this "
        "server runs its control loop in its own process over SQLite.",
        attempt="vacuo server start, which does all the work itself",
        code="no-workers",
    )


def _effective(config: Path | None) -> tuple[Path | None, settings.Settings]:
    path = settings.find(str(config) if config else None)
    return path, settings.load(path)


def _serve(current: session.Session, config: Path | None) -> None:
    path, effective = _effective(config)
    if effective.log_format == "text":  # else every line of the stream is JSON
        current.say(f"configuration: {path or 'defaults'}; API: {effective.url}")
    # The one command that is not a client: the server and all below it are loaded for it alone.
    from orchestrator.api.server import serve

    serve(effective)
