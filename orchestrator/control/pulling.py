"""Nodes that configure themselves, seen from the server: who asks, what it gets, what it tells.

Three credentials follow one another, each of 256 random bits and stored as a SHA-256 only:

* the *one-time credential* is in what the node is given at its creation.  It is good for an hour
  and for one thing: to trade it for
* the node's *secret*, which the node makes up itself.  With it the node fetches the bundles of its
  own runs, as long as it is not to be deleted.  Each bundle holds
* a *reporting credential* for that node and that run: good for telling what happens, until the
  outcome is told, the run's deadline passes or the bundle is fetched anew.

Nothing here is kept in memory: a server that is killed between any two of these steps loses
nothing, and the node just asks again.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.configure.base import HostToConfigure, PullOrder, TaskEvent, TaskStatus
from orchestrator.control.joining import next_credential
from orchestrator.control.ports import Ports
from orchestrator.control.tell import tell
from orchestrator.control.told import event_of
from orchestrator.control.values import Unresolved
from orchestrator.errors import Conflict, LeaseLost, PortError, Retryable
from orchestrator.model import (
    Deployment,
    DeploymentId,
    Event,
    EventKind,
    IntentId,
    Node,
    NodeName,
    NodeState,
    Outcome,
    OutcomeKind,
    RunState,
    UserData,
)
from orchestrator.reasons import Reason, reason
from orchestrator.store.repository import Enrolled, PullRun, Repository

log = logging.getLogger(__name__)

CREDENTIAL_SECONDS = 3600.0
SOON_SECONDS, LATER_SECONDS = 1.0, 30.0
MOST_EVENTS = 5000  # of one run: a node that is not ours any more must not fill the store
ENDS = {TaskStatus.FINISHED: RunState.SUCCEEDED, TaskStatus.FAILED: RunState.FAILED}

HostOf = Callable[[Deployment, Sequence[Node], Node, tuple[str, ...]], HostToConfigure]


@dataclass(frozen=True)
class HandedOut:
    """The bundle of one run, ready to be sent to its node; ``seconds`` is what the run may take."""

    run: IntentId
    reporter: str = field(repr=False)
    archive: str = field(repr=False)  # base64
    sha256: str
    seconds: float


@dataclass(frozen=True)
class Renewed:
    """A new credential for the node's pool and where it belongs; ``id`` says that it is there."""

    id: IntentId
    file: str
    content: str = field(repr=False)


@dataclass(frozen=True)
class NotYet:
    """There is no bundle now; the node may ask again after ``after`` seconds.  A credential that
    is due comes with it."""

    reason: Reason
    after: float
    credential: Renewed | None = None


