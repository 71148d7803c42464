"""``vacuo``: the root command, its global options, and the one place where errors end."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from orchestrator import __version__
from orchestrator.cli import (
    catalogue,
    credentials,
    deployments,
    doctor,
    drain,
    events,
    exitcodes,
    explain,
    image,
    initialise,
    login,
    logs,
    plan,
    problems,
    schema,
    server,
    ssh,
    status,
    templates,
    validate,
    whoami,
)
from orchestrator.cli.session import Output, Session

# Global options may stand anywhere before `--`: nobody remembers which side of a command an
# option belongs to.  The value is whether the option takes one.
_GLOBAL = {
    "--output": True,
    "-o": True,
    "--server": True,
    "--debug": False,
    "--no-color": False,
    "--show-request": False,
}


def hoisted(words: Sequence[str]) -> list[str]:
    """``words`` with the global options in front; what follows ``--`` stays as it is."""
    front: list[str] = []
    rest: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            rest += [word, *left]
            break
        if _GLOBAL.get(word.split("=", 1)[0]) is None:
            rest.append(word)
            continue
        front.append(word)
        if _GLOBAL.get(word) and left:
            front.append(left.pop(0))
    return front + rest


class Root(TyperGroup):
    """The group of all commands: whatever is raised below becomes a message and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        sessions: list[Session] = []
        words = hoisted(sys.argv[1:] if args is None else args)
        try:
            code = super().main(
                args=words,
                prog_name=prog_name or "vacuo",
                complete_var=complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                obj=sessions,
                **extra,
            )
        except typer.Abort:
            code = exitcodes.DETACHED
        except Exception as error:
            code = problems.show(sessions[0] if sessions else None, error)
        code = code if isinstance(code, int) else exitcodes.OK
        if not standalone_mode:
            return code
        sys.exit(code)


app = typer.Typer(
    name="vacuo",
    cls=Root,
    help="Turn machines into worker nodes of an HTCondor pool, and make them vanish again.",
    epilog="Exit codes and all commands: docs/user/cli.md. Global options may stand anywhere.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"vacuo {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="The form of what is printed.")
    ] = Output.TABLE,
    server_: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="URL",
            envvar="VACUO_SERVER",
            help="The server; else the one of the last login, else this machine.",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="No colours; so does NO_COLOR.")
    ] = False,
    show_request: Annotated[
        bool,
        typer.Option("--show-request", help="Print each request as curl, without the token."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Turn machines into worker nodes of an HTCondor pool, and make them vanish again."""
    if output in (Output.SARIF, Output.GITHUB) and context.invoked_subcommand != "validate":
        raise typer.BadParameter(f"Only validate can print {output}.")
    made = Session(
        server=server_ or login.remembered_server(),
        output=output,
        debug=debug,
        color=not no_color,
        show_request=show_request,
    )
    if isinstance(context.obj, list):
        context.obj.append(made)
    context.obj = made
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command("login")(login.login)
app.command("logout")(login.logout)
app.command("whoami")(whoami.whoami)
app.command("up")(deployments.up)
app.command("down")(deployments.down)
app.command("drain")(drain.drain)
app.command("status")(status.status)
app.command("plan")(plan.plan)
app.command("validate")(validate.validate)
app.command("schema")(schema.schema)
app.command("explain")(explain.explain)
app.command("logs")(logs.logs)
app.command("events")(events.events)
app.command("ssh")(ssh.ssh)
app.command("list")(deployments.list_)
app.command("show")(deployments.show)
app.command("templates")(templates.templates_command)
app.command("init")(initialise.init_command)
app.command("doctor")(doctor.doctor)
app.add_typer(server.app, name="server")
app.add_typer(image.app, name="image")
app.add_typer(catalogue.app, name="catalogue")
app.add_typer(credentials.app, name="credentials")
app.command("worker")(server.worker)


def main() -> None:
    """The console script."""
    # A shell that completes must see nothing but words, whatever the terminal is.
    if "_VACUO_COMPLETE" in os.environ:
        os.environ.setdefault("NO_COLOR", "1")
    app(prog_name="vacuo")


if __name__ == "__main__":
    main()
