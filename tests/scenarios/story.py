"""A scripted story: one deployment in a simulated world, passed through by the real loop.

The clock is the story's own.  ``Crash`` stands for ``kill -9``: it is raised at a chosen call of a
port or the store and is caught by nothing but the story, which then starts a new server process on
the same database and the same world.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from orchestrator.batch.own_pools import OwnPools
from orchestrator.batch.simulated import SimulatedPool
from orchestrator.configure.simulated import SimulatedConfigurator
from orchestrator.control.configuration import Configuration
from orchestrator.control.execute import Executor as ActionExecutor
from orchestrator.control.housekeeping import Housekeeping
from orchestrator.control.loop import Loop
from orchestrator.control.observe import Observer
from orchestrator.control.ports import Ports, PullSite
from orchestrator.model import (
    Attribute,
    Deployment,
    DeploymentId,
    DeploymentSpec,
    DeploymentStatus,
    GroupName,
    Node,
    NodeGroup,
    NodeState,
    Patience,
    PoolName,
    Principal,
    Requirements,
    Service,
    SiteName,
    VacuumPolicy,
)
from orchestrator.providers.simulated import SimulatedProvider
from orchestrator.settings import Flavour, Pool, Site, SiteLimits
from orchestrator.store.repository import Repository
from orchestrator.world import Faults, Latencies, World

ID = DeploymentId("5e1f0000-0000-4000-8000-000000000000")
WORKER = GroupName("worker")
CACHE = GroupName("cache")
POOL = PoolName("pool")
SITE = SiteName("site")


class Crash(BaseException):
    """``kill -9``: not an Exception, so that no handler of ours survives it."""


class _AtOnce(Executor):
    """Runs what it is given where it stands: the story has one thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class _Crashing:
    """Counts the calls to what it wraps and crashes before or after the chosen one."""

    def __init__(self, inner: Any, story: Story) -> None:
        self._inner = inner
        self._story = story

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            self._story.maybe_crash()
            answer = attribute(*args, **kwargs)
            self._story.maybe_crash()
            return answer

        return call


def workers(maximum: int = 4, minimum: int = 0, **policy: int) -> NodeGroup:
    """A group that joins the pool, two cores a machine."""
    idle = Attribute("execute", ("idle_time",))
    return NodeGroup(
        name=WORKER,
        requirements=Requirements(cores=2, memory_mb=2048),
        services=(
            Service(
                "execute",
                "vacuo.nodes.HTCondor.Execute",
                "vacuo.site.htcondor_execute",
                {"htcondor_execute_idle_seconds": idle},
            ),
        ),
        vacuum=VacuumPolicy(minimum, maximum, **{"idle_seconds": 20, **policy}),
        pool=POOL,
    )


def cache(elastic: bool = True) -> NodeGroup:
    """A group that serves the workers."""
    return NodeGroup(
        name=CACHE,
        requirements=Requirements(cores=1, memory_mb=1024),
        services=(Service("squid", "vacuo.nodes.Squid", "vacuo.site.squid"),),
        vacuum=VacuumPolicy(0, 1) if elastic else None,
    )