class Pulling:
    """The server's side of self-configuration.  ``host_of`` says what a node is to become."""

    def __init__(
        self,
        ports: Ports,
        repository: Repository,
        host_of: HostOf,
        wake: Callable[[DeploymentId], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ports = ports
        self._repository = repository
        self._host_of = host_of
        self._wake = wake
        self._clock = clock

    def does(self, node: Node) -> bool:
        """Whether the node configures itself."""
        return node.site in self._ports.pull

    def order(self, node: Node) -> UserData:
        """What the node is given at its creation, with a fresh credential."""
        credential = secrets.token_urlsafe(32)
        now = self._clock()
        whose = Enrolled(node.deployment, node.name)
        event = _audit(whose, "a one-time credential was issued", now)
        self._repository.issue(whose, _hash(credential), now + CREDENTIAL_SECONDS, event)
        url = self._ports.pull[node.site].url
        return self._ports.configurator.bootstrap(PullOrder(url, credential))

    def offer(self, intent: IntentId, nodes: Sequence[Node]) -> None:
        """Let the nodes fetch the bundles of this run from now on."""
        for site in {node.site for node in nodes}:
            deadline = self._clock() + self._ports.pull[site].run_seconds
            names = [node.name for node in nodes if node.site == site]
            self._repository.offer(intent, names, deadline)

    # --- what nodes ask -------------------------------------------------------------------------

    def enrol(self, credential: str, secret_sha256: str) -> Enrolled | None:
        """Trade the one-time credential; None if it is worth nothing."""
        now = self._clock()

        def told(node: Enrolled, taken: bool) -> Event:
            if taken:
                return _audit(node, "enrolled", now)
            what = "its one-time credential was shown again, or too late, and refused"
            return _audit(node, what, now, denied=True)

        found = self._repository.enrol(_hash(credential), secret_sha256, now, told)
        if found:
            self._wake(found.deployment)
        return found

    def known(self, credential: str) -> bool:
        """Whether this was issued at all; what it is worth only :meth:`enrol` says."""
        return self._repository.credential_known(_hash(credential))

    def node_of(self, secret: str) -> Enrolled | None:
        return self._repository.node_of_secret(_hash(secret))

    def run_of(self, reporter: str) -> PullRun | None:
        return self._repository.run_of_reporter(_hash(reporter), self._clock())

    def bundle(self, who: Enrolled) -> HandedOut | NotYet:
        """The bundle of the node's run, once there is a run and all its values are known."""
        deployment = self._repository.deployment(who.deployment)
        nodes = self._repository.nodes(who.deployment)
        node = next((one for one in nodes if one.name == who.node), None)
        site = self._ports.pull.get(node.site) if node else None
        if node is None or site is None:
            return NotYet(reason("pull-nothing", node=who.node), LATER_SECONDS)
        run = self._repository.offered(who, self._clock())
        if run is None:
            renewal = self._renewal(deployment, nodes, node)
            return replace(_nothing_to_do(node), credential=renewal)
        try:
            host = self._host_of(deployment, nodes, node, ())
            bundle = self._ports.configurator.bundle(host)
        except (Unresolved, Retryable) as error:
            return NotYet(reason("pull-waits", node=node.name, why=str(error)), 2.0)
        except PortError as error:
            self._end(run, RunState.FAILED, str(error))
            return NotYet(reason("configure-failed", node=node.name, why=str(error)), 5.0)
        reporter = secrets.token_urlsafe(32)
        event = _audit(who, "fetched its bundle", self._clock())
        if not self._repository.hand_out(run, _hash(reporter), event):
            return _nothing_to_do(node)
        archive = base64.b64encode(bundle.archive).decode()
        return HandedOut(run.intent, reporter, archive, bundle.sha256, site.run_seconds)

    def _renewal(self, deployment: Deployment, nodes: Sequence[Node], node: Node) -> Renewed | None:
        """The credential that was decided for the node, made now and kept nowhere."""
        who = Enrolled(deployment.id, node.name)
        intent = self._repository.open_renewal(who)
        if intent is None:
            return None
        try:
            file = next_credential(self._ports, deployment, nodes, node)
        except (PortError, Unresolved) as error:
            self._settle(who, intent, Outcome(OutcomeKind.FAILED, str(error)))
            return None
        return Renewed(intent, file.path, file.content)

    def took_credential(self, who: Enrolled, id: IntentId) -> bool:
        """The node has put its new credential where it belongs; False for one that is not due."""
        if self._repository.open_renewal(who) != id:
            return False
        self._settle(who, id, Outcome(OutcomeKind.DONE))
        return True

    def _settle(self, who: Enrolled, id: IntentId, outcome: Outcome) -> None:
        with contextlib.suppress(LeaseLost):  # another request of the node came first
            self._repository.finish(id, outcome, self._clock())
        self._wake(who.deployment)

    def report(
        self, run: PullRun, first: int, tasks: Sequence[TaskEvent], host_keys: Sequence[str]
    ) -> None:
        """Take what the node tells, ``tasks`` being those from number ``first`` on; what is known
        already is passed over.  The first task that is an end ends the run."""
        if first > run.reported:
            raise Conflict("Events are missing before these.", attempt="send those first")
        fresh = list(tasks[run.reported - first :])[: max(0, MOST_EVENTS - run.reported)]
        end = next((task for task in tasks if task.status in ENDS), None)
        events = [event_of(run.deployment, task) for task in fresh]
        state = None if end is None else ENDS[end.status]
        why = f"{end.task}: {end.message}" if end and state is RunState.FAILED else ""
        stored = self._repository.report(
            run,
            events,
            end=(state, why) if state else None,
            host_keys=host_keys,
            now=self._clock(),
        )
        if stored:
            tell(events)
            if state:
                self._wake(run.deployment)

    def _end(self, run: PullRun, state: RunState, why: str) -> None:
        now = self._clock()
        message = f"configuration failed: {why}"
        event = Event(
            now,
            EventKind.TASK,
            run.deployment,
            message,
            node=run.node,
            failed=True,
            phase=NodeState.CONFIGURING,
        )
        self._repository.report(run, [event], end=(state, why), now=now)
        tell([event])
        self._wake(run.deployment)


def _nothing_to_do(node: Node) -> NotYet:
    serves = node.state in (NodeState.JOINING, NodeState.JOINED, NodeState.DRAINING)
    return NotYet(reason("pull-nothing", node=node.name), LATER_SECONDS if serves else SOON_SECONDS)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _audit(node: Enrolled, what: str, now: float, *, denied: bool = False) -> Event:
    told = f"node {node.node}: {what}"
    event = Event.audit(now, node.node, told, node.deployment, denied=denied)
    return replace(event, node=NodeName(node.node))
