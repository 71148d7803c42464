"""From a host that has booted to a host that serves: over ssh, by itself, from a prepared image.

The play is that of ``vacuo.site.worker`` and of the shipped sites: container runtime, CVMFS, node
validation and startd, on one host, and on eight at once.  The pool is an address where nobody
answers: joining it is no part of this.  The CVMFS client is not required, as in htcondor-site:
where its packages cannot be had, its part is one look.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import docker

from bench.figures import Figure
from bench.world import say, until
from orchestrator.configure.ansible import AnsibleConfigurator
from orchestrator.configure.base import HostToConfigure, RoleCall, TaskEvent, TaskStatus
from orchestrator.control.image_build import Bakery
from orchestrator.errors import Retryable
from orchestrator.model import (
    EventKind,
    GroupName,
    NodeGroup,
    NodeName,
    Offer,
    Requirements,
    RunState,
    Service,
    SiteName,
)
from orchestrator.providers.base import InstanceRequest
from orchestrator.providers.container_engine import connect, find_engine
from orchestrator.providers.local import LocalProvider
from orchestrator.providers.podman_configuration import free_subnet, routed_networks
from orchestrator.settings import Flavour, Settings, Site, SiteLimits
from testbed.configured import names_of, on_the_host
from testbed.self_configuration import ID, SelfConfiguration

DIRECTORY = Path("build/bench-configure")
BARE, HOST, PULL = (
    f"localhost/vacuo/{name}:current" for name in ("host-bare", "host", "host-pull")
)
CACHED = "localhost/vacuo-bench/cached:latest"
MANY = 8
MITOGEN_BARE = "ssh with Mitogen, bare host, packages cached"
GOAL_PREPARED_SECONDS, GOAL_PREPARED_TASKS, GOAL_MITOGEN_SECONDS = 5.0, 10, 15.0
PACKAGES = "podman crun runc nftables netavark aardvark-dns conmon"


@dataclass(frozen=True)
class Measured:
    """The slowest host's seconds; the tasks that did something on one, and with those that only
    check values: Ansible's own of the arguments, and our assertions."""

    seconds: float
    tasks: int
    with_checks: int


def worker(node: str) -> tuple[RoleCall, ...]:
    """A worker of the shipped template, its pool nowhere."""
    join = {
        "htcondor_execute_collector": "192.0.2.1:9618",
        "htcondor_execute_trust_domain": "nowhere",
        "htcondor_execute_node": node,
        "htcondor_execute_token": "not a token",
    }
    return (
        RoleCall("vacuo.site.container_runtime", "runtime", {}),
        RoleCall("vacuo.site.cvmfs", "cvmfs", {"cvmfs_required": False}),
        RoleCall("vacuo.site.node_validation", "validation", {}),
        RoleCall("vacuo.site.htcondor_execute", "execute", join),
    )


# What only a host or a deployment knows is in no image.
_LATE = {name for call in worker("x") if call.service == "execute" for name in call.variables}
GROUP = NodeGroup(
    GroupName("worker"),
    Requirements(),
    tuple(
        Service(c.service, "", c.role, {k: v for k, v in c.variables.items() if k not in _LATE})
        for c in worker("x")
    ),
)


