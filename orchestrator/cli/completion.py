"""Names for the shell's completion: live where a server answers at once, and never an error."""

from __future__ import annotations

import os
from typing import Any

import typer

_SECONDS = 1.0


def templates(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Shipped templates, and what they are for."""
    from orchestrator.cli.templates import description, shipped

    return [
        (name, description(path.read_text(encoding="utf-8")))
        for name, path in shipped().items()
        if name.startswith(incomplete)
    ]


def deployments(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of living deployments, shown with their descriptions."""
    return [
        (entry["uuid"], f"{entry['status']} {entry.get('description') or ''}")
        for entry in _listed(context, "/deployments")
        if entry["uuid"].startswith(incomplete)
    ]


def nodes(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of nodes, shown with their phases."""
    found = []
    for entry in _listed(context, "/deployments"):
        for resource in _listed(context, f"/deployments/{entry['uuid']}/resources"):
            if resource["uuid"].startswith(incomplete):
                found.append((resource["uuid"], str(resource["phase"])))
    return found


def deployments_and_nodes(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    return deployments(context, incomplete) + nodes(context, incomplete)


def _listed(context: typer.Context, path: str) -> list[dict[str, Any]]:
    """One page of a list, within a second and with a token that is at hand, or nothing."""
    from orchestrator.cli import login
    from orchestrator.cli.client import Api
    from orchestrator.cli.session import Session

    named = context.find_root().params.get("server") or os.environ.get("VACUO_SERVER")
    try:
        api = Api(Session(server=named or login.remembered_server()), timeout=_SECONDS)
        content: list[dict[str, Any]] = api.get(path, size=100)["content"]
    except Exception:  # completion must stay silent, whatever happens
        return []
    return content
