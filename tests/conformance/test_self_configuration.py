"""A host that configures itself: the real program, the real roles, a real API; nothing reaches in.

One host is configured over ssh and one configures itself; what is on them afterwards is compared.
"""

from __future__ import annotations

import contextlib
import io
import re
import tarfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from provider_worlds import created

from orchestrator.configure.ansible import AnsibleConfigurator
from orchestrator.configure.base import HostToConfigure, RoleCall, TaskStatus
from orchestrator.errors import Retryable
from orchestrator.model import EventKind, NodeName, RunState, UserData
from orchestrator.providers.base import InstanceRequest
from orchestrator.providers.container_engine import connect, find_engine
from orchestrator.providers.execution import execute
from orchestrator.providers.local import LocalProvider
from orchestrator.providers.podman_configuration import free_subnet, routed_networks
from orchestrator.settings import Flavour, Settings, Site, SiteLimits
from testbed.self_configuration import ID, SelfConfiguration
from testbed.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

SECRET = "a token that nobody may see"
# What differs from host to host: its name and what it found out about itself at boot.
OF_THE_HOST = re.compile(r"(pushed|pulled)-host|10\.\d+\.\d+\.\d+")
LOOKED_AT = ("/etc/vacuo", "/etc/systemd/system", "/usr/local/sbin", "/etc/containers")
NOT_OF_THE_ROLES = {"pull.json", "vacuo-configure", "vacuo-configure.service"}


def calls(node: str) -> tuple[RoleCall, ...]:
    """A worker whose pool is nowhere: everything of it but the pool's answer."""
    join = {
        "htcondor_execute_collector": "192.0.2.1:9618",
        "htcondor_execute_trust_domain": "nowhere",
        "htcondor_execute_node": node,
        "htcondor_execute_token": SECRET,
    }
    squid = {"squid_disk_mb": 0}
    secret = frozenset({"htcondor_execute_token"})
    runtime = RoleCall("vacuo.site.container_runtime", "runtime", {})
    return (
        runtime,
        RoleCall("vacuo.site.squid", "squid", squid),
        RoleCall("vacuo.site.htcondor_execute", "execute", join, secret),
    )


