"""One look at the world for one pass: every answer is fresh, stale or unknown.

All sites and pools are asked at once.  A port that fails yields its last answer as *stale* (for
showing) or *unknown*, with a Reason; neither ever leads to a creation or a deletion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any, TypeVar

from orchestrator.control import prepared
from orchestrator.control.joining import why_unjoinable
from orchestrator.control.lifecycle import LIVE
from orchestrator.control.ports import Ports
from orchestrator.control.wish import is_outdated
from orchestrator.errors import PortError
from orchestrator.model import (
    Demand,
    Deployment,
    DeploymentId,
    GroupName,
    Instance,
    Machine,
    Node,
    NodeName,
    NodeState,
    Observed,
    Offer,
    OutcomeKind,
    PoolName,
    PreparedImage,
    Quota,
    Rejection,
    RevokeCredentials,
    Seen,
    SiteName,
)
from orchestrator.providers.base import Provider
from orchestrator.reasons import Reason, reason
from orchestrator.store.repository import Repository

T = TypeVar("T")
AT_ONCE = 16
# With no living node there is nothing to follow; the listing then only serves to find orphans.
QUIET_LISTING_SECONDS = 5.0
# A site's images change when somebody builds one.
IMAGES_SECONDS = 10.0


class Observer:
    """Looks at the world through ``ports``; remembers the last good answers."""

    def __init__(
        self,
        ports: Ports,
        repository: Repository,
        holder: str,
        threads: Executor | None = None,
    ) -> None:
        self._ports = ports
        self._repository = repository
        self._holder = holder
        self._last: dict[tuple[Hashable, ...], Observed[Any]] = {}
        self._answered: dict[DeploymentId, set[NodeName]] = {}
        self._threads = threads or ThreadPoolExecutor(AT_ONCE, thread_name_prefix="observe")

    def forget(self, id: DeploymentId) -> None:
        """Drop what is remembered of a deployment that is no more."""
        self._answered.pop(id, None)
        for key in [key for key in self._last if id in key]:
            self._last.pop(key, None)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def observe(
        self,
        deployment: Deployment,
        nodes: Sequence[Node],
        now: float,
        everything: bool = False,
    ) -> Seen:
        """What can be seen now of ``deployment``; offers and quotas only where it may grow, unless
        ``everything`` is asked for.

        The store is read before the world: an outcome recorded later than the listing must not be
        judged by that listing.
        """
        runs = self._repository.runs(deployment.id, self._holder, now)
        creates = self._repository.creates(deployment.id, self._holder)
        deletes = self._repository.deletes(deployment.id, self._holder)
        renewals = self._repository.renewals(deployment.id, self._holder)
        asked_to_leave = self._repository.drains.asked(deployment.id)
        living = [node for node in nodes if node.state is not NodeState.GONE]
        pools = {g.pool for g in deployment.spec.groups if g.pool} | {
            n.pool for n in living if n.pool
        }
        listings = self._listings(deployment, living, now)
        machines = {p: self._machines(p, now) for p in pools if p in self._ports.pools}
        demand = self._demand(deployment, now)
        joins = self._joins(deployment, pools)
        answered = self._answered.setdefault(deployment.id, set())
        probes = self._probe_ssh(living, answered)
        instances = {site: future.result() for site, future in listings.items()}
        wishes = {group: future.result() for group, future in demand.items()}
        leaving = any(node.name in asked_to_leave for node in living)
        grows = everything or leaving or _may_grow(deployment, living, wishes)
        offers, quotas = self._room(deployment, now) if grows else ({}, {})
        return Seen(
            instances=instances,
            offers=offers,
            quotas=quotas,
            machines={pool: future.result() for pool, future in machines.items()},
            demand=wishes,
            reachable=_reachable(living, probes, answered) | self._enrolled(deployment.id, living),
            runs=runs,
            creates=creates,
            deletes=deletes,
            renewals=renewals,
            asked_to_leave=asked_to_leave,
            credential_seconds={p: self._ports.pools[p].credential_seconds() for p in machines},
            unjoinable={p: why for p, found in joins.items() if (why := found.result())},
            revoked=self._revoked(deployment),
        )

    # --- sites ---------------------------------------------------------------------------------

    def _listings(
        self, deployment: Deployment, living: Sequence[Node], now: float
    ) -> dict[SiteName, Future[Observed[tuple[Instance, ...]]]]:
        listings = {}
        for site, provider in self._ports.providers.items():
            key = ("list", site, deployment.id)
            keep = QUIET_LISTING_SECONDS if not living and not deployment.deleting else 0.0
            call = _tuple(partial(provider.list, deployment.id))
            listings[site] = self._submit(key, call, now, _unseen_site(site), keep)
        return listings

    def _room(
        self, deployment: Deployment, now: float
    ) -> tuple[dict[GroupName, tuple[Offer | Rejection, ...]], dict[SiteName, Observed[Quota]]]:
        """Offers and quotas: calls that are worth making only before something is created."""
        quotas = {
            site: self._submit(("quota", site), provider.quota, now, _unseen_site(site))
            for site, provider in self._ports.providers.items()
        }
        offers = {}
        roles = self._ports.configurator.roles_digest()
        for group in deployment.spec.groups:
            wanted = prepared.digest(group, roles)
            candidates: list[Offer | Rejection] = []
            for site, provider in self._ports.providers.items():
                call = _tuple(partial(provider.offers, group.requirements))
                key = ("offers", site, group.requirements)
                answer = self._look(key, call, now, _unseen_site(site))
                if answer.is_fresh:
                    images = self._prepared(site, provider, now)
                    candidates.extend(prepared.choose(answer.value, wanted, images))
                elif answer.reason:
                    candidates.append(Rejection(site, "any", answer.reason.sentence.rstrip(".")))
            offers[group.name] = tuple(candidates)
        return offers, {site: future.result() for site, future in quotas.items()}

    def _prepared(
        self, site: SiteName, provider: Provider, now: float
    ) -> tuple[PreparedImage, ...]:
        """Prepared images are a convenience: where they cannot be seen, bases will do."""
        call = _tuple(provider.prepared_images)
        answer = self._look(("images", site), call, now, _unseen_site(site), IMAGES_SECONDS)
        return answer.value if answer.is_fresh else ()

    def _probe_ssh(
        self, living: Iterable[Node], answered: Collection[NodeName]
    ) -> list[tuple[Node, Future[bool]]]:
        """Ask hosts that boot.  One that has answered is not asked again: an sshd takes those who
        knock and go away for attackers, and shuts them out for a while."""
        return [
            (node, self._threads.submit(self._ports.configurator.answers, node.address))
            for node in living
            if node.state is NodeState.BOOTING
            and node.address
            and node.name not in answered
            and node.site not in self._ports.pull
        ]

    def _enrolled(self, id: DeploymentId, living: Iterable[Node]) -> frozenset[NodeName]:
        """Hosts that configure themselves need no way in: they answer by asking."""
        if any(node.site in self._ports.pull for node in living):
            return self._repository.enrolled(id)
        return frozenset()

    # --- pools ---------------------------------------------------------------------------------

    def _machines(self, pool: PoolName, now: float) -> Future[Observed[tuple[Machine, ...]]]:
        call = _tuple(self._ports.pools[pool].machines)
        return self._submit(("machines", pool), call, now, _unseen_pool(pool))

    @cached_property
    def _owners_pools(self) -> frozenset[PoolName]:
        """The pools that are joined with a token of the deployment's owner."""
        return frozenset(name for name, pool in self._ports.pools.items() if pool.token_wanted())

    def _joins(
        self, deployment: Deployment, pools: Collection[PoolName]
    ) -> dict[PoolName, Future[Reason | None]]:
        if deployment.deleting:
            return {}
        return {
            pool: self._threads.submit(why_unjoinable, self._ports, deployment, pool)
            for pool in sorted(self._owners_pools.intersection(pools))
        }

    def _demand(
        self, deployment: Deployment, now: float
    ) -> dict[GroupName, Future[Observed[Demand]]]:
        demand = {}
        for group in deployment.spec.groups:
            port = self._ports.pools.get(group.pool) if group.pool else None
            if port and group.pool and group.vacuum and not deployment.deleting:
                key = ("demand", deployment.id, group.name)
                advertised = {"VacuoDeployment": str(deployment.id), **group.advertised}
                # A job counts that such a machine would take wherever it comes up.
                sites = [group.site] if group.site else list(self._ports.providers)
                call = partial(port.demand, group.requirements, advertised, group.start, sites)
                demand[group.name] = self._submit(key, call, now, _unseen_pool(group.pool))
        return demand

    def _revoked(self, deployment: Deployment) -> frozenset[PoolName]:
        if not deployment.deleting:
            return frozenset()
        return frozenset(
            intent.action.pool
            for intent in self._repository.intents(deployment.id)
            if isinstance(intent.action, RevokeCredentials)
            and intent.outcome is not None
            and intent.outcome.kind is OutcomeKind.DONE
        )

    # --- asking --------------------------------------------------------------------------------

    def _submit(
        self,
        key: tuple[Hashable, ...],
        call: Callable[[], T],
        now: float,
        unseen: Callable[[Exception], Reason],
        keep: float = 0.0,
    ) -> Future[Observed[T]]:
        return self._threads.submit(self._look, key, call, now, unseen, keep)

    def _look(
        self,
        key: tuple[Hashable, ...],
        call: Callable[[], T],
        now: float,
        unseen: Callable[[Exception], Reason],
        keep: float = 0.0,
    ) -> Observed[T]:
        last = self._last.get(key)
        if last and last.is_fresh and now - last.at < keep:
            return last
        try:
            observed = Observed.fresh(call(), now)
        except PortError as error:
            why = unseen(error)
            if last and last.is_known:
                return Observed.stale(last.value, last.at, why)
            return Observed.unknown(now, why)
        self._last[key] = observed
        return observed


