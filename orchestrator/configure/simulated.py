"""Configuration in a simulated world: takes its time, and fails when the world says so."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence

from orchestrator.configure import bundle
from orchestrator.configure.base import (
    Bundle,
    Confinement,
    HostToConfigure,
    PullOrder,
    SecretFile,
    TaskEvent,
    TaskStatus,
)
from orchestrator.errors import Retryable
from orchestrator.model import InstanceState, UserData
from orchestrator.world import SimulatedHost, World


class SimulatedConfigurator:
    """The :class:`~orchestrator.configure.base.Configurator` of a simulated world.

    ``sleep`` passes the world's time; a scripted clock advances there.
    """

    def __init__(self, world: World, sleep: Callable[[float], object] = time.sleep) -> None:
        self._world = world
        self._sleep = sleep

    def bootstrap(self, order: PullOrder | None = None) -> UserData:
        return bundle.user_data(order) if order else UserData()

    def bundle(self, host: HostToConfigure) -> Bundle:
        """The names of the roles: there is nothing that could run them."""
        archive = " ".join(call.role for call in host.roles).encode()
        return Bundle(archive, hashlib.sha256(archive).hexdigest())

    def roles_digest(self) -> str:
        return "simulated"

    def preparation(self, role: str) -> str | None:
        return "prepare"

    def key_file(self) -> str:
        return ""

    def confinement(self) -> Confinement | None:
        return None

    def put_secret(self, host: HostToConfigure, file: SecretFile) -> None:
        with self._world.lock:
            self._world.advance()
            there = self._at(host.address)
            gone = there is None or there.state is not InstanceState.RUNNING
            if there is None or gone or self._world.faults.hosts_unreachable:
                raise Retryable(f"Node {host.node} cannot be reached.")
            self._world.take_credential(there, file.content)

    def answers(self, address: str) -> bool:
        with self._world.lock:
            self._world.advance()
            host = self._at(address)
            return host is not None and host.state is InstanceState.RUNNING

    def apply(self, hosts: Sequence[HostToConfigure], run: str) -> Iterator[TaskEvent]:
        self._sleep(self._world.latencies.configure)
        for host in hosts:
            yield self._one(host)

    def _one(self, wanted: HostToConfigure) -> TaskEvent:
        with self._world.lock:
            self._world.advance()
            now = self._world.clock()
            host = self._at(wanted.address)
            role = wanted.roles[-1].role if wanted.roles else ""
            if host is None or host.state is not InstanceState.RUNNING:
                return TaskEvent(wanted.node, now, role, "connect", TaskStatus.UNREACHABLE)
            if self._world.faults.host_keys_differ:
                return TaskEvent(wanted.node, now, role, "connect", TaskStatus.DISTRUSTED)
            if self._world.happens(self._world.faults.configure_fails):
                return TaskEvent(
                    wanted.node, now, role, "configure", TaskStatus.FAILED, "as simulated"
                )
            host.configured_at = now
            host.idle_seconds = _idle_seconds(wanted)
            for token in _texts(wanted):
                self._world.take_credential(host, token)
            return TaskEvent(wanted.node, now, role, "configure", TaskStatus.FINISHED)

    def _at(self, address: str) -> SimulatedHost | None:
        return next((h for h in self._world.hosts.values() if h.address == address), None)


def _texts(host: HostToConfigure) -> list[str]:
    values = [value for call in host.roles for value in call.variables.values()]
    return [value for value in values if isinstance(value, str)]


def _idle_seconds(host: HostToConfigure) -> float | None:
    """The idle time that a role was given; None where no role joins a pool."""
    for call in host.roles:
        for name, value in call.variables.items():
            if name.endswith("_idle_seconds"):
                return float(value)
    return None
