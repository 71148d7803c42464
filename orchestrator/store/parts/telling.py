"""What happened, and who is to be told: events, audits, callbacks."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.audits import Link, Verification
from orchestrator.model import DeploymentId, Event, EventKind, NodeName, Sight
from orchestrator.store import audit, journal, outbox
from orchestrator.store.outbox import Call
from orchestrator.store.parts.base import Part


class Telling(Part):
    """Events, audits among them, and calls to users."""

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

    def audits(self, since: int, limit: int) -> tuple[Sequence[Link], int]:
        """The first ``limit`` links of the chain of audits above ``since``, and how many audits
        there ever were."""
        with self._database.read() as connection:
            return list(audit.links(connection, since, limit)), audit.written(connection)
