"""``events``: who did what, and whether the record of it is as it was written."""

from __future__ import annotations

from collections import deque
from typing import Annotated, Any

import typer
from rich.text import Text

from orchestrator import settings
from orchestrator.audits import Link, Verification, Verifier
from orchestrator.cli import options, render, resolve, session
from orchestrator.cli.client import Api
from orchestrator.cli.logs import endless, print_event
from orchestrator.cli.resolve import segment
from orchestrator.errors import UserError
from orchestrator.model import EventKind

Json = dict[str, Any]

_LINKS = 1000


def events(
    context: typer.Context,
    given: options.Deployment = None,
    follow: options.Follow = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="The last so many.")] = 200,
    since: Annotated[int, typer.Option(min=0, help="Only what follows this event.")] = 0,
    kind: Annotated[EventKind | None, typer.Option(help="Only events of this kind.")] = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Check the chain of audits: is one removed or changed?"),
    ] = False,
    from_hash: Annotated[
        str,
        typer.Option("--from-hash", help="With --verify: a hash noted earlier has to be there."),
    ] = "",
    offline: Annotated[
        bool,
        typer.Option("--offline", help="With --verify: read the server's database, here."),
    ] = False,
    config: options.Configuration = None,
) -> None:
    """Show who did what, and why; or check that the record of it is whole.

    Of all your deployments where none is named.
    """
    current = session.of(context)
    if verify:
        if given or follow or since or kind:
            raise typer.BadParameter("--verify looks at all audits: there is one chain of them")
        _verify(current, from_hash, offline, str(config) if config else None)
        return
    if from_hash or offline or config:
        raise typer.BadParameter("--from-hash, --offline and --config go with --verify")
    path = "/events"
    if given is not None:
        path = f"/deployments/{segment(resolve.deployment(current.api, given)['uuid'])}/events"
    query = {"kind": kind.value if kind else None}
    last = since
    tail: deque[Json] = deque(maxlen=lines)
    for event in current.api.events(path, since, **query):
        last = event["sequence"]
        tail.append(event)
    for event in tail:
        print_event(current, event, event_line(event))
    if follow:
        words = ["vacuo events", given, f"--kind {kind.value}" if kind else None, "--follow"]
        resume = " ".join(word for word in words if word)
        for event in endless(current, path, last, resume, **query):
            print_event(current, event, event_line(event))
        return
    current.next("vacuo events --follow")


def event_line(event: Json) -> Text:
    """Sequence, time, actor, what it is about, message, code, correlation."""
    about = event.get("node") or str(event.get("deployment") or "")[:8]
    tail = " ".join(part for part in (event.get("code"), event.get("correlation")) if part)
    return Text.assemble(
        (f"{event['sequence']:>6} {event['at']} ", "dim"),
        f"{render.one_line(event['actor'])} {event['kind']} ",
        (render.one_line(about), "bold"),
        " ",
        (render.one_line(event["message"]), "red" if event.get("failed") else ""),
        (f"  [{render.one_line(tail)}]" if tail else "", "dim"),
    )


def _verify(current: session.Session, known: str, offline: bool, config: str | None) -> None:
    if config and not offline:
        raise typer.BadParameter("--config goes with --offline")
    found = _here(known, config) if offline else _asked(current.api, known)
    if not found.whole:
        place = f" at event {found.broken_at}" if found.broken_at is not None else ""
        raise UserError(
            f"The audits are not as they were written{place}.",
            found.problem,
            f"compare with a backup; the first {found.lines} audits are as they were written",
            code="audit-broken",
        )
    text = f"{found.lines} audits, as they were written; the last has the hash {found.head}"
    current.emit("audit", {"lines": found.lines, "head": found.head}, [Text(text)])
    current.next(f"keep the hash elsewhere; later: vacuo events --verify --from-hash {found.head}")


def _here(known: str, config: str | None) -> Verification:
    # Like server: what is below the API is loaded for this alone.
    from orchestrator.api.server import verify_audits

    return verify_audits(settings.load(settings.find(config)), known)


def _asked(api: Api, known: str) -> Verification:
    """Check here what the server gives: it need not be believed."""
    verifier, since = Verifier(known), 0
    while True:
        answer = api.get("/audits", since=since, limit=_LINKS)
        links = [Link(link["sequence"], link["record"], link["hash"]) for link in answer["links"]]
        if not verifier.follow(links) or len(links) < _LINKS:
            return verifier.end(answer["written"])
        since = answer["last"]
