"""What people wish for: deployments as the API makes and changes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

from sqlalchemy.exc import IntegrityError

from orchestrator.model import (
    Account,
    Allowance,
    Deployment,
    DeploymentId,
    DeploymentStatus,
    Event,
    Principal,
    Sight,
    Use,
)
from orchestrator.store import deployments, journal, leases
from orchestrator.store.deployments import Page
from orchestrator.store.parts.base import Part


class Wishes(Part):
    """Deployments."""

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
