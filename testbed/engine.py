"""Containers of the test bed: made, found again and removed by label."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container

from orchestrator.providers import execution
from orchestrator.providers.container_engine import EngineKind, connect, find_engine

IMAGE = "localhost/vacuo/services:current"
LABEL = "vacuo.testbed"


@dataclass(frozen=True)
class ContainerRequest:
    """A container on the test bed's network; ``volumes`` maps paths here to (path there, mode)."""

    name: str
    command: Sequence[str]
    address: str | None = None
    volumes: Mapping[Path, tuple[str, str]] = field(default_factory=dict)
    user: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


class TestbedNetwork:
    """The bridge that a test bed is on; its containers carry the label of ``name``.

    A network that exists already, e.g. that of a site's hosts, is used as it is and never removed;
    that is the surest way for hosts to reach the pool.  A network made here is not isolated, so
    other bridges that are not isolated from everything reach it by routing.  The machine itself
    reaches its addresses directly.
    """

    __test__ = False  # pytest: not a test class

    def __init__(self, name: str, subnet: str | None = None, engine_directory: Path | None = None):
        self.name = name
        self._requested_subnet = subnet
        self._engine = find_engine(engine_directory)
        self._client: docker.DockerClient | None = None

    @property
    def client(self) -> docker.DockerClient:
        """A client of the engine, whose service is started when it does not answer."""
        if self._client is None:
            self._client = connect(self._engine)
        return self._client

    @property
    def labels(self) -> dict[str, str]:
        return {LABEL: self.name}

    def ensure(self) -> None:
        """Create the network where it does not exist."""
        if self.client.networks.list(names=[self.name]):
            return
        if self._engine.kind is EngineKind.PODMAN:
            self._create_with_podman()
            return
        pools = [docker.types.IPAMPool(subnet=self._requested_subnet)]
        ipam = docker.types.IPAMConfig(pool_configs=pools) if self._requested_subnet else None
        self.client.networks.create(self.name, driver="bridge", labels=self.labels, ipam=ipam)

    def _create_with_podman(self) -> None:
        # A network asked for in Docker's way is isolated from all others that were, so podman is
        # asked in its own.
        subnets = [{"subnet": self._requested_subnet}] if self._requested_subnet else []
        wish = {"name": self.name, "driver": "bridge", "labels": self.labels, "dns_enabled": True}
        answer = self.client.api.post(
            f"{self.client.api.base_url}/v4.0.0/libpod/networks/create",
            json=wish | ({"subnets": subnets} if subnets else {}),
            timeout=60,
        )
        answer.raise_for_status()

    @property
    def subnet(self) -> ipaddress.IPv4Network:
        """The addresses of the network, chosen by the engine where none were asked for."""
        attributes = self.client.networks.get(self.name).attrs
        return ipaddress.IPv4Network(attributes["IPAM"]["Config"][0]["Subnet"])

    def address(self, number: int) -> str:
        """The ``number``-th address from the end of the subnet: the engine gives out addresses
        from its beginning, so these stay free for who asks for them."""
        return str(self.subnet[-1 - number])

    def run(self, request: ContainerRequest) -> Container:
        """Create and start a container; one of the same name is removed first."""
        self.remove_container(request.name)
        endpoint = self.client.api.create_endpoint_config(ipv4_address=request.address)
        if not self.client.images.list(name=IMAGE):
            raise RuntimeError(f"There is no image {IMAGE}. Try: images/build services.")
        container = self.client.containers.create(
            IMAGE,
            list(request.command),
            name=f"{self.name}-{request.name}",
            hostname=request.name,
            labels=self.labels,
            network=self.name,
            networking_config={self.name: endpoint},
            user=request.user,
            environment=dict(request.environment),
            volumes=[f"{here}:{there}:{mode}" for here, (there, mode) in request.volumes.items()],
        )
        container.start()
        return container

    def container(self, name: str) -> Container:
        return self.client.containers.get(f"{self.name}-{name}")

    def execute(self, name: str, *command: str) -> tuple[int, str]:
        """Run a command as root in a container: its exit code and all of its output."""
        code, output = execution.execute(self.client, f"{self.name}-{name}", command)
        return code, output.decode(errors="replace")

    def remove_container(self, name: str) -> None:
        """Remove a container at once, whether it runs, has ended or does not exist."""
        with contextlib.suppress(docker.errors.NotFound):
            _remove(self.container(name))

    def remove(self) -> None:
        """Remove every container with our label, and the network if it was made here."""
        selection: dict[str, Any] = {"label": f"{LABEL}={self.name}"}
        for container in self.client.containers.list(all=True, filters=selection):
            with contextlib.suppress(docker.errors.NotFound):
                _remove(container)
        for network in self.client.networks.list(names=[self.name]):
            if (network.attrs.get("Labels") or {}).get(LABEL) == self.name:
                network.remove()


def _remove(container: Container) -> None:
    """One that ends just now podman will not kill, and so not remove, at the first asking."""
    for pause in (0.5, 1.0, 2.0, 4.0):
        try:
            container.remove(force=True, v=True)
            return
        except docker.errors.APIError as error:
            if not error.is_server_error():
                raise
            time.sleep(pause)
    container.remove(force=True, v=True)
