"""``up``, ``down``, ``list``, ``show``: deployments made, removed and looked at."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from orchestrator.cli import completion, options, render, resolve, session, templates
from orchestrator.cli.problems import Failure
from orchestrator.cli.resolve import segment
from orchestrator.cli.session import Session
from orchestrator.cli.watch import Waiting, wait
from orchestrator.errors import UserError

Json = dict[str, Any]

_MADE = {"CREATE_COMPLETE", "UPDATE_COMPLETE"}
_FAILED = {"CREATE_FAILED", "UPDATE_FAILED", "DELETE_FAILED"}


def submission(template: str, file: Path | None, pairs: list[str] | None) -> Json:
    """The body of a request that carries a template."""
    text = templates.read(template)
    return {
        "template": text,
        "parameters": templates.parameters(file, pairs or [], templates.inputs(text)),
    }


def up(
    context: typer.Context,
    template: options.Template,
    parameters: options.Parameters = None,
    pair: options.Pairs = None,
    wait_: options.Wait = False,
    update: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Change this deployment instead of making one.",
            autocompletion=completion.deployments,
        ),
    ] = None,
    if_version: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="With --update: only if it still has this version, as plan told.",
        ),
    ] = None,
    user_group: Annotated[
        str | None, typer.Option(help="The group of users that it is for; kept and shown.")
    ] = None,
    callback: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Called when the status changes."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Idempotency key: the same call again gives the same deployment."),
    ] = None,
    timeout: options.Timeout = None,
) -> None:
    """Make a deployment, or change one with --update."""
    current = session.of(context)
    if if_version is not None and update is None:
        raise typer.BadParameter("It is for --update.", param_hint="--if-version")
    body = submission(template, parameters, pair)
    body |= {"userGroup": user_group} if user_group else {}
    body |= {"callback": callback} if callback else {}
    since = 0
    if update is None:
        headers = {"Idempotency-Key": key} if key else {}
        made = current.api.send("POST", "/deployments", body, headers)
    else:
        target = resolve.deployment(current.api, update)
        path = f"/deployments/{segment(target['uuid'])}"
        since = last_sequence(current, path)
        version = target.get("version") if if_version is None else if_version
        made = _changed(current, path, body, version)
    uuid = made["uuid"]
    if not wait_:
        _emit_one(current, made, [_headline(made)])
        current.next(f"vacuo status {uuid[:8]} --watch")
        return
    current.say(f"{uuid} {made['status']}; Ctrl-C leaves it running")
    made = wait(
        current,
        Waiting(
            uuid,
            lambda deployment: deployment["status"] in _MADE | _FAILED,
            f"vacuo status {uuid[:8]} --watch",
            timeout,
            since,
        ),
    )
    _emit_one(current, made, [_headline(made), *_outputs(made)])
    _end_where_failed(made)
    current.next(f"vacuo status {uuid[:8]} --watch")


def _changed(current: Session, path: str, body: Json, version: int | None) -> Json:
    """Send the update, which is taken only while the deployment is still at ``version``."""
    headers = {} if version is None else {"If-Match": f'"{version}"'}
    try:
        made: Json = current.api.send("PUT", path, body, headers)
    except Failure as failure:
        if failure.code == "changed-meanwhile":
            failure.attempt = "see what your template changes now: vacuo plan TEMPLATE --update ID"
        raise
    return made


def down(
    context: typer.Context,
    given: options.Deployment = None,
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait for running jobs: they are lost.")
    ] = False,
    wait_: options.Wait = False,
    timeout: options.Timeout = None,
) -> None:
    """Remove a deployment, once its running jobs have ended."""
    current = session.of(context)
    found = resolve.deployment(current.api, given)
    uuid = found["uuid"]
    path = f"/deployments/{segment(uuid)}"
    nodes = current.api.everything(f"{path}/resources")
    for line in _what_vanishes(found, nodes, now):
        current.say(line)
    since = last_sequence(current, path)
    # "true" only where it is meant: a server may take any other word for it.
    current.api.answer("DELETE", path, {"force": True if now else None})
    if wait_:
        found = wait(
            current,
            Waiting(
                uuid,
                lambda deployment: deployment["status"] in ("DELETE_COMPLETE", "DELETE_FAILED"),
                f"vacuo down {uuid} --wait",
                timeout,
                since,
            ),
        )
    else:
        found = resolve.by_id(current.api, uuid)
    _emit_one(current, found, [_headline(found)])
    _end_where_failed(found)
    if not wait_:
        current.next(f"vacuo events {uuid[:8]} --follow")


def list_(
    context: typer.Context,
    all_: Annotated[bool, typer.Option("--all", "-a", help="Also those that are deleted.")] = False,
    mine: Annotated[bool, typer.Option("--mine", help="Only those that you made.")] = False,
) -> None:
    """List the deployments that you may see, newest first."""
    current = session.of(context)
    found = current.api.everything(
        "/deployments", all=True if all_ else None, createdBy="me" if mine else None
    )
    makers = [(entry.get("createdBy") or {}).get("subject", "") for entry in found]
    rows: list[tuple[object, ...]] = [
        (
            entry["uuid"][:8],
            render.state(entry["status"]),
            sum(sum(group["nodes"].values()) for group in entry.get("groups") or ()),
            render.age(entry["creationTime"]),
            render.one_line(entry.get("description") or ""),
            render.one_line(entry.get("statusReason") or ""),
        )
        for entry in found
    ]
    columns: tuple[str, ...] = ("id", "status", "nodes", "age", "description", "reason")
    if len(set(makers)) > 1:
        columns = (*columns, "owner")
        rows = [(*row, render.one_line(maker)) for row, maker in zip(rows, makers, strict=True)]
    shown: list[RenderableType] = [render.table(columns, rows)] if rows else []
    current.emit("deployments", found, shown, (entry["uuid"] for entry in found))
    if not rows:
        current.say("You have no deployment.")
    current.next("vacuo status ID" if rows else "vacuo templates")


def show(
    context: typer.Context,
    given: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID|NODE]",
            help="A deployment or a node.",
            autocompletion=completion.deployments_and_nodes,
        ),
    ] = None,
    template: Annotated[
        bool, typer.Option("--template", help="Print the template as it was submitted.")
    ] = False,
) -> None:
    """Show everything about one deployment, or one node."""
    current = session.of(context)
    found, node = resolve.deployment_or_node(current.api, given)
    path = f"/deployments/{segment(found['uuid'])}"
    if node is not None:
        lines = [Text(f"{key:16} {_cell(value)}") for key, value in node.items() if key != "links"]
        current.emit("node", node, lines, [node["uuid"]])
        current.next(f"vacuo logs {node['uuid']}")
    elif template:
        text = current.api.text(f"{path}/template").text
        current.emit("template", text, [Text(render.plain(text))], [found["uuid"]])
    else:
        nodes = current.api.everything(f"{path}/resources")
        _emit_one(current, found | {"nodes": nodes}, _details(found, nodes))
        current.next(f"vacuo explain {found['uuid'][:8]}")


def last_sequence(current: Session, path: str) -> int:
    """The number of the last event so far; 0 where the server does not tell."""
    answer = current.api.text(f"{path}/log", limit=1)
    return int(answer.headers.get("X-Last-Sequence") or 0)


def node_table(nodes: Iterable[Json]) -> RenderableType:
    """Nodes with their phases, for people."""
    rows = [
        (
            node["uuid"],
            render.phase(node["phase"], render.marks(node)),
            render.age(node["updateTime"]),
            node["site"],
            node["flavour"],
            node.get("address") or "",
            render.one_line((node.get("reason") or {}).get("sentence", "")),
        )
        for node in nodes
    ]
    return render.table(("node", "phase", "for", "site", "flavour", "address", "reason"), rows)


def _details(found: Json, nodes: list[Json]) -> list[RenderableType]:
    owner = found.get("createdBy") or {}
    lines: list[RenderableType] = [_headline(found)]
    for label, value in (
        ("description", found.get("description")),
        ("owner", f"{owner.get('subject')}@{owner.get('issuer')}"),
        ("group of users", found.get("userGroup")),
        ("site", found.get("cloudProviderName")),
        ("version", found.get("version")),
        ("created", f"{found['creationTime']} ({render.age(found['creationTime'])} ago)"),
        ("updated", f"{found['updateTime']} ({render.age(found['updateTime'])} ago)"),
    ):
        if value:
            lines.append(Text(f"  {label:16} {render.one_line(value)}"))
    lines += _outputs(found)
    if nodes:
        lines.append(node_table(nodes))
    for reason in found.get("reasons") or ():
        lines += render.reason_lines(reason)
    return lines


def _outputs(found: Json) -> list[Text]:
    return [
        Text(f"  {render.one_line(name)} = {'not known yet' if value is None else _cell(value)}")
        for name, value in (found.get("outputs") or {}).items()
    ]


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return render.one_line(value.get("sentence") or value)
    return render.one_line("" if value is None else value)


def _headline(found: Json) -> Text:
    reason = render.one_line(found.get("statusReason") or "")
    return Text.assemble((found["uuid"], "bold"), " ", render.state(found["status"]), f"  {reason}")


def _emit_one(current: Session, found: Json, shown: Iterable[RenderableType]) -> None:
    current.emit("deployment", found, shown, [found["uuid"]])


def _end_where_failed(found: Json) -> None:
    if found["status"] not in _FAILED:
        return
    raise UserError(
        f"The deployment is {found['status']}.",
        render.one_line(found.get("statusReason") or ""),
        f"vacuo explain {found['uuid'][:8]}",
        code=str(found.get("statusReasonCode") or "deployment-failed"),
    )


def _what_vanishes(found: Json, nodes: list[Json], now: bool) -> list[str]:
    if not nodes:
        return [f"{found['uuid']} has no nodes; the deployment itself goes."]
    how = "at once; jobs that run on them are lost" if now else "when their running jobs have ended"
    what = "1 node goes" if len(nodes) == 1 else f"{len(nodes)} nodes go"
    lines = [f"{found['uuid']}: {what} {how}:"]
    return lines + [f"  - {node['uuid']}  {node['phase']}  {node['site']}" for node in nodes]