class Story:
    """One deployment, its world, and a server that can be killed and started again."""

    pull: Mapping[SiteName, PullSite] = {}  # the sites whose hosts configure themselves
    own_pools: OwnPools | None = None  # the keys of pools that deployments make

    def __init__(
        self,
        directory: Path | None,
        *groups: NodeGroup,
        faults: Faults | None = None,
        limits: SiteLimits | None = None,
        seed: int = 0,
        patience: Patience | None = None,
        sites: tuple[SiteName, ...] = (SITE,),
    ) -> None:
        self._sites = sites
        self.now = 1_000_000.0
        # Without a directory it is all in memory, and a server cannot be started a second time.
        self.url = f"sqlite:///{directory / 'vacuo.db'}" if directory else "sqlite://"
        latencies = Latencies(boot=2, configure=0, join=3, negotiate=1, delete=0.5)
        self.world = World(lambda: self.now, seed=seed, latencies=latencies, faults=faults)
        self.patience = patience or Patience()
        self._limits = limits or SiteLimits()
        self._crash_at: int | None = None
        self.calls = 0
        self.peak = 0
        self._processes = 0
        self.repository = Repository.open(self.url)
        self.repository.create(_deployment(DeploymentSpec("a story", groups), self.now))
        self.start()

    # --- the server ----------------------------------------------------------------------------

    def start(self, crash_at: int | None = None) -> None:
        """A new server process; ``crash_at`` is the number of calls it survives."""
        self._crash_at, self.calls = crash_at, 0
        self._processes += 1
        if self.url != "sqlite://":
            self.repository.close()
            self.repository = Repository.open(self.url)
        self.repository.void_leases()
        store: Any = _Crashing(self.repository, self)
        providers: Any = {
            name: _Crashing(SimulatedProvider(self._site(name), self.world), self)
            for name in self._sites
        }
        pool = Pool(name=POOL, batch="simulated", collector="pool.example:9618")
        batch: Any = _Crashing(SimulatedPool(pool, self.world), self)
        configurator = SimulatedConfigurator(self.world, sleep=lambda _: None)
        ports = Ports(providers, {POOL: batch}, configurator, self.pull, own_pools=self.own_pools)
        holder = f"process-{self._processes}"
        at_once = _AtOnce()
        configuration = Configuration(ports, store, lambda _: None, self._clock, at_once)
        self.pulling = configuration.pulling
        executor = ActionExecutor(ports, store, configuration, self._clock, at_once)
        self.observer = Observer(ports, store, holder, at_once)
        self.loop = Loop(store, self.observer, executor, holder, self.patience, self._clock)
        self.housekeeping = Housekeeping(ports, store, self._clock)

    def _site(self, name: SiteName) -> Site:
        flavours = (
            Flavour(name="small", cores=1, memory_mb=1024, disk_gb=20, price_per_hour=None),
            Flavour(name="medium", cores=2, memory_mb=2048, disk_gb=20, price_per_hour=None),
        )
        return Site(name=name, provider="simulated", flavours=flavours, limits=self._limits)

    def _clock(self) -> float:
        return self.now

    def maybe_crash(self) -> None:
        self.calls += 1
        if self._crash_at is not None and self.calls > self._crash_at:
            raise Crash

    # --- time ----------------------------------------------------------------------------------

    def tick(self, seconds: float = 1.0) -> None:
        """Time passes, then the loop makes one pass."""
        self.now += seconds
        self.loop.run_once(ID)
        self.peak = max(self.peak, len(self.world.hosts))

    def until(self, condition: Callable[[], bool], most: int = 600) -> None:
        """Pass after pass until ``condition`` holds; fails the story if it never does."""
        for _ in range(most):
            if condition():
                return
            self.tick()
        raise AssertionError(f"it did not come to pass; nodes: {self.states()}")

    # --- what is so ----------------------------------------------------------------------------

    @property
    def deployment(self) -> Deployment:
        return self.repository.deployment(ID)

    def nodes(self, group: str | None = None) -> list[Node]:
        """The living nodes, of one group or of all."""
        return [n for n in self.repository.nodes(ID) if group in (None, n.group)]

    def all_nodes(self) -> list[Node]:
        return list(self.repository.nodes(ID, include_gone=True))

    def states(self) -> dict[str, str]:
        return {node.name: node.state.value for node in self.all_nodes()}

    def joined(self, group: str = WORKER) -> int:
        return sum(node.state is NodeState.JOINED for node in self.nodes(group))

    def all_done(self) -> bool:
        return all(job.finished_at is not None for job in self.world.jobs.values())

    def empty(self) -> bool:
        """No machine in the world, and none in the books."""
        return not self.world.hosts and not self.nodes()

    def codes(self) -> set[str]:
        return {why.code for why in self.deployment.reasons}

    def delete(self, forced: bool = False) -> None:
        self.repository.change(ID, status=DeploymentStatus.DELETE_IN_PROGRESS, forced=forced)

    def update(self, *groups: NodeGroup) -> None:
        spec = DeploymentSpec("a story", groups)
        self.repository.change(ID, spec=spec, status=DeploymentStatus.UPDATE_IN_PROGRESS)


def _deployment(spec: DeploymentSpec, now: float) -> Deployment:
    return Deployment(
        id=ID,
        owner=Principal("https://issuer.example", "alice"),
        template="",
        parameters={},
        spec=spec,
        status=DeploymentStatus.CREATE_IN_PROGRESS,
        created_at=now,
        updated_at=now,
    )
