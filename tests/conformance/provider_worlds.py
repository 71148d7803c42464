"""The places that the provider suite runs in.

A new provider joins by one more class here and its name in ``WORLDS``: the suite itself stays.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import docker
from docker.errors import APIError, NotFound
from lossy_socket import LossySocket

from orchestrator.errors import OutcomeUnknown
from orchestrator.model import DeploymentId, Instance, InstanceId, InstanceState, NodeName, UserData
from orchestrator.providers.base import InstanceRequest, Provider
from orchestrator.providers.container_engine import answers, find_engine
from orchestrator.providers.execution import execute
from orchestrator.providers.local import LocalProvider
from orchestrator.providers.podman_configuration import free_subnet, routed_networks
from orchestrator.providers.simulated import SimulatedProvider
from orchestrator.settings import Flavour, Site, SiteLimits
from orchestrator.world import Latencies, World
from testbed.waiting import eventually

# Generous: two cores may have much else to do.
PATIENCE_SECONDS = 180.0
SMALL = Flavour(name="small", cores=1, memory_mb=512, disk_gb=1, price_per_hour=None)
HUGE = Flavour(name="huge", cores=4096, memory_mb=1 << 30, disk_gb=1, price_per_hour=None)
LIMITS = SiteLimits(instances=3, cores=64, memory_mb=8192)


class ProviderWorld(Protocol):
    """A site of the flavours SMALL and HUGE under LIMITS, and what can be done to it."""

    provider: Provider

    def power_off(self, instance: Instance) -> None:
        """Have the host power itself off."""

    def switch_off(self) -> None:
        """Make the site unreachable."""

    def restart(self) -> None:
        """Stop whatever answers for the site, and start it again."""

    def lose_next_create_answer(self) -> None:
        """Let the next create be carried out without the caller hearing of it."""

    def close(self) -> None: ...


def request(name: str = "", owner: str = "alice", flavour: str = "small") -> InstanceRequest:
    name = name or f"host-{uuid.uuid4().hex[:8]}"
    return InstanceRequest(name, DeploymentId(owner), NodeName(name), flavour, "", UserData())


def listed(provider: Provider, name: str, *states: InstanceState) -> Instance:
    """The instance of that name, once it is in one of ``states``."""

    def look() -> Instance | None:
        found = [one for one in provider.list(None) if one.name == name and one.state in states]
        return found[0] if found else None

    return eventually(look, f"{name} being {' or '.join(states)}")


def created(provider: Provider, wanted: InstanceRequest) -> InstanceId:
    """The host, asked for until the provider knows that it is there, as the control loop does."""

    def ask() -> InstanceId | None:
        with contextlib.suppress(OutcomeUnknown):
            return provider.create(wanted)
        return None

    return eventually(ask, f"{wanted.name} being created")


class SimulatedWorld:
    def __init__(self, directory: Path) -> None:
        self.world = World(latencies=Latencies(boot=0.5, delete=0.5))
        site = Site(name="here", provider="simulated", flavours=(SMALL, HUGE), limits=LIMITS)
        self.provider: Provider = SimulatedProvider(site, self.world)

    def power_off(self, instance: Instance) -> None:
        self.world.hosts[instance.id].state = InstanceState.STOPPED

    def switch_off(self) -> None:
        self.world.faults.site_unreachable = True

    def restart(self) -> None:
        self.switch_off()
        self.world.faults.site_unreachable = False

    def lose_next_create_answer(self) -> None:
        self.world.faults.create_answer_lost = 1.0

    def close(self) -> None:
        pass


class LocalWorld:
    """The real engine of this machine, spoken to through a socket and a service of our own, so
    that neither fault nor restart is felt by anybody else."""

    def __init__(self, directory: Path, request_seconds: float = 60.0) -> None:
        self._engine = find_engine()
        self._service_socket = directory / "service.sock"
        self._service: subprocess.Popen[bytes] | None = None
        self._start()
        self.socket = LossySocket(directory / "podman.sock", self._service_socket)
        self.network = f"vacuo-test-{uuid.uuid4().hex[:6]}"
        self.site = Site(
            name="here",
            provider="local",
            endpoint=f"unix://{self.socket.path}",
            flavours=(SMALL, HUGE),
            limits=LIMITS,
            network=self.network,
            subnet=free_subnet(directory, routed_networks()),
            options={"request_seconds": request_seconds},
        )
        self.provider: Provider = LocalProvider(self.site, directory)

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        with contextlib.closing(docker.DockerClient(f"unix://{self._service_socket}")) as client:
            yield client

    def execute(self, instance: Instance, command: list[str]) -> str:
        """Run a command on the host; the command's output.  It must succeed."""
        with self.client() as client:
            code, output = execute(client, instance.id, command)
        assert code == 0, f"{command} ended with {code}: {output.decode()}"
        return str(output.decode())

    def power_off(self, instance: Instance) -> None:
        def asked() -> bool:
            with self.client() as client, contextlib.suppress(NotFound, APIError):
                return bool(client.containers.get(instance.id).exec_run("poweroff").exit_code == 0)
            return False

        eventually(asked, "the host taking the order to power off")

    def switch_off(self) -> None:
        self.socket.close()

    def restart(self) -> None:
        self._stop()
        self._start()

    def lose_next_create_answer(self) -> None:
        self.socket.swallow_answer_to(b"/containers/create")

    def close(self) -> None:
        """Remove every host of ours, through a path that no test has broken."""
        if not answers(f"unix://{self._service_socket}"):
            self._start()
        with self.client() as client:
            ours = {"network": self.network}
            for container in client.containers.list(all=True, filters=ours):
                with contextlib.suppress(NotFound):
                    with contextlib.suppress(APIError):
                        container.kill()
                    container.remove(force=True, v=True)
            for network in client.networks.list(names=[self.network]):
                network.remove()
        self.socket.close()
        self._stop()

    def _start(self) -> None:
        self._service = subprocess.Popen(
            ["podman", "system", "service", "--time=0", f"unix://{self._service_socket}"],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **self._engine.environment},
            stderr=subprocess.DEVNULL,
        )
        endpoint = f"unix://{self._service_socket}"
        eventually(lambda: answers(endpoint), "podman's service answering")

    def _stop(self) -> None:
        if self._service is not None:
            self._service.kill()
            self._service.wait()
            self._service_socket.unlink(missing_ok=True)


WORLDS: dict[str, Callable[[Path], ProviderWorld]] = {
    "simulated": SimulatedWorld,
    "local": LocalWorld,
}


def all_at_once(count: int, act: Callable[[], object]) -> list[object]:
    """What ``count`` threads got from calling ``act`` together."""
    answers_: list[object] = []
    threads = [threading.Thread(target=lambda: answers_.append(act())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    return answers_
