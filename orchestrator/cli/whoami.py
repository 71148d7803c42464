"""``whoami``: what you are on the server, so that a refusal can be understood."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import typer
from rich.console import RenderableType
from rich.text import Text

from orchestrator.cli import render, session

Json = dict[str, Any]

_LIMITED = ("deployments", "nodes", "cores")


def whoami(context: typer.Context) -> None:
    """Show who you are on the server, what you may do, and how much of it is used."""
    current = session.of(context)
    found: Json = current.api.get("/whoami")
    current.emit("whoami", found, _shown(found), [f"{found['subject']}@{found['issuer']}"])
    if not found["roles"]:
        current.say(
            "No rule of the server's access file names you: show this to its administrator.",
            "yellow",
        )


def _shown(found: Json) -> Iterable[RenderableType]:
    rights = found["rights"]
    for label, value in (
        ("subject", found["subject"]),
        ("issuer", f"{found['issuerName']} ({found['issuer']})"),
        ("groups", _listed(found["groups"])),
        ("scopes", _listed(found["scopes"])),
        ("roles", _listed(found["roles"])),
        ("with your own", _listed(rights["own"])),
        ("shared with you", _listed(rights["shared"])),
        ("with all others", _listed(rights["others"])),
        ("requests", _pace(found["requestsPerMinute"])),
        ("token", f"ends in {render.duration(found['secondsLeft'])}, {found['tokenEndsAt']}"),
    ):
        yield Text(f"{label:16} {render.one_line(value)}")
    rows = [
        ("you" if one["group"] is None else one["group"], *_used(one)) for one in found["limits"]
    ]
    yield render.table(("used by", *_LIMITED), rows)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words) or "none"


def _pace(per_minute: int | None) -> str:
    return "as many as you like" if per_minute is None else f"{per_minute} a minute"


def _used(one: Mapping[str, Any]) -> list[str]:
    """``4 of 50``, or ``4`` where there is no limit."""
    limits, used = one["limits"], one["used"]
    return [
        str(used[name]) if limits[name] is None else f"{used[name]} of {limits[name]}"
        for name in _LIMITED
    ]
