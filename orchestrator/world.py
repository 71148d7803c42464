"""A simulated world: hosts that boot, a queue of jobs, a pool that matches them, and faults.

The simulated provider, pool and configurator are thin ports to one :class:`World`.  Time is
whatever ``clock`` says; nothing runs by itself: each look first lets the world catch up, in small
steps, so that a day passes in a moment under a scripted clock.  The same seed and the same calls
give the same history.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.model import DeploymentId, InstanceState, NodeName, PreparedImage, UserData

STEP_SECONDS = 0.5
TOKEN_PREFIX = "simulated until "  # noqa: S105 - what follows is when it ends


@dataclass
class Faults:
    """What goes wrong, as probabilities in 0..1 and switches; all off at first."""

    site_unreachable: bool = False
    pool_unreachable: bool = False
    create_refused: float = 0.0
    create_answer_lost: float = 0.0  # the host is made, the caller never hears of it
    hosts_unreachable: bool = False  # those that are configured already
    boot_fails: float = 0.0  # the host never answers
    configure_fails: float = 0.0
    host_keys_differ: bool = False  # another machine answers at the hosts' addresses
    delete_answer_lost: float = 0.0
    delete_refused: float = 0.0
    listing_lags_seconds: float = 0.0  # a new host is listed only after this


@dataclass
class Latencies:
    """How long things take, in seconds."""

    boot: float = 2.0
    configure: float = 5.0
    join: float = 4.0
    negotiate: float = 1.0
    delete: float = 0.5


@dataclass
class SimulatedHost:
    id: str
    name: str
    site: str
    owner: DeploymentId
    node: NodeName
    flavour: str
    cores: int
    memory_mb: int
    created_at: float
    address: str
    state: InstanceState = InstanceState.STARTING
    boots: bool = True
    configured_at: float | None = None
    in_pool_since: float | None = None
    idle_since: float | None = None
    idle_seconds: float | None = None  # None: it joins no pool
    draining: bool = False
    deleted_at: float | None = None
    console: list[str] = field(default_factory=list)
    user_data: UserData = field(default_factory=UserData, repr=False)
    credential_until: float | None = None  # None: it never ends


@dataclass
class SimulatedJob:
    id: str
    cores: int
    memory_mb: int
    seconds: float
    queued_at: float
    requires: dict[str, str | int | float | bool] = field(default_factory=dict)
    says: dict[str, str] = field(default_factory=dict)  # attributes of its own
    held: bool = False
    node: NodeName | None = None
    started_at: float | None = None
    finished_at: float | None = None
    tries: int = 0

    @property
    def idle(self) -> bool:
        return self.started_at is None and not self.held


class World:
    """Hosts and jobs, and how they change as time passes.  Safe to use from threads."""

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        *,
        seed: int = 0,
        latencies: Latencies | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.clock = clock
        self.latencies = latencies or Latencies()
        self.faults = faults or Faults()
        self.chance = random.Random(seed)  # noqa: S311 - a simulation, not a secret
        self.hosts: dict[str, SimulatedHost] = {}
        self.jobs: dict[str, SimulatedJob] = {}
        self.prepared: list[PreparedImage] = []
        self.revoked: set[DeploymentId] = set()
        self.lock = threading.RLock()
        self._time = clock()
        self._count = 0

    def happens(self, probability: float) -> bool:
        return probability > 0 and self.chance.random() < probability

    def number(self) -> int:
        self._count += 1
        return self._count

    def submit(
        self,
        count: int,
        *,
        cores: int = 1,
        memory_mb: int = 512,
        seconds: float = 60.0,
        requires: dict[str, str | int | float | bool] | None = None,
        says: dict[str, str] | None = None,
    ) -> list[SimulatedJob]:
        """Put ``count`` jobs into the queue."""
        with self.lock:
            jobs = []
            for _ in range(count):
                id = f"{self.number()}.0"
                job = SimulatedJob(id, cores, memory_mb, seconds, self.clock(), requires or {})
                job.says.update(says or {})
                self.jobs[id] = job
                jobs.append(job)
            return jobs

    def restart_pool(self) -> None:
        """The collector forgets its machines; who has a good credential comes back."""
        with self.lock:
            self.advance()
            for host in self.hosts.values():
                if host.in_pool_since is not None:
                    host.in_pool_since, host.configured_at = None, self.clock()

    def take_credential(self, host: SimulatedHost, token: str) -> None:
        """A host is given ``token`` by its pool."""
        if token.startswith(TOKEN_PREFIX):
            host.credential_until = float(token.strip().removeprefix(TOKEN_PREFIX))

    def advance(self) -> None:
        """Let everything happen that is due by now."""
        with self.lock:
            now = self.clock()
            while self._time + STEP_SECONDS <= now:
                self._time += STEP_SECONDS
                if self._quiet():
                    self._time = max(self._time, now - STEP_SECONDS)
                self._step(self._time)

    def _quiet(self) -> bool:
        return not self.hosts

    def _step(self, now: float) -> None:
        self._end_jobs(now)
        for host in list(self.hosts.values()):
            self._age(host, now)
        self._match(now)

    def _end_jobs(self, now: float) -> None:
        for job in self.jobs.values():
            if job.started_at is None or job.finished_at is not None:
                continue
            host = self._host_of(job.node)
            if host is None or host.state is not InstanceState.RUNNING:
                job.node, job.started_at = None, None  # its machine went: back into the queue
            elif now - job.started_at >= job.seconds:
                job.finished_at = now

    def _host_of(self, node: NodeName | None) -> SimulatedHost | None:
        return next((host for host in self.hosts.values() if host.node == node), None)

    def _age(self, host: SimulatedHost, now: float) -> None:
        if host.deleted_at is not None:
            if now - host.deleted_at >= self.latencies.delete:
                del self.hosts[host.id]
            return
        if host.state is InstanceState.STARTING:
            if host.boots and now - host.created_at >= self.latencies.boot:
                host.state = InstanceState.RUNNING
                host.console.append("Reached target multi-user.")
            return
        if host.state is not InstanceState.RUNNING or host.idle_seconds is None:
            return
        if host.in_pool_since is None:
            ready = host.configured_at
            if host.owner in self.revoked:
                return
            if host.credential_until is not None and host.credential_until <= now:
                return
            if ready is not None and now - ready >= self.latencies.join:
                host.in_pool_since = host.idle_since = now
            return
        if self.running_on(host):
            host.idle_since = None
            return
        host.idle_since = host.idle_since or now
        if host.draining or 0 < host.idle_seconds <= now - host.idle_since:
            host.state = InstanceState.STOPPED  # its startd left; the host powers off
            host.console.append("Powering off.")

    def _match(self, now: float) -> None:
        for job in self.jobs.values():
            if not job.idle or now - job.queued_at < self.latencies.negotiate:
                continue
            host = next((h for h in self.hosts.values() if self._accepts(h, job, now)), None)
            if host:
                job.node, job.started_at = host.node, now
                job.tries += 1
                host.idle_since = None

    def _accepts(self, host: SimulatedHost, job: SimulatedJob, now: float) -> bool:
        joined = host.in_pool_since
        if joined is None or now - joined < self.latencies.negotiate or host.draining:
            return False
        if host.state is not InstanceState.RUNNING or host.deleted_at is not None:
            return False
        cores, memory = self.free(host)
        return job.cores <= cores and job.memory_mb <= memory and not job.requires

    def running_on(self, host: SimulatedHost) -> list[SimulatedJob]:
        return [
            job
            for job in self.jobs.values()
            if job.node == host.node and job.started_at is not None and job.finished_at is None
        ]

    def free(self, host: SimulatedHost) -> tuple[int, int]:
        """(cores, MiB) that no job on the host uses."""
        jobs = self.running_on(host)
        used_cores, used_memory = sum(j.cores for j in jobs), sum(j.memory_mb for j in jobs)
        return host.cores - used_cores, host.memory_mb - used_memory
