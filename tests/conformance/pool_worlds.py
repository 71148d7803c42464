"""The pools that the pool suite runs in.

A new kind of pool joins by one more class here and its name in ``WORLDS``: the suite itself stays.
"""

from __future__ import annotations

import base64
import contextlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from orchestrator.batch.base import BatchPool, JoinCredential
from orchestrator.batch.htcondor import HTCondorPool
from orchestrator.batch.simulated import SimulatedPool
from orchestrator.errors import PortError, Retryable
from orchestrator.model import (
    Demand,
    DeploymentId,
    InstanceState,
    JobId,
    Machine,
    NodeName,
    Requirements,
)
from orchestrator.settings import Pool
from orchestrator.world import Latencies, SimulatedHost, SimulatedJob, World
from testbed.jobs import JobRequest, Submitter
from testbed.pool import CondorPool
from testbed.startd import Startd, StartdRequest
from testbed.waiting import eventually as eventually

Scalar = str | int | float | bool
LONG = 600.0  # seconds: a job that a test never waits for
STATES = {1: "idle", 2: "running", 4: "done", 5: "held"}


class PoolWorld(Protocol):
    """A pool, a user who submits to it, and machines that join it.

    Everything is of one ``deployment``; ``advertised`` is what its machines say of themselves.
    """

    pool: BatchPool
    deployment: DeploymentId
    advertised: Mapping[str, Scalar]

    def submit(
        self,
        count: int = 1,
        *,
        cores: int = 1,
        memory_mb: int = 64,
        seconds: float = LONG,
        requires: Mapping[str, str] | None = None,
        says: Mapping[str, str] | None = None,
    ) -> str:
        """Submit jobs of the user alice@vacuo.test that are alike; they are in the queue when this
        returns.  ``says`` are attributes of theirs."""

    def states(self, jobs: str) -> Sequence[str]:
        """``idle``, ``running``, ``held`` or ``done``, for each job."""

    def job_id(self, jobs: str) -> JobId:
        """The first of the jobs, as a person names it."""

    def hold(self, jobs: str) -> None: ...

    def start_machine(
        self,
        node: NodeName,
        *,
        cores: int = 2,
        memory_mb: int = 1024,
        credential: JoinCredential | None = None,
    ) -> None:
        """Start a machine with a credential, by default one of its own."""

    def switch_off(self) -> None:
        """Make the pool unreachable."""

    def switch_on(self) -> None:
        """Make it reachable again; its queue may be lost."""

    def close(self) -> None: ...


def demand(
    world: PoolWorld,
    cores: int = 4,
    memory_mb: int = 2048,
    start: str = "",
    sites: Sequence[str] = (),
    **more: Scalar,
) -> Demand:
    """The demand for machines like the world's own."""
    need = Requirements(cores=cores, memory_mb=memory_mb, disk_gb=10)
    return world.pool.demand(need, {**world.advertised, **more}, start, sites)


def is_unknown(world: PoolWorld) -> bool:
    """Whether nobody knows the demand."""
    try:
        demand(world)
    except Retryable:
        return True
    return False


def machine(world: PoolWorld, node: NodeName) -> Machine | None:
    # Other tests have nodes of the same name, and what is left of one stays in the collector.
    ours = [m for m in world.pool.machines() if m.deployment.startswith(world.deployment)]
    found = [one for one in ours if one.node == node]
    assert len(found) <= 1, "a node is one machine"
    return found[0] if found else None


def joined(world: PoolWorld, node: NodeName) -> Machine:
    return eventually(lambda: machine(world, node), f"{node} joining")


