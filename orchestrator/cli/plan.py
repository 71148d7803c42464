"""``plan``: what would change, before it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from orchestrator.cli import completion, exitcodes, options, render, resolve, session, templates
from orchestrator.cli.deployments import submission
from orchestrator.cli.resolve import segment

Json = dict[str, Any]

_EFFECTS = {
    "scale": "changes the number of nodes",
    "reconfigure": "is changed in place",
    "rebuild": "needs other nodes",
}
_NODES = {
    "create": "is made",
    "reconfigure": "is configured anew, and stays in service",
    "replace": "is replaced by another",
    "remove": "goes when its jobs have ended",
    "keep": "is left as it is",
}
_STYLES = {"+": "green", "~": "yellow", "-": "red", "=": "dim"}


def plan(
    context: typer.Context,
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[TEMPLATE|ID]",
            help="A template that is not deployed yet, or a deployment.",
            autocompletion=completion.templates,
        ),
    ] = None,
    parameters: options.Parameters = None,
    pair: options.Pairs = None,
    update: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="What TEMPLATE would change of this deployment.",
            autocompletion=completion.deployments,
        ),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of a plan, and nothing else.")
    ] = False,
) -> None:
    """Show what would change.

    The exit code is 0 where nothing would, 2 where something would, 1 where it cannot be told.
    """
    if schema:
        # Only here: what describes the API takes longer to load than most commands take.
        from orchestrator.api.models import plan_schema

        typer.echo(json.dumps(plan_schema(), indent=2))
        return
    current = session.of(context)
    found, following = _asked(current, subject, parameters, pair, update)
    names = [f"{group['action']} {group['name']}" for group in found["groups"]]
    current.emit("plan", found, [tree(found), *_summary(found)], names)
    current.next(following)
    if found["changes"]:
        raise typer.Exit(exitcodes.CHANGES)


def _asked(
    current: session.Session,
    subject: str | None,
    file: Path | None,
    pairs: list[str] | None,
    update: str | None,
) -> tuple[Json, str]:
    """The plan, and the command that would follow it."""
    if update is not None:
        target = resolve.deployment(current.api, update)
        uuid = target["uuid"]
        body = submission(subject or "-", file, pairs)
        # Read before the plan: what comes in between makes the update fail, never pass unseen.
        found = current.api.send("POST", f"/deployments/{segment(uuid)}/plan", body)
        only_if = f" --if-version {target['version']}" if "version" in target else ""
        return found, f"vacuo up {subject} --update {uuid[:8]}{only_if} --wait"
    if subject is not None and is_template(subject):
        found = current.api.send("POST", "/plan", submission(subject, file, pairs))
        return found, f"vacuo up {subject} --wait"
    uuid = resolve.deployment(current.api, subject)["uuid"]
    return current.api.get(f"/deployments/{segment(uuid)}/plan"), f"vacuo status {uuid[:8]}"


def is_template(subject: str) -> bool:
    """Whether ``subject`` is a template and not a deployment's id."""
    looks_like_a_path = "/" in subject or subject.endswith((".yaml", ".yml")) or subject == "-"
    return looks_like_a_path or Path(subject).is_file() or subject in templates.shipped()


def tree(found: Json) -> RenderableType:
    """Groups with what becomes of them, their nodes and services, and why so."""
    root = Tree(Text("plan", "bold"), guide_style="dim")
    for group in found["groups"]:
        branch = root.add(_marked(group["action"], _group_line(group)))
        _add_changes(branch, group)
        _add_nodes(branch, group)
        for service in group.get("services") or ():
            text = f"{service['template']} ({service['role']})"
            branch.add(_marked(service["action"], text))
        for candidate in group.get("candidates") or ():
            if not candidate["chosen"]:
                where = f"{candidate['site']}/{candidate['flavour'] or '*'}"
                branch.add(Text(render.one_line(f"not {where}: {candidate['why']}"), "dim"))
        for reason in group.get("reasons") or ():
            branch.add(Text(render.one_line(reason["sentence"]), "yellow"))
    return root


