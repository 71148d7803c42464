"""Waiting for a deployment: events wake, the API's resources tell; a terminal sees a tree."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import typer
from rich.live import Live
from rich.text import Text

from orchestrator.cli import exitcodes, render
from orchestrator.cli.problems import Failure
from orchestrator.cli.resolve import segment
from orchestrator.cli.session import Session
from orchestrator.cli.view import View, changes, tree, view

Json = dict[str, Any]

# How often the API is asked when no event says that something changed.
_LOOK_SECONDS = 5.0
_TICK_SECONDS = 0.5
# A server that restarts is back within this time; one that is not back is not waited for.
_PATIENCE_SECONDS = 120.0
_RETRY_SECONDS = 2.0


@dataclass
class Waiting:
    """What is waited for, and what to tell a person who leaves before it is there."""

    uuid: str
    finished: Callable[[Json], bool]
    resume: str  # the command that shows how it goes on
    timeout: float | None = None
    since: int = 0  # the number of the last event that is not news


@dataclass
class _Feed:
    """Events of one deployment, read by a thread of its own for as long as the process lives."""

    session: Session
    uuid: str
    since: int
    arrived: queue.Queue[Json] = field(default_factory=queue.Queue)

    def start(self) -> None:
        threading.Thread(target=self._read, name="events", daemon=True).start()

    def _read(self) -> None:
        path = f"/deployments/{segment(self.uuid)}/events"
        while True:
            try:
                for event in self.session.api.follow(path, since=self.since):
                    self.since = max(self.since, event["sequence"])
                    self.arrived.put(event)
                return  # the deployment is deleted: there is no more to come
            except Failure:
                # The main thread asks the same server and tells the person; here it is only
                # tried again.
                time.sleep(_RETRY_SECONDS)


def wait(session: Session, waiting: Waiting) -> Json:
    """Show ``waiting`` until it is finished; the deployment as it is then.

    Ends the command with its own exit code where the person leaves or the time is over.
    """
    try:
        with interruptible() as interrupted:
            return _wait(session, waiting, interrupted)
    except KeyboardInterrupt:
        session.say(
            f"Detached: the work goes on at the server. To see it again, run: {waiting.resume}"
        )
        raise typer.Exit(exitcodes.DETACHED) from None


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Remember Ctrl-C: Python drops the exception where it comes in the middle of a destructor."""
    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _wait(session: Session, waiting: Waiting, interrupted: threading.Event) -> Json:
    feed = _Feed(session, waiting.uuid, waiting.since)
    feed.start()
    began = time.monotonic()
    watcher = _Watcher(session, waiting)
    live: Any = nullcontext()
    if session.err.is_terminal:
        live = Live(
            console=session.err, get_renderable=watcher.shown, refresh_per_second=4, transient=True
        )
    with live:
        while True:
            if interrupted.is_set():
                raise KeyboardInterrupt
            watcher.look(_drained(feed.arrived))
            if watcher.deployment is not None and waiting.finished(watcher.deployment):
                break
            if waiting.timeout is not None and time.monotonic() - began > waiting.timeout:
                session.say(
                    f"Not finished after {render.duration(waiting.timeout)}; it goes on at "
                    f"the server. To see it again, run: {waiting.resume}"
                )
                raise typer.Exit(exitcodes.TIMED_OUT)
            _until_news(feed.arrived, watcher.lines)
    if session.err.is_terminal and watcher.seen is not None:
        session.err.print(tree(watcher.seen, time.time()))
    return watcher.deployment


def _drained(arrived: queue.Queue[Json]) -> list[Json]:
    found = []
    while not arrived.empty():
        found.append(arrived.get_nowait())
    return found


def _until_news(arrived: queue.Queue[Json], lines: dict[str, str]) -> None:
    """Sleep until an event comes, at most for one interval; take what comes close behind it too."""
    try:
        note(lines, arrived.get(timeout=_LOOK_SECONDS))
    except queue.Empty:
        return
    time.sleep(_TICK_SECONDS)


def note(lines: dict[str, str], event: Json) -> None:
    """Keep the last line of each node."""
    if event.get("node"):
        lines[event["node"]] = render.one_line(event.get("message", ""))


class _Watcher:
    """Looks, and prints what changed since the look before."""

    def __init__(self, session: Session, waiting: Waiting) -> None:
        self.session = session
        self.waiting = waiting
        self.lines: dict[str, str] = {}
        self.deployment: Json = {}
        self.seen: View | None = None
        self._silent_since: float | None = None

    def shown(self) -> Any:
        return Text("…") if self.seen is None else tree(self.seen, time.time())

    def look(self, events: list[Json]) -> None:
        for event in events:
            note(self.lines, event)
        path = f"/deployments/{segment(self.waiting.uuid)}"
        try:
            deployment = self.session.api.get(path)
            resources = self.session.api.everything(f"{path}/resources")
        except Failure as failure:
            self._silence(failure)
            return
        self._silent_since = None
        self.deployment = deployment
        before, self.seen = self.seen, view(deployment, resources, self.lines)
        if not self.session.err.is_terminal:
            for line in changes(before, self.seen, time.time()):
                self.session.say(line)

    def _silence(self, failure: Failure) -> None:
        """A server that is away is told of once and waited for; every other failure ends it."""
        if failure.code != "server-unreachable" and failure.status not in (502, 503, 504):
            raise failure
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = now
            self.session.say(
                f"{render.clock(time.time())} The server does not answer; trying again."
            )
        elif now - self._silent_since > _PATIENCE_SECONDS:
            failure.attempt = f"when it is back: {self.waiting.resume}"
            raise failure
