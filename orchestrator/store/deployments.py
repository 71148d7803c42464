"""Deployments as rows, and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from orchestrator.errors import ChangedMeanwhile, Conflict, NotFound
from orchestrator.model import (
    Account,
    Allowance,
    Deployment,
    DeploymentId,
    DeploymentStatus,
    Principal,
    Sight,
    Use,
)
from orchestrator.reasons import Reason
from orchestrator.store import outbox
from orchestrator.store.schema import counters, deployments, idempotency_keys

_FIELDS = frozenset(field.name for field in fields(Deployment)) - {"owner"}
CHANGEABLE = _FIELDS - {"id", "created_at", "generation"}
_DELETED = DeploymentStatus.DELETE_COMPLETE.value


@dataclass(frozen=True)
class Page:
    """One page of a list, and how long the whole list is."""

    items: tuple[Deployment, ...]
    total: int


@dataclass(frozen=True)
class Verdict:
    """What a pass says of the deployment; ``outputs`` None leaves them as they are."""

    status: DeploymentStatus
    status_reason: Reason | None
    reasons: tuple[Reason, ...]
    outputs: Mapping[str, Any] | None = None


def insert_new(connection: Connection, deployment: Deployment) -> None:
    values = {name: getattr(deployment, name) for name in _FIELDS}
    connection.execute(
        insert(deployments).values(
            **values | {"status": deployment.status.value},
            owner_issuer=deployment.owner.issuer,
            owner_subject=deployment.owner.subject,
        )
    )


def of_key(
    connection: Connection, owner: Principal, key: str, fingerprint: str
) -> Deployment | None:
    """What ``owner`` made with this idempotency key; :class:`Conflict` if it asked for something
    else then."""
    row = connection.execute(
        select(idempotency_keys).where(
            idempotency_keys.c.owner_issuer == owner.issuer,
            idempotency_keys.c.owner_subject == owner.subject,
            idempotency_keys.c.key == key,
        )
    ).one_or_none()
    if row is None:
        return None
    if row.fingerprint != fingerprint:
        raise Conflict(
            "This Idempotency-Key was used for another request.",
            f"It made deployment {row.deployment}, from another template or other inputs.",
            "send a new key, or the same request as before",
        )
    return get(connection, DeploymentId(row.deployment))


def remember_key(
    connection: Connection, deployment: Deployment, key: str, fingerprint: str
) -> None:
    connection.execute(
        insert(idempotency_keys).values(
            owner_issuer=deployment.owner.issuer,
            owner_subject=deployment.owner.subject,
            key=key,
            fingerprint=fingerprint,
            deployment=deployment.id,
        )
    )


def get(connection: Connection, id: DeploymentId, *, for_update: bool = False) -> Deployment:
    query = select(deployments).where(deployments.c.id == id)
    row = connection.execute(query.with_for_update() if for_update else query).one_or_none()
    if row is None:
        raise NotFound(f"There is no deployment {id}.", "vacuo list")
    return _deployment(row)


def page(
    connection: Connection,
    conditions: Collection[ColumnElement[bool]],
    page: int,
    size: int,
    order: tuple[str, bool] = ("created_at", True),
) -> Page:
    """One page in the order of (column, whether it descends); younger first where that is equal."""
    column = deployments.c[order[0]]
    total = connection.execute(
        select(func.count()).select_from(deployments).where(*conditions)
    ).scalar_one()
    rows = connection.execute(
        select(deployments)
        .where(*conditions)
        .order_by(column.desc() if order[1] else column.asc(), deployments.c.number.desc())
        .offset(page * size)
        .limit(size)
    )
    return Page(tuple(_deployment(row) for row in rows), total)


def seen_by(sight: Sight) -> ColumnElement[bool]:
    """The rows that ``sight`` is of."""
    if sight.everything:
        return true()
    of_issuer = deployments.c.owner_issuer == sight.owner.issuer
    own = deployments.c.owner_subject == sight.owner.subject
    shared = deployments.c.user_group.in_(sorted(sight.groups))
    return and_(of_issuer, or_(own, shared))


def owned_by(owner: Principal) -> ColumnElement[bool]:
    return and_(
        deployments.c.owner_issuer == owner.issuer, deployments.c.owner_subject == owner.subject
    )


def conditions(
    sight: Sight | None,
    owner: Principal | None,
    user_group: str | None,
    include_deleted: bool,
    status: DeploymentStatus | None = None,
) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if sight is not None:
        wanted.append(seen_by(sight))
    if owner is not None:
        wanted.append(owned_by(owner))
    if user_group is not None:
        wanted.append(deployments.c.user_group == user_group)
    if not include_deleted:
        wanted.append(deployments.c.status != _DELETED)
    if status is not None:
        wanted.append(deployments.c.status == status.value)
    return wanted


def in_use(connection: Connection, account: Account, without: DeploymentId | None = None) -> Use:
    """What the deployments of ``account`` may grow to, but for ``without``.  One that is being
    deleted counts: its hosts are there."""
    wanted = [deployments.c.status != _DELETED, deployments.c.owner_issuer == account.issuer]
    if account.group is None:
        wanted.append(deployments.c.owner_subject == account.subject)
    else:
        # Not LIKE, which takes /CMS/ for /cms/ in SQLite.
        above = func.substr(deployments.c.user_group, 1, len(account.group) + 1)
        wanted.append(or_(deployments.c.user_group == account.group, above == f"{account.group}/"))
    if without is not None:
        wanted.append(deployments.c.id != without)
    specs = connection.execute(select(deployments.c.spec).where(*wanted)).scalars()
    return sum((Use.of(spec) for spec in specs), Use())


def check_allowances(
    connection: Connection,
    allowances: Sequence[Allowance],
    wished: Deployment,
    before: Deployment | None = None,
) -> None:
    """Raise :class:`~orchestrator.errors.LimitExceeded` if ``wished`` does not fit.

    Until the transaction ends no other one may count: two that each fit alone may not both pass.
    """
    if not allowances:
        return
    # SQLite has one writer in any case; elsewhere this row is the turnstile.
    turnstile = select(counters.c.value).where(counters.c.name == "probe")
    connection.execute(turnstile.with_for_update()).one()
    for allowance in allowances:
        counted = before is not None and _counts(allowance.account, before)
        was = Use.of(before.spec) if before is not None and counted else Use()
        others = in_use(connection, allowance.account, without=wished.id)
        allowance.check(others, was, Use.of(wished.spec))


def _counts(account: Account, deployment: Deployment) -> bool:
    if account.group is None:
        return deployment.owner == Principal(account.issuer, account.subject or "")
    return deployment.owner.issuer == account.issuer and (
        f"{deployment.user_group}/".startswith(f"{account.group}/")
    )


def to_work_on(connection: Connection) -> tuple[DeploymentId, ...]:
    query = select(deployments.c.id).where(deployments.c.status != _DELETED)
    ids = connection.execute(query.order_by(deployments.c.number)).scalars()
    return tuple(DeploymentId(id) for id in ids)


def change(
    connection: Connection,
    id: DeploymentId,
    only_if: Collection[DeploymentStatus],
    generation: int | None,
    changes: Mapping[str, Any],
    allowances: Sequence[Allowance] = (),
) -> Deployment:
    """Change the wish; it becomes another generation."""
    if unknown := changes.keys() - CHANGEABLE:
        raise TypeError(f"a deployment has no changeable {', '.join(sorted(unknown))}")
    before = get(connection, id, for_update=True)
    if only_if and before.status not in only_if:
        raise Conflict(
            f"Deployment {id} cannot do that while it is {before.status.value}.",
            attempt=f"vacuo status {id}",
        )
    if generation is not None and before.generation != generation:
        raise ChangedMeanwhile(
            f"Deployment {id} was changed by somebody else meanwhile.",
            f"look at it, then send it again with its new ETag: vacuo show {id}",
        )
    check_allowances(connection, allowances, replace(before, **changes), before)
    _write(connection, id, {**changes, "generation": before.generation + 1})
    after = get(connection, id)
    outbox.owe(connection, before, after)
    return after


def settle(
    connection: Connection, id: DeploymentId, generation: int, verdict: Verdict, now: float
) -> None:
    """Write what a pass found, where that is news.

    If the wish is no longer of the ``generation`` that the pass read, its status speaks of a wish
    that is no more, and the one that stands, a deletion perhaps, is kept.
    """
    before = get(connection, id, for_update=True)
    found: dict[str, Any] = {}
    if before.generation == generation:
        found = {"status": verdict.status, "status_reason": verdict.status_reason}
    if verdict.outputs is not None:
        found["outputs"] = verdict.outputs
    news = {name: value for name, value in found.items() if getattr(before, name) != value}
    if news:
        news["updated_at"] = now
    if verdict.reasons != before.reasons:
        news["reasons"] = verdict.reasons
    if news:
        _write(connection, id, news)
    if news.keys() & {"status", "status_reason"}:
        outbox.owe(connection, before, replace(before, **news))


def prune(connection: Connection, before: float) -> None:
    """Forget deployments that were deleted before ``before``, with all that is theirs."""
    connection.execute(
        delete(deployments).where(
            deployments.c.status == _DELETED, deployments.c.updated_at < before
        )
    )


def _write(connection: Connection, id: DeploymentId, values: Mapping[str, Any]) -> None:
    plain = {k: v.value if isinstance(v, DeploymentStatus) else v for k, v in values.items()}
    connection.execute(update(deployments).where(deployments.c.id == id).values(**plain))


def _deployment(row: Row[Any]) -> Deployment:
    values = {name: row._mapping[name] for name in _FIELDS}
    values["status"] = DeploymentStatus(row.status)
    return Deployment(owner=Principal(row.owner_issuer, row.owner_subject), **values)
