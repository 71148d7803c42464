"""What the loop decides and does: leases, nodes, intents and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.model import (
    Action,
    CreateInstance,
    DeleteInstance,
    DeploymentId,
    DeploymentStatus,
    Event,
    Intent,
    IntentId,
    Node,
    NodeName,
    Outcome,
    RenewCredential,
    Run,
    RunState,
)
from orchestrator.reasons import Reason
from orchestrator.store import deployments, journal, leases, work
from orchestrator.store.enrolments import Enrolled
from orchestrator.store.leases import Lease
from orchestrator.store.parts.base import Part


class Passes(Part):
    """The loop's side of deployments."""

    def acquire(self, id: DeploymentId, holder: str, seconds: float, now: float) -> Lease:
        """A lease with a token above all earlier ones; an earlier one of this holder is void.

        :class:`~orchestrator.errors.LeaseLost` while another holder has one that has not run out.
        """
        with self._database.write() as connection:
            return leases.acquire(connection, id, holder, now + seconds, now)

    def renew(self, lease: Lease, seconds: float, now: float) -> Lease:
        """The same lease until ``now + seconds``; :class:`~orchestrator.errors.LeaseLost` when
        somebody else acquired it."""
        with self._database.write() as connection:
            return leases.renew(connection, lease, now + seconds)

    def release(self, lease: Lease) -> None:
        """Let others acquire it at once; a lost lease is let be."""
        with self._database.write() as connection:
            leases.release(connection, lease)

    def void_leases(self) -> None:
        """End every lease.  For a server that starts and holds the ServerLock: whoever held one
        is dead, and need not be waited for.  Beyond SQLite, where other servers may be alive, it
        does nothing."""
        if not self._database.is_sqlite:
            return
        with self._database.write() as connection:
            leases.void(connection)

    def nodes(
        self, id: DeploymentId, *, include_gone: bool = False, gone_since: float | None = None
    ) -> tuple[Node, ...]:
        """The deployment's nodes, oldest first; GONE ones only if asked for: all of them, or those
        that went at ``gone_since`` or later."""
        if include_gone:
            gone_since = float("-inf")
        with self._database.read() as connection:
            return work.read_nodes(connection, id, gone_since)

    def save(
        self,
        lease: Lease,
        *,
        generation: int,
        status: DeploymentStatus,
        status_reason: Reason | None,
        reasons: Sequence[Reason],
        now: float,
        nodes: Sequence[Node] = (),
        actions: Sequence[Action] = (),
        outputs: Mapping[str, Any] | None = None,
        events: Sequence[Event] = (),
    ) -> tuple[Intent, ...]:
        """Store what a pass decided, and the intents of its actions, before any is carried out.

        ``generation`` is that of the deployment which the pass read.  If the API has changed the
        wish since, status and status_reason stay as the API set them, and the rest is stored.
        ``outputs`` None leaves them.  A pass that decided nothing new writes nothing.

        Raises :class:`~orchestrator.errors.LeaseLost`, with nothing written, if the lease ran out
        or was taken over.
        """
        verdict = deployments.Verdict(status, status_reason, tuple(reasons), outputs)
        with self._database.write() as connection:
            leases.check(connection, lease, now)
            work.write_nodes(connection, lease.deployment, nodes)
            intents = work.open_intents(connection, lease, actions, now)
            deployments.settle(connection, lease.deployment, generation, verdict, now)
            journal.append(connection, events)
            return intents

    def finish(
        self, intent: IntentId, outcome: Outcome, now: float, events: Sequence[Event] = ()
    ) -> None:
        """Store what became of an action.

        The lease does not matter: what happened has happened, and a background run outlives the
        pass that began it.  Only :meth:`save` tells the id, so only the holder can settle the
        intent, and only once: :class:`~orchestrator.errors.LeaseLost` after that.  Runs of the
        intent that are still open end as FAILED if it failed, else as LOST.
        """
        with self._database.write() as connection:
            work.finish(connection, intent, outcome, now)
            journal.append(connection, events)

    def finish_run(
        self,
        intent: IntentId,
        node: NodeName,
        state: RunState,
        why: str,
        now: float,
        events: Sequence[Event] = (),
    ) -> None:
        """Store how the configuration of one node ended; fenced as :meth:`finish` is."""
        with self._database.write() as connection:
            work.finish_run(connection, intent, node, state, why, now)
            journal.append(connection, events)

    def intents(self, id: DeploymentId, *, open_only: bool = False) -> tuple[Intent, ...]:
        """The deployment's intents, oldest first."""
        with self._database.read() as connection:
            return work.read_intents(connection, id, open_only)

    def runs(self, id: DeploymentId, holder: str, now: float = 0.0) -> Mapping[NodeName, Run]:
        """The last run of each node that is not GONE; one that another holder left open is
        LOST, unless the node does it by itself: that one is FAILED once its deadline has passed."""
        with self._database.read() as connection:
            return work.last_runs(connection, id, holder, now)

    def creates(self, id: DeploymentId, holder: str) -> Mapping[NodeName, Outcome]:
        """What became of the last creation of each node that is not GONE.

        One that another holder left open is UNKNOWN; one that this holder has open is still under
        way, and absent here.
        """
        with self._database.read() as connection:
            return work.last_outcomes(connection, id, holder, CreateInstance)

    def deletes(self, id: DeploymentId, holder: str) -> Mapping[NodeName, Outcome]:
        """What became of the last deletion of each node that is not GONE; as :meth:`creates`."""
        with self._database.read() as connection:
            return work.last_outcomes(connection, id, holder, DeleteInstance)

    def renewals(self, id: DeploymentId, holder: str) -> Mapping[NodeName, Outcome]:
        """What became of the last renewal of each node's credential; as :meth:`creates`, but one
        that is left to its node stays open until that has it."""
        with self._database.read() as connection:
            return work.last_outcomes(connection, id, holder, RenewCredential)

    def open_renewal(self, node: Enrolled) -> IntentId | None:
        """The renewal that the node is to fetch by itself, if there is one."""
        with self._database.read() as connection:
            return work.open_renewal(connection, node.deployment, node.node)
