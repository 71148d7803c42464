"""``logs``: what happened on hosts, once or as it happens."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.text import Text

from orchestrator.cli import completion, exitcodes, options, render, resolve, session
from orchestrator.cli.problems import Failure
from orchestrator.cli.resolve import segment
from orchestrator.cli.session import Output, Session

Json = dict[str, Any]

_RETRY_SECONDS = 2.0
_PATIENCE_SECONDS = 120.0


def logs(
    context: typer.Context,
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID|NODE]",
            help="A deployment, or one of its nodes.",
            autocompletion=completion.deployments_and_nodes,
        ),
    ] = None,
    follow: options.Follow = False,
    failed: Annotated[bool, typer.Option("--failed", help="Only what failed.")] = False,
    phase: Annotated[
        str | None, typer.Option(help="Only this phase of nodes, such as CONFIGURING.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="The last so many.")] = 1000,
    console: Annotated[
        bool, typer.Option("--console", help="The boot console of the node, read now.")
    ] = False,
) -> None:
    """Show the log of a deployment or a node."""
    current = session.of(context)
    found, node = resolve.deployment_or_node(current.api, subject)
    path = f"/deployments/{segment(found['uuid'])}"
    name = None if node is None else node["uuid"]
    if console:
        _console(current, path, name, lines)
        return
    kept: dict[str, Any] = {"node": name, "failed": True if failed else None}
    wanted = phase.upper() if phase else None

    def fits(event: Json) -> bool:
        return wanted is None or event.get("phase") == wanted

    last = 0
    tail: deque[Json] = deque(maxlen=lines)
    for event in current.api.events(f"{path}/events", **kept):
        last = event["sequence"]
        if fits(event):
            tail.append(event)
    for event in tail:
        print_event(current, event, log_line(event))
    if follow:
        resume = f"vacuo logs {name or found['uuid'][:8]} --follow"
        for event in endless(current, f"{path}/events", last, resume, **kept):
            if fits(event):
                print_event(current, event, log_line(event))
        return
    if not tail:
        current.say("Nothing failed." if failed else "The log is empty.")
    current.next(f"vacuo explain {name or found['uuid'][:8]}")


def endless(current: Session, path: str, since: int, resume: str, **query: Any) -> Iterator[Json]:
    """Events after ``since``; a server that goes away is waited for, Ctrl-C ends the command."""
    silent_since: float | None = None
    while True:
        try:
            for event in current.api.follow(path, since, **query):
                since, silent_since = event["sequence"], None
                yield event
            return
        except KeyboardInterrupt:
            current.say(f"Detached. To go on, run: {resume}")
            raise typer.Exit(exitcodes.DETACHED) from None
        except Failure as failure:
            if failure.code not in ("server-unreachable", "stream-ended"):
                raise
            now = time.monotonic()
            if silent_since is None:
                silent_since = now
                if failure.code == "server-unreachable":
                    current.say("The server does not answer; trying again.")
            elif now - silent_since > _PATIENCE_SECONDS and failure.code == "server-unreachable":
                raise
            time.sleep(_RETRY_SECONDS)


def log_line(event: Json) -> Text:
    """Time, node, phase, message; red where it failed."""
    style = "red" if event.get("failed") else ""
    return Text.assemble(
        (render.clock(event["at"]), "dim"),
        " ",
        (render.plain(event.get("node") or "-"), "bold"),
        " ",
        render.state(event.get("phase") or "-"),
        f" {event['kind']}: ",
        (render.plain(event["message"]), style),
    )


def print_event(current: Session, event: Json, line: Text) -> None:
    """One event in the form that was asked for; ``line`` is how people read it."""
    if current.output is Output.JSON:
        current.document("event", event, compact=True)
    elif current.output is Output.NAME:
        current.out.print(Text(str(event["sequence"])))
    else:
        current.out.print(line, soft_wrap=True)


def _console(current: Session, path: str, name: str | None, lines: int) -> None:
    if name is None:
        raise typer.BadParameter("--console needs the name of a node")
    text = current.api.text(f"{path}/log", node=name, console=lines).text
    current.emit("console", text, [Text(render.plain(text).rstrip("\n"))], [name])
