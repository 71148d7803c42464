"""``plan``: what would change, before it does."""

from __future__ import annotations

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
) -> None:
    """Show what would change.

    The exit code is 0 where nothing would, 2 where something would, 1 where it cannot be told.
    """
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
        uuid = resolve.deployment(current.api, update)["uuid"]
        body = submission(subject or "-", file, pairs)
        found = current.api.send("POST", f"/deployments/{segment(uuid)}/plan", body)
        return found, f"vacuo up {subject} --update {uuid[:8]} --wait"
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
    """Groups with what becomes of them, their services, and why the other offers were not taken."""
    root = Tree(Text("plan", "bold"), guide_style="dim")
    for group in found["groups"]:
        branch = root.add(_marked(group["action"], _group_line(group)))
        for service in group.get("services") or ():
            text = f"{service['template']} ({service['role']})"
            branch.add(_marked(service["action"], text))
        for rejected in group.get("rejected") or ():
            text = f"not {rejected['site']}/{rejected['flavour'] or '*'}: {rejected['why']}"
            branch.add(Text(render.one_line(text), "dim"))
        for reason in group.get("reasons") or ():
            branch.add(Text(render.one_line(reason["sentence"]), "yellow"))
    return root


def _marked(action: str, text: str) -> Text:
    return Text(f"{action} {render.one_line(text)}", _STYLES.get(action, ""))


def _group_line(group: Json) -> str:
    count = (
        f"{group['now']} → {group['wanted']}" if group["now"] != group["wanted"] else group["now"]
    )
    line = f"{group['name']}: {count} nodes ({group['minimum']} to {group['maximum']})"
    if group.get("site") is None:
        return f"{line}, no offer fits"
    return f"{line}, {group['flavour']} at {group['site']}, {_price(group.get('pricePerHour'))}"


def _price(price: float | None) -> str:
    return "no price known" if price is None else f"{price:g} an hour each"


def _summary(found: Json) -> Iterator[Text]:
    counts = found["summary"]
    if not found["changes"]:
        yield Text("No change.", "green")
        return
    yield Text(
        f"{counts['create']} to create, {counts['change']} to change, {counts['delete']} to delete."
    )
    priced = [group for group in found["groups"] if group["wanted"] and group.get("site")]
    if priced and all(group.get("pricePerHour") is not None for group in priced):
        total = sum(group["pricePerHour"] * group["wanted"] for group in priced)
        yield Text(f"Cost: {total:g} an hour.")
    elif priced:
        yield Text("Cost: no price known.")
