"""Nodes that configure themselves: their credentials, and what they report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.model import DeploymentId, Event, IntentId, NodeName, RunState
from orchestrator.store import enrolments, journal, work
from orchestrator.store.enrolments import Enrolled, PullRun
from orchestrator.store.parts.base import Part


class Enrolling(Part):
    """The server's side of nodes that configure themselves."""

    def issue(self, node: Enrolled, credential: str, expires_at: float, event: Event) -> None:
        """Remember the hash of a one-time credential, before its node is made."""
        with self._database.write() as connection:
            enrolments.issue(connection, node, credential, expires_at)
            journal.append(connection, [event])

    def enrol(
        self,
        credential: str,
        secret: str,
        now: float,
        tell: Callable[[Enrolled, bool], Event],
    ) -> Enrolled | None:
        """Use a credential up for the hash of what its node made up; None if it is worth nothing.

        The same two may come again and get the same answer, and only the first time is an event.
        So is a refusal: ``tell`` makes either of the node and whether it was taken.
        """
        with self._database.write() as connection:
            again = enrolments.of_secret(connection, secret)
            found = enrolments.enrol(connection, credential, secret, now)
            whose = found or enrolments.of_credential(connection, credential)
            if whose and not (found and again):
                journal.append(connection, [tell(whose, found is not None)])
            return found

    def credential_known(self, credential: str) -> bool:
        with self._database.read() as connection:
            return enrolments.of_credential(connection, credential) is not None

    def enrolled(self, id: DeploymentId) -> frozenset[NodeName]:
        """The nodes that have used their credentials."""
        with self._database.read() as connection:
            return enrolments.enrolled(connection, id)

    def node_of_secret(self, secret: str) -> Enrolled | None:
        """The node that made this up, as long as it is to be configured."""
        with self._database.read() as connection:
            return enrolments.of_secret(connection, secret)

    def offer(self, intent: IntentId, nodes: Sequence[NodeName], deadline: float) -> None:
        """Leave runs of the intent to their nodes; they end by report or at ``deadline``."""
        with self._database.write() as connection:
            enrolments.offer(connection, intent, nodes, deadline)

    def offered(self, node: Enrolled, now: float) -> PullRun | None:
        """The run that the node is to do by itself now, if there is one."""
        with self._database.read() as connection:
            return enrolments.offered(connection, node, now)

    def hand_out(self, run: PullRun, reporter: str, event: Event) -> bool:
        """Let the run be reported with what has the hash ``reporter``; False where it has ended."""
        with self._database.write() as connection:
            if not enrolments.hand_out(connection, run, reporter):
                return False
            journal.append(connection, [event])
            return True

    def run_of_reporter(self, reporter: str, now: float) -> PullRun | None:
        with self._database.read() as connection:
            return enrolments.of_reporter(connection, reporter, now)

    def report(
        self,
        run: PullRun,
        events: Sequence[Event],
        *,
        end: tuple[RunState, str] | None = None,
        host_keys: Sequence[str] = (),
        now: float,
    ) -> bool:
        """Store what a node told of its run; False, and nothing, where it was told already."""
        with self._database.write() as connection:
            if not enrolments.count(connection, run, run.reported + len(events)):
                return False
            if host_keys:
                enrolments.tell_host_keys(connection, Enrolled(run.deployment, run.node), host_keys)
            if end:
                work.finish_run(connection, run.intent, run.node, end[0], end[1], now)
            journal.append(connection, events)
            return True

    def host_keys(self, id: DeploymentId, node: NodeName) -> tuple[str, ...]:
        """The ssh host keys that a node told of itself; empty where it told none."""
        with self._database.read() as connection:
            return enrolments.host_keys(connection, Enrolled(id, node))
