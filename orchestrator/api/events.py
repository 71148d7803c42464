"""Events, as JSON and as a stream of server-sent events that can be resumed.

A stream polls the store: events are written by other threads, and later by other processes, and
their sequence has no gaps, so that "after number n" is a complete question.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from flask import Blueprint, Response, g, request

from orchestrator.api import models, present
from orchestrator.api.browser import still
from orchestrator.api.problems import RequestInvalid, entry
from orchestrator.api.requests import Services, caller, deployment, services, standing
from orchestrator.api.specification import operation
from orchestrator.errors import NotFound, UserError
from orchestrator.identity.access import Rules
from orchestrator.identity.policy import Access
from orchestrator.model import (
    Deployment,
    DeploymentId,
    DeploymentStatus,
    Event,
    NodeName,
    Sight,
)

log = logging.getLogger(__name__)
blueprint = Blueprint("events", __name__)

STREAM = "text/event-stream"
RETRY_MILLISECONDS = 2000
POLL_SECONDS = 0.3
HEARTBEAT_SECONDS = 15.0
SESSION_SECONDS = 5.0  # between two looks whether somebody signed out
_BATCH = 500
_RESUME = {"Last-Event-ID": "Streams only: go on after this event; counts more than since."}


@dataclass(frozen=True)
class _Wanted:
    """Which events: of one deployment, or of all that are seen."""

    sight: Sight
    deployment: DeploymentId | None
    query: models.EventsQuery

    def read(self, found: Services, since: int, limit: int) -> tuple[Event, ...]:
        return found.orchestrator.repository.events(
            deployment=self.deployment,
            sight=None if self.deployment else self.sight,
            since=since,
            limit=limit,
            node=NodeName(self.query.node) if self.query.node is not None else None,
            kinds=(self.query.kind,) if self.query.kind else (),
            failed=True if self.query.failed else None,
        )

    def ended(self, found: Services) -> bool:
        """Whether nothing can come any more: the deployment is deleted, or even forgotten."""
        if self.deployment is None:
            return False
        try:
            status = found.orchestrator.repository.deployment(self.deployment).status
        except NotFound:
            return True
        return status is DeploymentStatus.DELETE_COMPLETE


@operation(
    blueprint,
    "GET",
    "/deployments/<id>/events",
    Access.SEE,
    answers={200: models.Events},
    headers=_RESUME,
    stream=True,
)
def get_events(id: str, query: models.EventsQuery) -> models.Events | Response:
    """What happened to the deployment, oldest first; as a stream where that is accepted."""
    return _answer(query, deployment())


@operation(
    blueprint,
    "GET",
    "/events",
    Access.AUTHENTICATED,
    answers={200: models.Events},
    headers=_RESUME,
    stream=True,
)
def list_events(query: models.EventsQuery) -> models.Events | Response:
    """What happened to all deployments that one may see."""
    return _answer(query, None)


@operation(blueprint, "GET", "/audits", Access.AUDIT, answers={200: models.Audits})
def list_audits(query: models.AuditsQuery) -> models.Audits:
    """The chain of audits as it is stored, for whoever wants to check it: orchestrator.audits."""
    links, written = services().orchestrator.repository.audits(query.since, query.limit)
    return models.Audits(
        links=[
            models.AuditLink(sequence=link.sequence, record=link.record, hash=link.hash)
            for link in links
        ],
        last=links[-1].sequence if links else query.since,
        written=written,
    )


def _answer(query: models.EventsQuery, of: Deployment | None) -> models.Events | Response:
    wanted = _Wanted(standing().sight, of.id if of else None, query)
    accepted = request.accept_mimetypes
    if accepted.best_match(["application/json", STREAM]) == STREAM:
        return _stream(wanted, _resume_after(query))
    events = wanted.read(services(), query.since, query.limit)
    return models.Events(
        events=[present.event(event) for event in events],
        last=events[-1].sequence if events else query.since,
    )


def _resume_after(query: models.EventsQuery) -> int:
    sent = request.headers.get("Last-Event-ID")
    if not sent:
        return query.since
    if not (sent.isascii() and sent.isdigit() and len(sent) <= 18):
        sentence = "Last-Event-ID has to be the id of an event, a number."
        raise RequestInvalid(why=sentence, errors=[entry(sentence, path="Last-Event-ID")])
    return int(sent)


def _stream(wanted: _Wanted, since: int) -> Response:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        return Response(content_type=STREAM, headers=headers)
    found = services()
    if not found.streams.acquire(blocking=False):
        raise UserError(
            "Too many event streams are open.",
            attempt="ask for application/json with since, or try again",
            code="too-many-streams",
            status=503,
        )
    frames = _frames(wanted, since, found, g.rules, _Until(caller().expires_at, still()))
    response = Response(frames, content_type=STREAM, headers=headers)
    response.call_on_close(_once(found.streams.release))
    return response


def _once(release: Callable[[], None]) -> Callable[[], None]:
    """Servers and middleware may close a response more than once; a place is given back once."""
    pending = threading.Semaphore(1)
    return lambda: release() if pending.acquire(blocking=False) else None


@dataclass
class _Until:
    """How long a stream may go on: until its token ends, and while its session is in force."""

    ends_at: float
    still: Callable[[], bool]
    _looked: float = field(default_factory=time.monotonic)

    @property
    def over(self) -> bool:
        if time.time() >= self.ends_at:
            return True
        if time.monotonic() - self._looked < SESSION_SECONDS:
            return False
        self._looked = time.monotonic()
        return not self.still()


def _frames(
    wanted: _Wanted, since: int, found: Services, rules: Rules, until: _Until
) -> Iterator[str]:
    """Events after ``since``, until nothing can come, the caller's time is over, the rules of
    access are no longer ``rules`` (who comes back is admitted anew), or the server stops."""
    yield f"retry: {RETRY_MILLISECONDS}\n\n"
    heard = time.monotonic()
    while not found.closing.is_set() and not until.over and found.access.rules is rules:
        # Asked before the events are read: what came before the end is never cut off by it.
        ended = wanted.ended(found)
        events = wanted.read(found, since, _BATCH)
        for event in events:
            yield _frame(event)
            since = event.sequence
            heard = time.monotonic()
        if len(events) == _BATCH:
            continue
        if ended:
            yield f'event: end\ndata: {{"status": "{DeploymentStatus.DELETE_COMPLETE}"}}\n\n'
            return
        if time.monotonic() - heard >= HEARTBEAT_SECONDS:
            yield ": alive\n\n"
            heard = time.monotonic()
        found.closing.wait(POLL_SECONDS)


def _frame(event: Event) -> str:
    # JSON has no bare line feed, so the data is one line whatever the message has.
    data = present.event(event).model_dump_json()
    return f"id: {event.sequence}\nevent: {event.kind.value}\ndata: {data}\n\n"
