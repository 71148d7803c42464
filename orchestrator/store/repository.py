"""The truth: what is wished, what was decided, what happened.

Every method is one transaction: it happens whole or not at all.  All of them may raise
:class:`~orchestrator.errors.StoreUnavailable`.  Threads may share a repository.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from orchestrator.model import (
    Account,
    Action,
    Allowance,
    CreateInstance,
    DeleteInstance,
    Deployment,
    DeploymentId,
    DeploymentStatus,
    Event,
    EventKind,
    Intent,
    IntentId,
    Node,
    NodeName,
    Outcome,
    Principal,
    RenewCredential,
    Run,
    RunState,
    Sight,
    Use,
)
from orchestrator.reasons import Reason
from orchestrator.store import (
    audit,
    deployments,
    enrolments,
    journal,
    leases,
    outbox,
    secrets,
    work,
)
from orchestrator.store.audit import Verification
from orchestrator.store.database import Database, open_database
from orchestrator.store.deployments import Page
from orchestrator.store.enrolments import Enrolled, PullRun
from orchestrator.store.leases import Lease
from orchestrator.store.outbox import Call
from orchestrator.store.schema import counters
from orchestrator.store.secrets import SecretRows

__all__ = ["Call", "Enrolled", "Lease", "Page", "PullRun", "Repository", "Verification"]


class Repository:
    """Deployments, nodes, intents and events in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str) -> Repository:
        """Open the database of a SQLAlchemy URL; it is created or migrated where needed.

        ``sqlite://`` is one in memory.  Raises :class:`~orchestrator.errors.UserError` with what
        to do when it cannot be opened.
        """
        return cls(open_database(url))

    @property
    def secrets(self) -> SecretRows:
        """The sealed secrets; :mod:`orchestrator.identity.secrets` opens them."""
        return SecretRows(self._database)

    def close(self) -> None:
        self._database.close()

    def ready(self) -> None:
        """Write a little; :class:`~orchestrator.errors.StoreUnavailable` when that fails."""
        with self._database.write() as connection:
            connection.execute(
                update(counters)
                .where(counters.c.name == "probe")
                .values(value=counters.c.value + 1)
            )

    # --- deployments ----------------------------------------------------------------------------

    def create(
        self,
        deployment: Deployment,
        *,
        idempotency_key: str | None = None,
        fingerprint: str = "",
        events: Sequence[Event] = (),
        allowances: Sequence[Allowance] = (),
    ) -> Deployment:
        """Store a new deployment, or raise :class:`~orchestrator.errors.LimitExceeded`.

        With the key and fingerprint of an earlier one of the same owner that one is returned and
        nothing is written; the key with another fingerprint is a
        :class:`~orchestrator.errors.Conflict`.
        """
        key = None if idempotency_key is None else (idempotency_key, fingerprint)
        try:
            return self._create(deployment, key, events, allowances)
        except IntegrityError:
            # Where there are many writers the same request can be stored between our look and our
            # write; then the second look finds it.
            if key is None:
                raise
            return self._create(deployment, key, events, allowances)

    def _create(
        self,
        deployment: Deployment,
        key: tuple[str, str] | None,
        events: Sequence[Event],
        allowances: Sequence[Allowance],
    ) -> Deployment:
        with self._database.write() as connection:
            if key is not None:
                first = deployments.of_key(connection, deployment.owner, *key)
                if first is not None:
                    return first
            deployments.check_allowances(connection, allowances, deployment)
            deployments.insert_new(connection, deployment)
            leases.make(connection, deployment.id)
            if key is not None:
                deployments.remember_key(connection, deployment, *key)
            journal.append(connection, events)
            return deployments.get(connection, deployment.id)

    def deployment(self, id: DeploymentId) -> Deployment:
        """The deployment, or :class:`~orchestrator.errors.NotFound`."""
        with self._database.read() as connection:
            return deployments.get(connection, id)

    def deployments(
        self,
        owner: Principal | None = None,
        *,
        sight: Sight | None = None,
        page: int = 0,
        size: int = 10,
        user_group: str | None = None,
        include_deleted: bool = False,
        status: DeploymentStatus | None = None,
        order: tuple[Literal["created_at", "updated_at", "status"], bool] = ("created_at", True),
    ) -> Page:
        """The deployments of ``owner`` (None: of everybody) among those that are seen by ``sight``
        (None: all), newest first.

        ``order`` is the column to sort by and whether it descends.
        """
        wanted = deployments.conditions(sight, owner, user_group, include_deleted, status)
        with self._database.read() as connection:
            return deployments.page(connection, wanted, page, size, order)

    def change(
        self,
        id: DeploymentId,
        *,
        events: Sequence[Event] = (),
        only_if: Collection[DeploymentStatus] = (),
        if_generation: int | None = None,
        allowances: Sequence[Allowance] = (),
        **fields: Any,
    ) -> Deployment:
        """Change fields of the deployment: what the API does, never the loop.

        ``only_if`` names the statuses in which that is allowed (empty: all); in another it is a
        :class:`~orchestrator.errors.Conflict`.  With ``if_generation`` it has to be of that one,
        else it is a :class:`~orchestrator.errors.ChangedMeanwhile`; with ``allowances`` it has to
        fit into them, else it is a :class:`~orchestrator.errors.LimitExceeded`.  It gets its next
        generation, and a pass that read an earlier one can no longer set its status.
        """
        with self._database.write() as connection:
            changed = deployments.change(connection, id, only_if, if_generation, fields, allowances)
            journal.append(connection, events)
            return changed

    def in_use(self, account: Account) -> Use:
        """What the account's deployments that are not DELETE_COMPLETE may grow to."""
        with self._database.read() as connection:
            return deployments.in_use(connection, account)

    def to_work_on(self) -> tuple[DeploymentId, ...]:
        """Every deployment that is not DELETE_COMPLETE, oldest first."""
        with self._database.read() as connection:
            return deployments.to_work_on(connection)

    # --- the loop -------------------------------------------------------------------------------

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

    # --- nodes that configure themselves --------------------------------------------------------

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

    # --- callbacks ------------------------------------------------------------------------------

    def calls_due(self, now: float, limit: int = 100) -> Sequence[Call]:
        """Calls to users whose time has come, at most one for each deployment."""
        with self._database.read() as connection:
            return outbox.due(connection, now, limit)

    def begin_call(self, call: Call, retry_at: float) -> bool:
        """Count an attempt, before it is made; False where another server has it.  It is due again
        at ``retry_at`` unless it is settled."""
        with self._database.write() as connection:
            return outbox.begin(connection, call, retry_at)

    def settle_call(self, call: Call, events: Sequence[Event] = ()) -> None:
        """The receiver has it, or it is given up; ``events`` tell of the latter."""
        with self._database.write() as connection:
            outbox.settle(connection, call)
            journal.append(connection, events)

    # --- events ---------------------------------------------------------------------------------

    def append(self, events: Sequence[Event]) -> None:
        """Append events; their ``sequence`` is given here."""
        with self._database.write() as connection:
            journal.append(connection, events)

    def events(
        self,
        *,
        deployment: DeploymentId | None = None,
        since: int = 0,
        limit: int = 500,
        node: NodeName | None = None,
        kinds: Sequence[EventKind] = (),
        failed: bool | None = None,
        sight: Sight | None = None,
        phase: str | None = None,
    ) -> tuple[Event, ...]:
        """The first ``limit`` events with a sequence above ``since``, oldest first."""
        wanted = journal.Filter(deployment, node, kinds, failed, sight, phase)
        with self._database.read() as connection:
            return journal.read(connection, wanted, since, limit)

    def last_events(
        self,
        limit: int,
        *,
        deployment: DeploymentId,
        node: NodeName | None = None,
        failed: bool | None = None,
        phase: str | None = None,
    ) -> tuple[Event, ...]:
        """The last ``limit`` events of the deployment, oldest first."""
        wanted = journal.Filter(deployment, node, (), failed, phase=phase)
        with self._database.read() as connection:
            return journal.read_last(connection, wanted, limit)

    def last_sequence(self) -> int:
        """The sequence of the newest event; 0 when there was none."""
        with self._database.read() as connection:
            return journal.last_sequence(connection)

    def verify_audits(self, known: str = "") -> Verification:
        """Whether every audit is there as it was written; ``known`` is a hash noted earlier."""
        with self._database.read() as connection:
            return audit.verify(connection, known)

    def prune(self, now: float, keep_seconds: float) -> None:
        """Forget what is older than ``keep_seconds`` and that nothing living needs.

        Gone are: deployments deleted before that; nodes GONE before that; intents decided before
        that, unless they created or configured a node that is there; events from before that,
        unless they are audits, of a node that is there, or changes of a deployment that is there.
        """
        before = now - keep_seconds
        with self._database.write() as connection:
            deployments.prune(connection, before)
            work.prune(connection, before)
            enrolments.prune(connection)
            secrets.prune(connection, before)
            journal.prune(connection, before)
