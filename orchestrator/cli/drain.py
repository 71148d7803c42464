"""``drain``: a node finishes its jobs and goes."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from orchestrator.cli import completion, options, render, resolve, session
from orchestrator.cli.deployments import last_sequence
from orchestrator.cli.resolve import segment
from orchestrator.cli.watch import Waiting, wait

Json = dict[str, Any]


def drain(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="NODE", help="A node.", autocompletion=completion.nodes),
    ],
    wait_: options.Wait = False,
    timeout: options.Timeout = None,
) -> None:
    """Let a node finish its jobs and go.

    Where its group still needs as many nodes, another comes.
    """
    current = session.of(context)
    owner, found = resolve.node(current.api, name)
    uuid, node = owner["uuid"], found["uuid"]
    deployment = f"/deployments/{segment(uuid)}"
    path = f"{deployment}/resources/{segment(node)}"
    since = last_sequence(current, deployment)
    found = current.api.send("POST", f"{path}/actions", {"type": "drain"})
    status = f"vacuo status {uuid[:8]} --watch"
    if wait_:
        current.say(f"{node} was asked to leave; Ctrl-C leaves it at that")

        def gone(_deployment: Json) -> bool:
            return bool(current.api.get(path)["phase"] == "GONE")

        wait(current, Waiting(uuid, gone, status, timeout, since))
        found = current.api.get(path)
    word = "is gone" if found["phase"] == "GONE" else "finishes its jobs and goes"
    line = Text.assemble((render.plain(node), "bold"), f" {word}")
    current.emit("node", found, [line], [node])
    current.next(status)
