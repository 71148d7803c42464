"""What a person who waits is shown of a deployment, and how two looks at it differ; all pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from orchestrator.cli import render

Json = dict[str, Any]


@dataclass(frozen=True)
class NodeView:
    """One node: its phase, since when, why it waits, the last line that it had to say, and what an
    update does to it."""

    name: str
    group: str
    phase: str
    since: float | None
    reason: str = ""
    line: str = ""
    marks: str = ""


@dataclass(frozen=True)
class View:
    """One look at a deployment."""

    uuid: str
    status: str
    reason: str
    reasons: tuple[str, ...]
    started: float | None
    groups: tuple[tuple[str, int, int], ...]  # name, minimum, maximum
    nodes: tuple[NodeView, ...]


def view(deployment: Json, resources: Iterable[Json], lines: Mapping[str, str]) -> View:
    """A look made of the API's answers and of the last line of each node."""
    return View(
        uuid=deployment["uuid"],
        status=deployment["status"],
        reason=render.one_line(deployment.get("statusReason") or ""),
        reasons=tuple(render.one_line(r["sentence"]) for r in deployment.get("reasons") or ()),
        started=render.timestamp(deployment.get("creationTime")),
        groups=tuple(
            (g["name"], g["minimum"], g["maximum"]) for g in deployment.get("groups") or ()
        ),
        nodes=tuple(
            NodeView(
                name=resource["uuid"],
                group=resource["group"],
                phase=resource["phase"],
                since=render.timestamp(resource.get("updateTime")),
                reason=render.one_line((resource.get("reason") or {}).get("sentence", "")),
                line=lines.get(resource["uuid"], ""),
                marks=render.marks(resource),
            )
            for resource in resources
        ),
    )


def changes(before: View | None, after: View, now: float) -> list[str]:
    """What differs, a line for each thing: what a log should hold, and nothing twice."""
    found = []
    if before is None or (before.status, before.reason) != (after.status, after.reason):
        found.append(" ".join(part for part in (after.status, after.reason) if part))
    known = {} if before is None else {node.name: node for node in before.nodes}
    for node in after.nodes:
        was = known.pop(node.name, None)
        if was is None or was.phase != node.phase:
            found.append(f"{node.name} {_step(was, node)}")
        elif was.marks != node.marks:
            found.append(f"{node.name} {node.phase} {node.marks or 'as wished'}")
        elif node.reason and node.reason != was.reason:
            found.append(f"{node.name} {node.phase}: {node.reason}")
    found += [f"{name} {node.phase} → GONE" for name, node in known.items() if node.phase != "GONE"]
    shown = set() if before is None else set(before.reasons)
    shown.add(after.reason)
    shown |= {node.reason for node in after.nodes}
    found += [sentence for sentence in after.reasons if sentence not in shown]
    return [f"{render.clock(now)} {line}" for line in found]


def _step(was: NodeView | None, node: NodeView) -> str:
    reason = f": {node.reason}" if node.reason else ""
    if was is None:
        return f"{node.phase}{reason}"
    took = None if was.since is None or node.since is None else node.since - was.since
    spent = f" after {render.duration(took)}" if took is not None else ""
    return f"{was.phase} → {node.phase}{spent}{reason}"


def tree(seen: View, now: float) -> RenderableType:
    """The live tree: deployment, groups, nodes; phase, elapsed time, last line."""
    elapsed = None if seen.started is None else now - seen.started
    root = Tree(
        Text.assemble(
            (seen.uuid[:8], "bold"), " ", render.state(seen.status), f"  {render.duration(elapsed)}"
        ),
        guide_style="dim",
    )
    for name, minimum, maximum in seen.groups:
        nodes = [node for node in seen.nodes if node.group == name and node.phase != "GONE"]
        wanted = str(maximum) if minimum == maximum else f"{minimum}–{maximum}"
        branch = root.add(Text.assemble((name, "bold"), (f"  {len(nodes)} of {wanted}", "dim")))
        for node in nodes:
            branch.add(_node_line(node, now))
    footer = seen.reason or (seen.reasons[0] if seen.reasons else "")
    return Group(root, Text(footer, "dim", overflow="ellipsis", no_wrap=True))


def _node_line(node: NodeView, now: float) -> Text:
    elapsed = None if node.since is None else now - node.since
    return Text.assemble(
        node.name,
        " ",
        render.phase(node.phase, node.marks),
        f" {render.duration(elapsed)}  ",
        (node.line or node.reason, "dim"),
        overflow="ellipsis",
        no_wrap=True,
    )
