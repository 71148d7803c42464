"""Prepared images at every provider that keeps any: a host is kept, and others are made of it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest
from provider_worlds import WORLDS, ProviderWorld, created, listed, request

from orchestrator.configure.ansible import AnsibleConfigurator
from orchestrator.configure.base import HostToConfigure, RoleCall, TaskStatus
from orchestrator.control.image_build import OWNER, Bakery
from orchestrator.errors import Retryable, Terminal
from orchestrator.model import (
    DeploymentId,
    GroupName,
    InstanceId,
    InstanceState,
    NodeGroup,
    NodeName,
    Offer,
    PreparedImage,
    Requirements,
    Service,
    SiteName,
)
from orchestrator.providers.base import InstanceRequest, Provider
from orchestrator.providers.container_engine import connect, find_engine
from orchestrator.providers.execution import execute
from orchestrator.providers.local import LocalProvider
from orchestrator.providers.podman_configuration import free_subnet, routed_networks
from orchestrator.settings import Flavour, Settings, Site, SiteLimits
from testbed.configured import names_of, on_the_host
from testbed.waiting import eventually

RUNNING = InstanceState.RUNNING
REAL = {"local"}
BASE = "localhost/vacuo/host:current"
LABELS = ["vacuo.prepared"]
MOST_TASKS = 10

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.real] * (name in REAL)) for name in WORLDS]
)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProviderWorld]:
    world = WORLDS[request.param](tmp_path)
    yield world
    world.close()


@pytest.fixture
def name() -> Iterator[str]:
    """A name for an image, which is removed afterwards wherever it came to be."""
    reference = f"localhost/vacuo-conformance/kept-{uuid.uuid4().hex[:8]}:one"
    yield reference
    _forget(reference)


def _forget(reference: str) -> None:
    client = connect(find_engine())
    with contextlib.suppress(docker.errors.NotFound):
        client.images.remove(reference, force=True)


def _offered(provider: Provider) -> str:
    offers = provider.offers(Requirements(1, 256, 1))
    return next(one.image for one in offers if isinstance(one, Offer))


def test_a_host_is_kept_and_another_is_made_of_it(world: ProviderWorld, name: str) -> None:
    provider = world.provider
    first = request()
    identifier = created(provider, first)
    listed(provider, first.name, RUNNING)
    eventually(lambda: provider.host_keys(identifier), "host keys")
    keys = tuple(provider.host_keys(identifier))
    image = PreparedImage(name, _offered(provider), "what-it-has")
    provider.keep_image(identifier, image)
    assert image in provider.prepared_images()
    provider.delete(identifier)
    second = replace(request(), image=name)
    made = created(provider, second)
    listed(provider, second.name, RUNNING)
    eventually(lambda: provider.host_keys(made), "host keys of its own")
    assert tuple(provider.host_keys(made)) != keys


def test_what_is_not_there_cannot_be_kept(world: ProviderWorld, name: str) -> None:
    with pytest.raises(Terminal):
        world.provider.keep_image(InstanceId("nobody"), PreparedImage(name, "base", "digest"))


# --- the whole build, at a local site -------------------------------------------------------------


class LocalBakery:
    """A local site whose base is a tag of its own, so that it can be moved."""

    def __init__(self, directory: Path) -> None:
        self.client = connect(find_engine())
        self.base = f"localhost/vacuo-conformance/base-{uuid.uuid4().hex[:8]}:current"
        self.move_base(BASE)
        site = Site(
            name="oven",
            provider="local",
            images={"default": self.base},
            flavours=(Flavour(name="any", cores=1, memory_mb=2048, disk_gb=1),),
            limits=SiteLimits(instances=4, cores=4, memory_mb=65536),
            network=f"vacuo-oven-{uuid.uuid4().hex[:6]}",
            subnet=free_subnet(directory, routed_networks()),
        )
        self.provider = LocalProvider(site, directory)
        self.configurator = AnsibleConfigurator(Settings(data_directory=directory / "data"))
        self.images: list[str] = []
        self._network = site.network

    def move_base(self, to: str) -> None:
        repository, _, tag = self.base.rpartition(":")
        self.client.images.get(to).tag(repository, tag)

    def bake(self, group: NodeGroup) -> Any:
        offer = Offer(SiteName("oven"), "any", 1, 2048, 1, self.base)
        bakery = Bakery(self.configurator, 240.0, print)
        built = bakery.bake("oven", self.provider, group, offer, force=False)
        self.images.append(built.image.image)
        return built

    def execute(self, instance: str, *command: str) -> str:
        code, output = execute(self.client, instance, command)
        assert code == 0, output
        return str(output.decode())

    def close(self) -> None:
        for instance in self.provider.list(None):
            self.provider.delete(instance.id)
        for image in {*self.images, self.base}:
            _forget(image)
        for network in self.client.networks.list(names=[self._network]):
            network.remove()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalBakery]:
    made = LocalBakery(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.real
def test_a_worker_from_a_prepared_image_has_little_left_to_do(
    local: LocalBakery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local.configurator, "roles_digest", lambda: "whoever edits them now")
    group = _group(WORKER)
    built = local.bake(group)
    assert built.fresh
    assert list(local.provider.list(OWNER)) == []
    assert not local.bake(group).fresh
    host = _host(local, built.image.image, WORKER)
    _little_is_left(local, host)
    instance = next(one.id for one in local.provider.list(None) if one.node == host.node)
    keys = local.execute(instance, "cat", "/root/.ssh/authorized_keys").splitlines()
    assert len(keys) == 1  # that of its own creation
    assert len(local.execute(instance, "cat", "/etc/machine-id").strip()) == 32
    # A base that has changed is another base.
    local.move_base("localhost/vacuo/host-bare:current")
    assert built.image not in local.provider.prepared_images()


@pytest.mark.real
def test_caches_from_a_prepared_image_have_little_left_to_do(
    local: LocalBakery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local.configurator, "roles_digest", lambda: "whoever edits them now")
    built = local.bake(_group(CACHE))
    _little_is_left(local, _host(local, built.image.image, CACHE))


def _little_is_left(local: LocalBakery, host: HostToConfigure) -> None:
    events = list(local.configurator.apply([host], "rest"))
    assert events[-1].status is TaskStatus.FINISHED, events[-1]
    ran = names_of(events)
    assert not [task for task in ran if "Install" in task or "apt" in task]
    assert len(on_the_host(ran)) <= MOST_TASKS, on_the_host(ran)


# The groups of the shipped sites, role to what a template makes of its variables.
JOIN = {
    "htcondor_execute_collector": "192.0.2.1:9618",
    "htcondor_execute_trust_domain": "nowhere",
    "htcondor_execute_token": "not a token",
    "htcondor_execute_administrator": "someone@nowhere",
    "htcondor_execute_administrator_key": "bm90IGEga2V5",
}
WORKER: dict[str, dict[str, Any]] = {
    "container_runtime": {},
    "cvmfs": {"cvmfs_required": False},
    "node_validation": {"node_validation_period_seconds": 30},
    "htcondor_execute": JOIN,
}
CACHE: dict[str, dict[str, Any]] = {
    "container_runtime": {},
    "squid": {"squid_disk_mb": 100},
    "xcache": {"xcache_origin": "192.0.2.1:1094"},
}


def _group(roles: dict[str, dict[str, Any]]) -> NodeGroup:
    services = tuple(
        Service(role, "", f"vacuo.site.{role}", {} if variables is JOIN else variables)
        for role, variables in roles.items()
    )
    return NodeGroup(GroupName("any"), Requirements(), services)


def _host(local: LocalBakery, image: str, wanted: dict[str, dict[str, Any]]) -> HostToConfigure:
    node = NodeName("made-of-it")
    request = InstanceRequest(
        str(node), DeploymentId("someone"), node, "any", image, local.configurator.bootstrap()
    )
    created(local.provider, request)
    roles = tuple(
        RoleCall(f"vacuo.site.{role}", role, variables) for role, variables in wanted.items()
    )

    def reached() -> HostToConfigure | None:
        (one,) = [one for one in local.provider.list(None) if one.node == node]
        if one.address and local.configurator.answers(one.address):
            with contextlib.suppress(Retryable):
                keys = tuple(local.provider.host_keys(one.id))
                return HostToConfigure(node, one.address, keys, roles)
        return None

    return eventually(reached, "ssh")
