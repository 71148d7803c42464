"""Containers of the test bed: made, found again and removed by label."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container

from orchestrator.providers.container_engine import connect, find_engine

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
    """A bridge of its own for one test bed; everything on it carries the label of ``name``.

    The machine itself reaches its addresses directly.  So do containers on other bridges, as long
    as one of the two networks is not isolated: this one never is.
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
        pools = [docker.types.IPAMPool(subnet=self._requested_subnet)]
        ipam = docker.types.IPAMConfig(pool_configs=pools) if self._requested_subnet else None
        self.client.networks.create(self.name, driver="bridge", labels=self.labels, ipam=ipam)

    @property
    def subnet(self) -> ipaddress.IPv4Network:
        """The addresses of the network, chosen by the engine where none were asked for."""
        attributes = self.client.networks.get(self.name).attrs
        return ipaddress.IPv4Network(attributes["IPAM"]["Config"][0]["Subnet"])

    def address(self, number: int) -> str:
        """The ``number``-th address of the subnet; below 100, containers have them by request."""
        return str(self.subnet[number])

    def run(self, request: ContainerRequest) -> Container:
        """Create and start a container; one of the same name is removed first."""
        self.remove_container(request.name)
        endpoint = self.client.api.create_endpoint_config(ipv4_address=request.address)
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
        answer = self.container(name).exec_run(list(command))
        output = answer.output if isinstance(answer.output, bytes) else b""
        return answer.exit_code or 0, output.decode(errors="replace")

    def remove_container(self, name: str) -> None:
        """Remove a container at once, whether it runs, has ended or does not exist."""
        with contextlib.suppress(docker.errors.NotFound):
            self.container(name).remove(force=True, v=True)

    def remove(self) -> None:
        """Remove every container with our label, and the network."""
        selection: dict[str, Any] = {"label": f"{LABEL}={self.name}"}
        for container in self.client.containers.list(all=True, filters=selection):
            with contextlib.suppress(docker.errors.NotFound):
                container.remove(force=True, v=True)
        for network in self.client.networks.list(names=[self.name]):
            network.remove()