def _tuple(call: Callable[[], Sequence[T]]) -> Callable[[], tuple[T, ...]]:
    """The call with its answer made immutable, as observations are."""
    return lambda: tuple(call())


def _unseen_site(site: SiteName) -> Callable[[Exception], Reason]:
    return lambda error: reason("site-unreachable", site=site, why=str(error))


def _unseen_pool(pool: PoolName) -> Callable[[Exception], Reason]:
    return lambda error: reason("pool-unreachable", pool=pool, why=str(error))


def _may_grow(
    deployment: Deployment,
    living: Sequence[Node],
    demand: Mapping[GroupName, Observed[Demand]],
) -> bool:
    """Whether the planner may want a node that is not there; live nodes are those it counts."""
    if deployment.deleting:
        return False
    if any(observed.is_fresh and observed.value.jobs for observed in demand.values()):
        return True
    live = Counter(node.group for node in living if node.state in LIVE)
    for group in deployment.spec.groups:
        mine = [node for node in living if node.group == group.name and node.state in LIVE]
        if any(is_outdated(n, group, ()) or n.made_for != group.requirements for n in mine):
            return True
        users = {g.name for g in deployment.spec.groups if group.name in g.uses}
        used = any(node.group in users for node in living)
        if live[group.name] < (group.maximum if used else group.minimum):
            return True
    return False


def _reachable(
    living: Sequence[Node],
    probes: Iterable[tuple[Node, Future[bool]]],
    answered: set[NodeName],
) -> frozenset[NodeName]:
    """The living nodes that have answered at some time; ``answered`` is brought up to date."""
    answered.update(node.name for node, answer in probes if answer.result())
    answered.intersection_update(node.name for node in living)
    return frozenset(answered)
