"""Nodes that somebody asked to leave: wishes beside the template's, kept until the node is gone.

They are rows of their own because the nodes' rows belong to whoever holds the lease.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import insert, select

from orchestrator.model import DeploymentId, Event, NodeName
from orchestrator.store import journal
from orchestrator.store.database import Database
from orchestrator.store.schema import drains


class DrainRows:
    """The table of those wishes.  Every method is one transaction, and may raise
    :class:`~orchestrator.errors.StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(
        self, id: DeploymentId, node: NodeName, actor: str, now: float, events: Sequence[Event]
    ) -> bool:
        """Store that ``actor`` wants the node to leave; False, and nothing, where somebody asked
        before."""
        asked = select(drains.c.node).where(drains.c.deployment == id, drains.c.node == node)
        with self._database.write() as connection:
            if connection.execute(asked).first():
                return False
            connection.execute(
                insert(drains).values(deployment=id, node=node, actor=actor, asked_at=now)
            )
            journal.append(connection, events)
            return True

    def asked(self, id: DeploymentId) -> Mapping[NodeName, str]:
        """The nodes that were asked to leave, and by whom."""
        query = select(drains.c.node, drains.c.actor).where(drains.c.deployment == id)
        with self._database.read() as connection:
            return {NodeName(row.node): row.actor for row in connection.execute(query)}