def _add_changes(branch: Tree, group: Json) -> None:
    for change in group.get("changes") or ():
        values = f" {change['before']} → {change['after']}" if change["after"] else ""
        why = f" ({change['why']})" if change["effect"] == "rebuild" else ""
        text = f"{change['what']}:{values} {_EFFECTS[change['effect']]}{why}"
        branch.add(_marked("~", text))


def _add_nodes(branch: Tree, group: Json) -> None:
    """Nodes that are there by name; those to be made, and those left as they are, by number."""
    nodes = group.get("nodes") or []
    for node in nodes:
        if node["effect"] in ("reconfigure", "replace", "remove") or node["why"]:
            why = f": {node['why']}" if node["why"] else ""
            branch.add(_marked(node["action"], f"{node['name']} {_NODES[node['effect']]}{why}"))
    made = [node for node in nodes if node["effect"] == "create"]
    sizes = dict.fromkeys((n["flavour"], n["site"], n["cores"], n["memoryMb"]) for n in made)
    for flavour, site, cores, memory in sizes:
        count = sum((n["flavour"], n["site"]) == (flavour, site) for n in made)
        text = f"{count} new: {flavour} at {site}, {cores} cores, {memory} MiB"
        branch.add(_marked("+", text))
    kept = sum(node["effect"] == "keep" and not node["why"] for node in nodes)
    if kept:
        branch.add(_marked("=", f"{kept} left as they are"))


def _marked(action: str, text: str) -> Text:
    return Text(f"{action} {render.one_line(text)}", _STYLES.get(action, ""))


def _group_line(group: Json) -> str:
    count = (
        f"{group['now']} → {group['wanted']}" if group["now"] != group["wanted"] else group["now"]
    )
    line = f"{group['name']}: {count} nodes ({group['minimum']} to {group['maximum']})"
    if group.get("site") is None:
        return line if group["action"] == "-" else f"{line}, no offer fits"
    return f"{line}, {group['flavour']} at {group['site']}, {_price(group.get('pricePerHour'))}"


def _price(price: float | None) -> str:
    return "no price known" if price is None else f"{price:g} an hour each"


def _summary(found: Json) -> Iterator[Text]:
    yield from _sites(found)
    for imported in found.get("imports") or ():
        yield Text(f"imports {imported['name']}  sha256 {imported['sha256'][:16]}…", "dim")
    for note in found.get("notes") or ():
        yield Text(render.one_line(note), "yellow")
    if not found["changes"]:
        yield Text("No change.", "green")
        return
    counts = found["nodes"]
    words = ("create", "reconfigure", "replace", "remove", "keep")
    yield Text("Nodes: " + ", ".join(f"{counts[word]} to {word}" for word in words) + ".")
    yield _cost(found["cost"])
    if not found.get("complete", True):
        yield Text("More follows: only the first passes were looked at.", "yellow")


def _sites(found: Json) -> Iterator[Text]:
    for site in found.get("sites") or ():
        if site["quota"] is None:
            yield Text(render.one_line(f"site {site['name']}: quota not known, {site['why']}"))
            continue
        uses = [
            f"{use['before']} → {use['after']} of {'any' if use['limit'] is None else use['limit']}"
            f" {what}"
            for what, use in (
                ("instances", site["quota"]["instances"]),
                ("cores", site["quota"]["cores"]),
                ("MiB", site["quota"]["memoryMb"]),
            )
        ]
        yield Text(f"site {site['name']}: {', '.join(uses)}", "dim")


def _cost(cost: Json) -> Text:
    if cost["perHourAfter"] is None:
        return Text("Cost: no price known.")
    parts = [f"{cost['perHourAfter']:g} an hour"]
    if cost["perHourNow"] is not None and cost["perHourNow"] != cost["perHourAfter"]:
        parts[0] += f" instead of {cost['perHourNow']:g}"
    most = cost["perHourAtMost"]
    parts.append("no price known" if most is None else f"{most:g} an hour")
    parts[-1] += " at the maximum"
    if cost["toExpiry"] is not None:
        parts.append(f"{cost['toExpiry']:g} until the lifetime ends")
    return Text(f"Cost: {', '.join(parts)}.")
