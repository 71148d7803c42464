"""A pool in a simulated world: a queue of jobs and the machines that joined."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import classad2

from orchestrator.batch import ads
from orchestrator.batch.base import JoinCredential
from orchestrator.batch.owners import owners_token, token_wanted
from orchestrator.errors import Retryable, Terminal
from orchestrator.model import (
    Demand,
    DeploymentId,
    InstanceState,
    JobId,
    JobShape,
    Machine,
    NodeName,
    Requirements,
    TokenWanted,
)
from orchestrator.reasons import Reason, reason
from orchestrator.settings import Pool
from orchestrator.world import TOKEN_PREFIX, SimulatedHost, SimulatedJob, World


class SimulatedPool:
    """The :class:`~orchestrator.batch.base.BatchPool` of a simulated world."""

    def __init__(self, pool: Pool, world: World) -> None:
        self._pool = pool
        self._world = world

    def demand(
        self,
        need: Requirements,
        advertised: Mapping[str, str | int | float | bool],
        start: str = "",
        sites: Sequence[str] = (),
    ) -> Demand:
        machines = ads.wherever(advertised, sites)
        with self._world.lock:
            self._look()
            jobs = [
                job
                for job in self._world.jobs.values()
                if all(_would_run(job, need, said, start) for said in machines)
            ]
            counts = Counter((job.cores, job.memory_mb) for job in jobs)
            shapes = tuple(JobShape(*shape, count) for shape, count in sorted(counts.items()))
            oldest = min((job.queued_at for job in jobs), default=None)
            return Demand(shapes, 0.0 if oldest is None else self._world.clock() - oldest)

    def machines(self) -> Sequence[Machine]:
        with self._world.lock:
            self._look()
            return [self._machine(host) for host in self._world.hosts.values() if _joined(host)]

    def _machine(self, host: SimulatedHost) -> Machine:
        cores, memory = self._world.free(host)
        return Machine(
            name=f"slot1@{host.name}",
            node=host.node,
            deployment=host.owner,
            cores=host.cores,
            cores_free=cores,
            memory_mb=host.memory_mb,
            memory_mb_free=memory,
            jobs=len(self._world.running_on(host)),
            draining=host.draining,
            started_at=host.in_pool_since or 0.0,
        )

    def token_wanted(self) -> TokenWanted | None:
        return token_wanted(self._pool)

    def join_credential(
        self, deployment: DeploymentId, node: NodeName, token: str = ""
    ) -> JoinCredential:
        self._look()
        expires = self._world.clock() + self._pool.join_token_seconds
        if self.token_wanted():
            expires = owners_token(self._pool, token, self._world.clock()).expires_at
        made = f"{TOKEN_PREFIX}{expires}"
        return JoinCredential(made, f"{node}@simulated", expires, file="/etc/token")

    def credential_seconds(self) -> float:
        return float(self._pool.join_token_seconds)

    def join_attributes(self) -> Mapping[str, str]:
        return {
            "collector": self._pool.collector,
            "trust_domain": self._pool.trust_domain,
            "administrator": "vacuo@simulated",
        }

    def revoke(self, deployment: DeploymentId) -> None:
        with self._world.lock:
            self._look()
            self._world.revoked.add(deployment)

    def drain(self, deployment: DeploymentId, node: NodeName) -> None:
        with self._world.lock:
            self._look()
            for host in self._world.hosts.values():
                if host.node == node and host.owner == deployment:
                    host.draining = True

    def reschedule(self) -> None:
        self._look()

    def why_idle(self, job: JobId) -> Sequence[Reason]:
        with self._world.lock:
            self._look()
            known = self._world.jobs.get(job)
            if known is None or not known.idle:
                return ()
            oldest = round(self._world.clock() - known.queued_at)
            return (
                reason(
                    "jobs-wait",
                    jobs=1,
                    cores=known.cores,
                    pool=self._pool.name,
                    group="any",
                    oldest=oldest,
                ),
            )

    def _look(self) -> None:
        if self._world.faults.pool_unreachable:
            raise Retryable(f"Pool {self._pool.name} is switched off in this simulation.")
        self._world.advance()


def _joined(host: SimulatedHost) -> bool:
    return host.in_pool_since is not None and host.state is InstanceState.RUNNING


def _would_run(
    job: SimulatedJob,
    need: Requirements,
    advertised: Mapping[str, str | int | float | bool],
    start: str,
) -> bool:
    return (
        job.idle
        and _may_start(job, need, advertised, start)
        and job.cores <= need.cores
        and job.memory_mb <= need.memory_mb
        and all(advertised.get(name) == value for name, value in job.requires.items())
    )


def _may_start(
    job: SimulatedJob,
    need: Requirements,
    advertised: Mapping[str, str | int | float | bool],
    start: str,
) -> bool:
    whole = _NAMED.sub(lambda found: _OF_LISTS[found[0]], ads.start_of(start, advertised))
    machine = classad2.ClassAd(_with_lists(ads.template_ad(need, advertised)))
    asked = {"RequestCpus": job.cores, "RequestMemory": job.memory_mb, **job.requires, **job.says}
    try:
        condition = classad2.ExprTree(whole)
    except classad2.ClassAdException:
        raise Terminal(f"{start!r} is not a ClassAd expression.") from None
    return condition.eval(machine, classad2.ClassAd(_with_lists(asked))) is True


# HTCondor's functions of lists in a text are in its own library, which this process does not load;
# those of true lists are ClassAds' own.
_OF_LISTS = {"stringListMember": "identicalMember", "stringListIMember": "member"}
_NAMED = re.compile("|".join(rf"\b{name}\b" for name in _OF_LISTS))


def _with_lists(ad: Mapping[str, Any]) -> dict[str, Any]:
    lists = ("VacuoOwners", "DESIRED_Sites")
    return {name: re.split("[ ,]+", ad[name]) if name in lists else ad[name] for name in ad}
