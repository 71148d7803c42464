"""One worker per deployment: a lease, and the token that fences what is written under it.

The token grows with every acquisition, so a worker that slept through its lease is told from the
one that came after it, whatever either believes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection, insert, select, update

from orchestrator.errors import LeaseLost, NotFound
from orchestrator.model import DeploymentId
from orchestrator.store.schema import leases


@dataclass(frozen=True)
class Lease:
    """The right of ``holder`` to work on ``deployment`` until ``expires_at``."""

    deployment: DeploymentId
    holder: str
    token: int
    expires_at: float


def make(connection: Connection, id: DeploymentId) -> None:
    """The row of a new deployment, which nobody holds: those who want it wait for each other on
    it."""
    connection.execute(insert(leases).values(deployment=id, holder="", token=0, expires_at=0.0))


def acquire(
    connection: Connection, id: DeploymentId, holder: str, expires_at: float, now: float
) -> Lease:
    row = connection.execute(
        select(leases).where(leases.c.deployment == id).with_for_update()
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no deployment {id}.", "vacuo list")
    if row.holder not in ("", holder) and row.expires_at > now:
        raise LeaseLost(
            f"{row.holder} works on deployment {id} for another {row.expires_at - now:.0f} s."
        )
    lease = Lease(id, holder, row.token + 1, expires_at)
    connection.execute(
        update(leases)
        .where(leases.c.deployment == id)
        .values(holder=holder, token=lease.token, expires_at=expires_at)
    )
    return lease


def check(connection: Connection, lease: Lease, now: float) -> None:
    """:class:`LeaseLost` unless ``lease`` is the last one and has not run out.  Until the end of
    the transaction nobody else can acquire it."""
    row = connection.execute(
        select(leases).where(leases.c.deployment == lease.deployment).with_for_update()
    ).one_or_none()
    if row is None or (row.holder, row.token) != (lease.holder, lease.token):
        raise LeaseLost(f"Another worker took over deployment {lease.deployment}.")
    if row.expires_at <= now:
        raise LeaseLost(
            f"The lease on deployment {lease.deployment} ran out {now - row.expires_at:.0f} s ago."
        )


def renew(connection: Connection, lease: Lease, expires_at: float) -> Lease:
    """The same lease for longer; one that ran out is good again if nobody took it meanwhile."""
    if not _set(connection, lease, lease.holder, expires_at):
        raise LeaseLost(f"Another worker took over deployment {lease.deployment}.")
    return replace(lease, expires_at=expires_at)


def release(connection: Connection, lease: Lease) -> None:
    """Let go of it; one that is already lost is let be."""
    _set(connection, lease, "", 0.0)


def void(connection: Connection) -> None:
    connection.execute(update(leases).where(leases.c.holder != "").values(holder="", expires_at=0))


def _set(connection: Connection, lease: Lease, holder: str, expires_at: float) -> bool:
    changed = connection.execute(
        update(leases)
        .where(leases.c.deployment == lease.deployment)
        .where(leases.c.holder == lease.holder, leases.c.token == lease.token)
        .values(holder=holder, expires_at=expires_at)
    )
    return changed.rowcount == 1
