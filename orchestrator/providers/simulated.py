"""A site in a simulated world: latencies, quotas, failures and lies, without a machine."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.errors import OutcomeUnknown, QuotaExceeded, Retryable, Terminal
from orchestrator.model import (
    DeploymentId,
    Instance,
    InstanceId,
    InstanceState,
    Offer,
    PreparedImage,
    Quota,
    Rejection,
    Requirements,
    SiteName,
)
from orchestrator.providers.base import InstanceRequest
from orchestrator.providers.fit import lacks, unmapped
from orchestrator.settings import Flavour, Site
from orchestrator.world import SimulatedHost, World


class SimulatedProvider:
    """The :class:`~orchestrator.providers.base.Provider` of a simulated site."""

    def __init__(self, site: Site, world: World) -> None:
        self._site = site
        self._world = world

    def offers(self, need: Requirements) -> Sequence[Offer | Rejection]:
        return [self._offer(flavour, need) for flavour in self._site.flavours]

    def _offer(self, flavour: Flavour, need: Requirements) -> Offer | Rejection:
        site = SiteName(self._site.name)
        if why := lacks(flavour, need) or unmapped(self._site.images, need.image):
            return Rejection(site, flavour.name, why)
        image = self._site.images.get(need.image or "default", need.image or "default")
        return Offer(
            site,
            flavour.name,
            flavour.cores,
            flavour.memory_mb,
            flavour.disk_gb,
            image,
            flavour.price_per_hour,
        )

    def quota(self) -> Quota:
        with self._world.lock:
            self._look()
            hosts = self._hosts()
            limits = self._site.limits
            return Quota(
                instances=limits.instances,
                instances_used=len(hosts),
                cores=limits.cores,
                cores_used=sum(host.cores for host in hosts),
                memory_mb=limits.memory_mb,
                memory_mb_used=sum(host.memory_mb for host in hosts),
            )

    def list(self, owner: DeploymentId | None) -> Sequence[Instance]:
        with self._world.lock:
            self._look()
            lag = self._world.faults.listing_lags_seconds
            now = self._world.clock()
            return [
                _instance(host)
                for host in self._hosts()
                if (owner is None or host.owner == owner) and now - host.created_at >= lag
            ]

    def create(self, request: InstanceRequest) -> InstanceId:
        with self._world.lock:
            self._look()
            known = next((h for h in self._hosts() if h.name == request.name), None)
            if known:
                return InstanceId(known.id)
            if self._world.happens(self._world.faults.create_refused):
                raise Terminal("The simulated site refused the request.")
            host = self._make(request)
            self._world.hosts[host.id] = host
            if self._world.happens(self._world.faults.create_answer_lost):
                raise OutcomeUnknown("The simulated site did not answer in time.")
            return InstanceId(host.id)

    def _make(self, request: InstanceRequest) -> SimulatedHost:
        flavour = next((f for f in self._site.flavours if f.name == request.flavour), None)
        if flavour is None:
            raise Terminal(f"Site {self._site.name} has no flavour {request.flavour}.")
        limit = self._site.limits.instances
        if limit is not None and len(self._hosts()) >= limit:
            raise QuotaExceeded(f"Site {self._site.name} allows {limit} instances.")
        number = self._world.number()
        return SimulatedHost(
            id=f"{self._site.name}-{number}",
            name=request.name,
            site=self._site.name,
            owner=request.owner,
            node=request.node,
            flavour=flavour.name,
            cores=flavour.cores,
            memory_mb=flavour.memory_mb,
            created_at=self._world.clock(),
            address=_address(number),
            boots=not self._world.happens(self._world.faults.boot_fails),
            console=[f"Booting {request.name}."],
            user_data=request.user_data,
        )

    def delete(self, instance: InstanceId) -> None:
        with self._world.lock:
            self._look()
            host = self._world.hosts.get(instance)
            if host is None or host.site != self._site.name or host.deleted_at is not None:
                return
            if self._world.happens(self._world.faults.delete_refused):
                raise Retryable("The simulated site refused the deletion.")
            host.state = InstanceState.DELETING
            host.deleted_at = self._world.clock()
            if self._world.happens(self._world.faults.delete_answer_lost):
                raise OutcomeUnknown("The simulated site did not answer in time.")

    def console(self, instance: InstanceId, lines: int) -> str:
        with self._world.lock:
            self._look()
            host = self._world.hosts.get(instance)
            if host is None:
                raise Terminal(f"Site {self._site.name} has no instance {instance}.")
            return "\n".join(host.console[-lines:])

    def prepared_images(self) -> Sequence[PreparedImage]:
        with self._world.lock:
            self._look()
            return list(self._world.prepared)

    def keep_image(self, instance: InstanceId, name: PreparedImage) -> None:
        with self._world.lock:
            self._look()
            host = self._world.hosts.get(instance)
            if host is None or host.deleted_at is not None:
                raise Terminal(f"Site {self._site.name} has no instance {instance}.")
            host.state = InstanceState.STOPPED
            self._world.prepared = [one for one in self._world.prepared if one != name] + [name]

    def host_keys(self, instance: InstanceId) -> Sequence[str]:
        with self._world.lock:
            self._look()
            host = self._world.hosts.get(instance)
            if host is None or host.state is not InstanceState.RUNNING:
                raise Retryable("The simulated host has not booted yet.")
            return [f"ssh-ed25519 simulated-{host.id}"]

    def _look(self) -> None:
        if self._world.faults.site_unreachable:
            raise Retryable(f"Site {self._site.name} is switched off in this simulation.")
        self._world.advance()

    def _hosts(self) -> Sequence[SimulatedHost]:
        return [host for host in self._world.hosts.values() if host.site == self._site.name]


def _address(number: int) -> str:
    """One of 198.18.0.0/15, which RFC 2544 keeps for tests of devices."""
    return f"198.{18 + (number >> 16 & 1)}.{number >> 8 & 255}.{number & 255}"


def _instance(host: SimulatedHost) -> Instance:
    return Instance(
        id=InstanceId(host.id),
        name=host.name,
        state=host.state,
        owner=host.owner,
        node=host.node,
        address=host.address,
        created_at=host.created_at,
    )
