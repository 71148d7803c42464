"""``explain``: the cause first, then the evidence, then one command."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from orchestrator.cli import completion, render, resolve, session
from orchestrator.cli.resolve import JOB, segment
from orchestrator.errors import UserError

Json = dict[str, Any]


def explain(
    context: typer.Context,
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID|NODE|JOB]",
            help="A deployment, a node, or a job such as 12.0.",
            autocompletion=completion.deployments_and_nodes,
        ),
    ] = None,
    within: Annotated[
        str | None,
        typer.Option(
            "--in",
            metavar="ID",
            help="The deployment that a job could run in, where there are several.",
            autocompletion=completion.deployments,
        ),
    ] = None,
) -> None:
    """Say why a deployment, a node or a job waits."""
    current = session.of(context)
    uuid, about = _subject(current, subject, within)
    found = current.api.get(f"/deployments/{segment(uuid)}/explain", subject=about)
    cause = found["cause"]
    lines = [Text.assemble((render.one_line(cause["sentence"]), "bold"), _code(cause))]
    for entry in found.get("evidence") or ():
        lines.append(Text.assemble("  · ", render.one_line(entry["sentence"]), _code(entry)))
    current.emit("explanation", found, lines, [cause["code"]])
    current.next(found.get("nextCommand") or cause.get("nextCommand") or "")


def _code(reason: Json) -> tuple[str, str]:
    return (f"  [{render.plain(reason['code'])}]", "dim") if reason.get("code") else ("", "")


def _subject(
    current: session.Session, subject: str | None, within: str | None
) -> tuple[str, str | None]:
    """The id of the deployment to ask, and the name to ask it about."""
    job = subject if subject is not None and JOB.fullmatch(subject) else None
    if job is not None and ("." in job or within is not None):
        return resolve.deployment(current.api, within)["uuid"], job if "." in job else f"{job}.0"
    if within is not None and subject is not None:
        owner, node = resolve.node(current.api, subject, within)
        return owner["uuid"], node["uuid"]
    try:
        owner, found = resolve.deployment_or_node(current.api, subject if subject else within)
    except UserError as error:
        if job is None or error.code != "not-found":
            raise
        return resolve.deployment(current.api, within)["uuid"], f"{job}.0"
    return owner["uuid"], None if found is None else found["uuid"]
