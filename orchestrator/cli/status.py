"""``status``: one screen that tells how a deployment stands."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from orchestrator.cli import exitcodes, options, render, resolve, session
from orchestrator.cli.deployments import node_table
from orchestrator.cli.resolve import segment

Json = dict[str, Any]

_COLUMNS = ("group", "desired", "joined", "busy", "idle", "starting", "leaving", "most", "")
_COMING = ("PLANNED", "REQUESTED", "BOOTING", "CONFIGURING", "JOINING")
_GOING = ("DRAINING", "DELETING")


def status(
    context: typer.Context,
    given: options.Deployment = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
) -> None:
    """Show how a deployment stands, on one screen."""
    current = session.of(context)
    uuid = resolve.deployment(current.api, given)["uuid"]
    if watch:
        _watch(current, uuid, interval)
        return
    found, nodes = _look(current, uuid)
    current.emit(
        "status",
        found | {"summary": summary(found), "nodes": nodes},
        [screen(found, nodes)],
        [uuid],
    )
    reasons = found.get("reasons") or ()
    hints = [reason["nextCommand"] for reason in reasons if reason.get("nextCommand")]
    current.next(hints[0] if hints else f"vacuo explain {uuid[:8]}")


def summary(found: Json) -> Json:
    """The whole deployment in the numbers of the screen; None where a part is not known."""
    groups = found.get("groups") or []
    pooled = [group for group in groups if group.get("pool")]
    total: Json = {name: _sum(group.get(name) for group in groups) for name in ("wanted", "joined")}
    for name in ("busy", "idle", "jobsRunning", "jobsWaiting"):
        total[name] = _sum(group.get(name) for group in pooled)
    waits = [group.get("oldestWaitSeconds") for group in pooled]
    total["oldestWaitSeconds"] = None if None in waits else max(waits, default=0)
    return total


def _sum(values: Any) -> int | None:
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def screen(found: Json, nodes: list[Json]) -> RenderableType:
    """The screen for people."""
    total = summary(found)
    wait = total["oldestWaitSeconds"]
    parts: list[RenderableType] = [
        Text.assemble(
            (found["uuid"][:8], "bold"),
            " ",
            render.state(found["status"]),
            f"  up {render.age(found['creationTime'])}  ",
            (render.one_line(found.get("description") or ""), "dim"),
        ),
        Text(
            f"desired {render.number(total['wanted'])}   joined {render.number(total['joined'])}   "
            f"busy {render.number(total['busy'])}   idle {render.number(total['idle'])}   "
            f"jobs running {render.number(total['jobsRunning'])}   "
            f"jobs waiting {render.number(total['jobsWaiting'])}   "
            f"oldest wait {render.duration(wait)}"
        ),
        render.table(_COLUMNS, [_row(group) for group in found.get("groups") or ()]),
    ]
    if nodes:
        parts.append(node_table(nodes))
    for reason in found.get("reasons") or ():
        parts += render.reason_lines(reason)
    return Group(*parts)


def _row(group: Json) -> tuple[object, ...]:
    phases = group.get("nodes") or {}
    coming = sum(phases.get(phase, 0) for phase in _COMING)
    going = sum(phases.get(phase, 0) for phase in _GOING)
    joined = group.get("joined")
    in_pool = phases.get("JOINED", 0) if joined is None else joined
    pooled = bool(group.get("pool"))
    parts = [(in_pool, "green"), (coming, "cyan"), (going, "magenta")]
    return (
        group["name"],
        render.number(group.get("wanted")),
        render.number(joined),
        render.number(group.get("busy")) if pooled else "-",
        render.number(group.get("idle")) if pooled else "-",
        coming,
        going,
        group["maximum"],
        render.bar(parts, max(group["maximum"], in_pool + coming + going), 20),
    )


def _look(current: session.Session, uuid: str) -> tuple[Json, list[Json]]:
    found = resolve.by_id(current.api, uuid)
    return found, current.api.everything(f"/deployments/{segment(uuid)}/resources")


def _watch(current: session.Session, uuid: str, interval: float) -> None:
    """Until Ctrl-C or the deletion: a screen on a terminal, elsewhere only what differs."""
    live = current.out.is_terminal and current.output is session.Output.TABLE
    try:
        if live:
            with Live(console=current.out, auto_refresh=False, screen=False) as display:
                _repeat(current, uuid, interval, display)
        else:
            _repeat(current, uuid, interval, None)
    except KeyboardInterrupt:
        current.say(
            f"Stopped watching; the deployment goes on. Again: vacuo status {uuid[:8]} --watch"
        )
        raise typer.Exit(exitcodes.DETACHED) from None


def _repeat(current: session.Session, uuid: str, interval: float, display: Live | None) -> None:
    before: tuple[object, ...] | None = None
    while True:
        found, nodes = _look(current, uuid)
        told = {"status": found["status"], "summary": summary(found)}
        # How long the oldest job has waited is another number at every look, and no news.
        news = (
            told["status"],
            {**told["summary"], "oldestWaitSeconds": None},
            found.get("reasons"),
        )
        if display is not None:
            display.update(screen(found, nodes), refresh=True)
        elif news != before:
            if current.output is session.Output.JSON:
                current.document(
                    "status", found | {"summary": told["summary"], "nodes": nodes}, True
                )
            else:
                current.out.print(Text(_line(found, told["summary"])))
        before = news
        if found["status"] == "DELETE_COMPLETE":
            return
        time.sleep(interval)


def _line(found: Json, total: Json) -> str:
    return (
        f"{render.clock(time.time())} {found['status']} desired={render.number(total['wanted'])} "
        f"joined={render.number(total['joined'])} busy={render.number(total['busy'])} "
        f"idle={render.number(total['idle'])} running={render.number(total['jobsRunning'])} "
        f"waiting={render.number(total['jobsWaiting'])} "
        f"oldest={render.duration(total['oldestWaitSeconds'])}"
    )