class SimulatedPoolWorld:
    def __init__(self, directory: Path, real: Callable[[], CondorPool]) -> None:
        latencies = Latencies(boot=0.1, configure=0.1, join=0.5, negotiate=0.5, delete=0.1)
        self.world = World(latencies=latencies)
        self.pool: BatchPool = SimulatedPool(Pool(name="here", batch="simulated"), self.world)
        self.deployment = DeploymentId(uuid.uuid4().hex)
        self.advertised: Mapping[str, Scalar] = {}
        self._jobs: dict[str, list[SimulatedJob]] = {}

    def submit(
        self,
        count: int = 1,
        *,
        cores: int = 1,
        memory_mb: int = 64,
        seconds: float = LONG,
        requires: Mapping[str, str] | None = None,
        says: Mapping[str, str] | None = None,
    ) -> str:
        jobs = self.world.submit(
            count,
            cores=cores,
            memory_mb=memory_mb,
            seconds=seconds,
            requires=dict(requires) if requires else None,
            says={"Owner": "alice", "User": "alice@vacuo.test", **(says or {})},
        )
        self._jobs[jobs[0].id] = jobs
        return jobs[0].id

    def states(self, jobs: str) -> Sequence[str]:
        self.world.advance()
        return [
            "done"
            if job.finished_at is not None
            else "held"
            if job.held
            else "idle"
            if job.idle
            else "running"
            for job in self._jobs[jobs]
        ]

    def job_id(self, jobs: str) -> JobId:
        return JobId(jobs)

    def hold(self, jobs: str) -> None:
        for job in self._jobs[jobs]:
            job.held = True

    def start_machine(
        self,
        node: NodeName,
        *,
        cores: int = 2,
        memory_mb: int = 1024,
        credential: JoinCredential | None = None,
    ) -> None:
        credential or self.pool.join_credential(self.deployment, node)
        now = self.world.clock()
        host = SimulatedHost(
            id=node,
            name=node,
            site="here",
            owner=self.deployment,
            node=node,
            flavour="any",
            cores=cores,
            memory_mb=memory_mb,
            created_at=now,
            address="198.51.100.1",
            state=InstanceState.RUNNING,
            configured_at=now,
            idle_seconds=0.0,
        )
        self.world.hosts[host.id] = host

    def switch_off(self) -> None:
        self.world.faults.pool_unreachable = True

    def switch_on(self) -> None:
        self.world.faults.pool_unreachable = False

    def close(self) -> None:
        pass


class HTCondorWorld:
    """The session's pool, with a deployment of our own: its jobs and machines meet no others."""

    def __init__(self, directory: Path, real: Callable[[], CondorPool]) -> None:
        self.condor = real()
        self.directory = directory
        self.pool: BatchPool = HTCondorPool(self.condor.settings(), directory / "data")
        self.deployment = DeploymentId(f"d-{uuid.uuid4().hex[:12]}")
        self.advertised: Mapping[str, Scalar] = {"VacuoDeployment": self.deployment}
        self.user = Submitter(self.condor, directory / "user")
        self.startds: dict[str, Startd] = {}

    def submit(
        self,
        count: int = 1,
        *,
        cores: int = 1,
        memory_mb: int = 64,
        seconds: float = LONG,
        requires: Mapping[str, str] | None = None,
        says: Mapping[str, str] | None = None,
    ) -> str:
        wanted = {"VacuoDeployment": self.deployment, **(requires or {})}
        cluster = self.user.submit(
            JobRequest(
                "sleep $1",
                count,
                arguments=f"{seconds:.0f}",
                cores=cores,
                memory_mb=memory_mb,
                requirements=" && ".join(f'TARGET.{k} == "{v}"' for k, v in wanted.items()),
                more={f"MY.{name}": f'"{value}"' for name, value in (says or {}).items()},
            )
        )
        self.user.wait_until_idle(cluster)
        return str(cluster)

    def states(self, jobs: str) -> Sequence[str]:
        return [STATES[job.status] for job in self.user.jobs(int(jobs))]

    def job_id(self, jobs: str) -> JobId:
        return JobId(f"{jobs}.0")

    def hold(self, jobs: str) -> None:
        self.user.hold(int(jobs))

    def start_machine(
        self,
        node: NodeName,
        *,
        cores: int = 2,
        memory_mb: int = 1024,
        credential: JoinCredential | None = None,
        deployment: str = "",
        configuration: str = "",
    ) -> None:
        credential = credential or self.pool.join_credential(self.deployment, node)
        known = self.pool.join_attributes()
        request = StartdRequest(
            node=node,
            deployment=deployment or self.deployment,
            collector=known["collector"],
            trust_domain=known["trust_domain"],
            token=credential.token,
            cores=cores,
            memory_mb=memory_mb,
            drain_key=base64.b64decode(credential.drain_key),
            administrator=known["administrator"],
            extra_configuration=configuration,
        )
        startd = Startd(self.directory / "startds", self.condor.network, request)
        self.startds[node] = startd.start()

    def switch_off(self) -> None:
        self.condor.pause()

    def switch_on(self) -> None:
        self.condor.resume()

    def close(self) -> None:
        with contextlib.suppress(PortError):  # it may have been switched off a moment ago
            self.user.remove()
        for startd in self.startds.values():
            startd.stop()
        self.user.close()
        assert isinstance(self.pool, HTCondorPool)
        self.pool.close()


WORLDS: dict[str, Callable[[Path, Callable[[], CondorPool]], PoolWorld]] = {
    "simulated": SimulatedPoolWorld,
    "htcondor": HTCondorWorld,
}