class Place:
    """A site on a network of its own, and the routes that its hosts ask."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        site = Site(
            name="far-away",
            provider="local",
            images={"default": "localhost/vacuo/host-pull:current"},
            flavours=(Flavour(name="any", cores=1, memory_mb=2048, disk_gb=1),),
            limits=SiteLimits(instances=4, cores=4, memory_mb=65536),
            network=f"vacuo-self-{uuid.uuid4().hex[:6]}",
            subnet=free_subnet(directory, routed_networks()),
        )
        self.provider = LocalProvider(site, directory)
        self.configurator = AnsibleConfigurator(Settings(data_directory=directory / "data"))
        self.nodes = SelfConfiguration(directory, site, self.provider, self.configurator, calls)
        self.repository, self.pulling = self.nodes.repository, self.nodes.pulling

    def close(self) -> None:
        self.nodes.close()
        for instance in self.provider.list(None):
            self.provider.delete(instance.id)
        client = connect(find_engine())
        for made in client.networks.list(names=[self.provider._site.network]):
            made.remove()

    def create(self, name: str, user_data: UserData) -> str:
        created(self.provider, InstanceRequest(name, ID, NodeName(name), "any", "", user_data))
        return next(one.id for one in self.provider.list(ID) if one.name == name)

    def execute(self, instance: str, *command: str) -> str:
        code, output = execute(connect(find_engine()), instance, command)
        assert code == 0, (command, output)
        return str(output.decode())

    def files(self, instance: str) -> dict[str, tuple[int, bytes]]:
        """Modes and contents of what the roles write, without what is the host's own."""
        container = connect(find_engine()).containers.get(instance)
        found = {}
        for top in LOOKED_AT:
            archive = b"".join(container.get_archive(top)[0])
            with tarfile.open(fileobj=io.BytesIO(archive)) as files:
                for entry in files:
                    if entry.isfile() and Path(entry.name).name not in NOT_OF_THE_ROLES:
                        file = files.extractfile(entry)
                        assert file is not None
                        content = OF_THE_HOST.sub("THE-HOST", file.read().decode())
                        found[f"{top}:{entry.name}"] = (entry.mode, content.encode())
        return {n: c for n, c in found.items() if "multi-user.target.d" not in n}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("far-away"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def pulled(place: Place) -> tuple[str, str]:
    """A host that configured itself, and the credential that it was given."""
    node = place.nodes.node("pulled-host")
    given = place.pulling.order(node)
    instance = place.create("pulled-host", replace(given, authorized_keys=()))
    eventually(lambda: place.repository.enrolled(ID), "the enrolment")
    time.sleep(1.5)  # it asks in vain at least once: the run is decided after it answered
    place.nodes.run([node], 1)
    run = eventually(lambda: place.nodes.ended("pulled-host"), "the end of the run")
    said = place.provider.console(instance, 400)
    assert run.state is RunState.SUCCEEDED, (run, said)
    credential = re.search(r'"credential": "([^"]+)"', given.files["/etc/vacuo/pull.json"][1])
    assert credential
    return instance, credential[1]


def test_both_ways_lead_to_the_same_host(place: Place, pulled: tuple[str, str]) -> None:
    pushed = place.create("pushed-host", place.configurator.bootstrap())

    def reached() -> HostToConfigure | None:
        (found,) = [one for one in place.provider.list(ID) if one.name == "pushed-host"]
        if found.address and place.configurator.answers(found.address):
            with contextlib.suppress(Retryable):
                keys = tuple(place.provider.host_keys(found.id))
                return HostToConfigure(found.node, found.address, keys, calls("pushed-host"))
        return None

    host = eventually(reached, "ssh")
    events = list(place.configurator.apply([host], "push"))
    assert events[-1].status is TaskStatus.FINISHED, events[-1]
    by_push, by_pull = place.files(pushed), place.files(pulled[0])
    assert by_push.keys() == by_pull.keys()
    assert {name for name in by_push if by_push[name] != by_pull[name]} == set()
    assert any("50-vacuo.conf" in name for name in by_pull)
    for instance in (pushed, pulled[0]):
        for unit in ("vacuo-squid.service", "vacuo-startd.service"):
            assert place.execute(instance, "systemctl", "is-enabled", unit)
        assert place.execute(instance, "systemctl", "is-active", "vacuo-squid").strip() == "active"
    told = place.repository.events(deployment=ID, kinds=[EventKind.TASK], limit=2000)
    tasks = {event.message.partition(" ")[2] for event in told}
    assert {f"{e.role.rpartition('.')[2]}: {e.task}" for e in events if e.role} <= tasks


def test_the_credential_is_worth_nothing_afterwards(place: Place, pulled: tuple[str, str]) -> None:
    assert place.pulling.enrol(pulled[1], "0" * 64) is None
    left = place.execute(pulled[0], "cat", "/etc/vacuo/pull.json")
    assert pulled[1] not in left
    assert place.execute(pulled[0], "stat", "-c", "%a", "/etc/vacuo/pull.json").strip() == "600"
    refused = place.repository.events(deployment=ID, kinds=[EventKind.AUDIT], failed=True)
    assert "shown again" in refused[-1].message


def test_no_secret_is_left_where_it_is_not_used(place: Place, pulled: tuple[str, str]) -> None:
    instance, _ = pulled
    assert "run" not in place.execute(instance, "ls", "/run/vacuo-configure").split()
    assert SECRET not in place.provider.console(instance, 5000)
    assert SECRET not in place.execute(instance, "journalctl", "--no-pager")
    assert SECRET not in repr(place.repository.events(limit=5000))
    assert SECRET.encode() not in (place.directory / "nodes.db").read_bytes()
    search = f"grep -rls '{SECRET}' /etc /run /var/lib || true"
    with_it = place.execute(instance, "sh", "-c", search)
    assert {Path(name).name for name in with_it.split()} <= {"vacuo"}, with_it


def test_its_host_keys_are_known(place: Place, pulled: tuple[str, str]) -> None:
    told = place.repository.host_keys(ID, NodeName("pulled-host"))
    assert told == tuple(place.provider.host_keys(pulled[0]))  # type: ignore[arg-type]


def test_a_failure_is_told_and_the_next_run_mends_it(place: Place, pulled: tuple[str, str]) -> None:
    node = next(n for n in place.repository.nodes(ID) if n.name == "pulled-host")
    place.nodes.calls = lambda _: (RoleCall("vacuo.site.squid", "squid", {"squid_port": 70000}),)
    place.nodes.run([node], 2)
    run = eventually(lambda: place.nodes.ended("pulled-host"), "the failure")
    assert run.state is RunState.FAILED
    assert "squid_port must be a port" in run.why
    place.nodes.calls = calls
    place.nodes.run([node], 3)
    assert (
        eventually(lambda: place.nodes.ended("pulled-host"), "the end").state is RunState.SUCCEEDED
    )