class Bench:
    """A local site on a network of its own, and both ways to configure its hosts."""

    def __init__(self, directory: Path) -> None:
        self.site = Site(
            name="bench",
            provider="local",
            flavours=(Flavour(name="any", cores=1, memory_mb=2048, disk_gb=1),),
            limits=SiteLimits(instances=20, cores=64, memory_mb=200_000),
            network="vacuo-bench-configure",
            subnet=free_subnet(directory, routed_networks()),
        )
        self.provider = LocalProvider(self.site, directory)
        settings = Settings(data_directory=directory / "data")
        self.mitogen = AnsibleConfigurator(settings)
        self.plain = AnsibleConfigurator(settings, mitogen=False)
        self.nodes = SelfConfiguration(directory, self.site, self.provider, self.plain, worker)
        self._number = 0
        self._made: set[str] = set()

    def close(self) -> None:
        self.nodes.close()
        self.clear()
        client = connect(find_engine())
        for made in client.networks.list(names=[self.site.network]):
            made.remove()
        for image in self._made:
            with contextlib.suppress(docker.errors.APIError):
                client.images.remove(image, force=True)

    def clear(self) -> None:
        for instance in self.provider.list(None):
            self.provider.delete(instance.id)

    def names(self, count: int) -> list[str]:
        self._number += count
        return [f"bench-{self._number - n}" for n in range(count)]

    # --- over ssh -------------------------------------------------------------------------------

    def push(self, configurator: AnsibleConfigurator, image: str, count: int = 1) -> Measured:
        hosts = self._booted(configurator, image, count)
        began = time.monotonic()
        events = list(configurator.apply(hosts, hosts[0].node))
        seconds = time.monotonic() - began
        _all_finished(events, count)
        self.clear()
        return _measured(seconds, names_of(e for e in events if e.node == hosts[0].node))

    def _booted(
        self, configurator: AnsibleConfigurator, image: str, count: int
    ) -> list[HostToConfigure]:
        names = self.names(count)
        for name in names:
            self._create(name, image, configurator.bootstrap())
        found: list[HostToConfigure] = []

        def all_answer() -> bool:
            found[:] = [host for name in names if (host := self._reached(configurator, name))]
            return len(found) == count

        until(all_answer, 180)
        time.sleep(2)  # the rest of the boot is no part of this
        return [replace(host, roles=worker(host.node)) for host in found]

    def _reached(self, configurator: AnsibleConfigurator, name: str) -> HostToConfigure | None:
        (one,) = [one for one in self.provider.list(ID) if one.name == name]
        if one.address and configurator.answers(one.address):
            with contextlib.suppress(Retryable):
                return HostToConfigure(
                    NodeName(name), one.address, tuple(self.provider.host_keys(one.id)), ()
                )
        return None

    def _create(self, name: str, image: str, user_data: Any) -> None:
        request = InstanceRequest(name, ID, NodeName(name), "any", image, user_data)
        self.provider.create(request)

    # --- by themselves --------------------------------------------------------------------------

    def pull(self, image: str, count: int = 1) -> Measured:
        nodes = [self.nodes.node(name) for name in self.names(count)]
        for node in nodes:
            self._create(str(node.name), image, self.nodes.pulling.order(node))
        names = {node.name for node in nodes}
        until(lambda: names <= self.nodes.repository.enrolled(ID), 180)
        time.sleep(2)
        began = time.monotonic()
        self.nodes.run(nodes)
        until(lambda: all(self.nodes.ended(str(node.name)) for node in nodes), 600)
        seconds = time.monotonic() - began
        for node in nodes:
            run = self.nodes.ended(str(node.name))
            if run is None or run.state is not RunState.SUCCEEDED:
                raise RuntimeError(f"{node.name} failed: {run}")
        events = self.nodes.repository.events(
            deployment=ID, node=nodes[0].name, kinds=[EventKind.TASK], limit=1000
        )
        self.clear()
        done = [e.message for e in events if e.message.startswith(("ok ", "changed "))]
        return _measured(seconds, [m.split(": ", 1)[1] for m in done if ": " in m])

    # --- images ---------------------------------------------------------------------------------

    def prepared(self, base: str) -> str:
        """A prepared image for workers on ``base``, made as ``vacuo image build`` does."""
        offer = Offer(SiteName(self.site.name), "any", 1, 2048, 1, base)
        built = Bakery(self.mitogen, 300, lambda _: None).bake(
            self.site.name, self.provider, GROUP, offer, force=False
        )
        self._made.add(built.image.image)
        return built.image.image

    def cached(self) -> str:
        """The bare image with the packages of the container runtime in apt's cache."""
        client = connect(find_engine())
        made = client.containers.create(BARE, ["sh", "-c", _FETCH], network_mode="host")
        try:
            made.start()
            if made.wait()["StatusCode"] != 0:
                raise RuntimeError(made.logs().decode()[-500:])
            repository, _, tag = CACHED.rpartition(":")
            self._made.add(CACHED)
            made.commit(repository, tag, changes=['CMD ["/usr/local/sbin/vacuo-host-init"]'])
        finally:
            made.remove(force=True, v=True)
        return CACHED


_FETCH = (
    "rm -f /etc/apt/apt.conf.d/docker-clean && apt-get update -q && "
    f"apt-get install -q -y --no-install-recommends --download-only {PACKAGES}"
)


def _measured(seconds: float, tasks: Sequence[str]) -> Measured:
    return Measured(seconds, len(on_the_host(tasks)), len(tasks))


def _all_finished(events: Sequence[TaskEvent], count: int) -> None:
    finished = [event for event in events if event.status is TaskStatus.FINISHED]
    if len(finished) != count:
        bad = [e for e in events if e.status.failed]
        raise RuntimeError(f"{count - len(finished)} hosts failed: {bad}")


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir(parents=True)
    made = Bench(DIRECTORY.absolute())
    try:
        yield made
    finally:
        made.close()


def run() -> Sequence[Figure]:
    with bench() as here:
        cached, on_host = here.cached(), here.prepared(HOST)
        on_pull = here.prepared(PULL)
        rows: list[tuple[str, Callable[[], Measured]]] = [
            ("ssh, bare host, packages cached", lambda: here.push(here.plain, cached)),
            (MITOGEN_BARE, lambda: here.push(here.mitogen, cached)),
            ("ssh, host with podman", lambda: here.push(here.plain, HOST)),
            ("ssh with Mitogen, host with podman", lambda: here.push(here.mitogen, HOST)),
            ("by itself, host with podman", lambda: here.pull(PULL)),
            ("ssh with Mitogen, prepared", lambda: here.push(here.mitogen, on_host)),
            ("by itself, prepared", lambda: here.pull(on_pull)),
            (f"ssh with Mitogen, {MANY} hosts", lambda: here.push(here.mitogen, on_host, MANY)),
            (f"by themselves, {MANY} hosts", lambda: here.pull(on_pull, MANY)),
        ]
        found = {what: _measure(what, row) for what, row in rows}
    return [_figure(what, one, found) for what, one in found.items()]


def _measure(what: str, row: Callable[[], Measured]) -> Measured:
    measured = row()
    load = os.getloadavg()[0]
    say(f"{what}: {measured.tasks} tasks, {measured.seconds:.1f} s (load {load:.0f})")
    return measured


def _figure(what: str, one: Measured, found: dict[str, Measured]) -> Figure:
    slowest = next(iter(found.values()))
    goal, holds = "", None
    if what == MITOGEN_BARE:
        goal, holds = f"at most {GOAL_MITOGEN_SECONDS:g} s", one.seconds <= GOAL_MITOGEN_SECONDS
    elif what.endswith("prepared"):
        goal = f"at most {GOAL_PREPARED_SECONDS:g} s and {GOAL_PREPARED_TASKS} tasks"
        holds = one.seconds <= GOAL_PREPARED_SECONDS and one.tasks <= GOAL_PREPARED_TASKS
    return Figure(
        f"{what} ({one.tasks} tasks, {one.with_checks} with checks of values)",
        one.seconds,
        "s",
        "plain ssh, bare host",
        slowest.seconds,
        goal,
        holds,
    )
