"""A pinned playbook with its role on a real host, and what a user writes into its inputs."""

from __future__ import annotations

import contextlib
import hashlib
import io
import subprocess
import tarfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from provider_worlds import created

from orchestrator.configure.ansible import AnsibleConfigurator
from orchestrator.configure.base import HostToConfigure, RoleCall, TaskEvent, TaskStatus
from orchestrator.configure.playbooks import ROLE, WithPlaybooks
from orchestrator.errors import Retryable
from orchestrator.model import DeploymentId, NodeName
from orchestrator.providers.base import InstanceRequest
from orchestrator.providers.local import LocalProvider
from orchestrator.providers.podman_configuration import free_subnet, routed_networks
from orchestrator.settings import Flavour, ForeignPlaybook, Settings, Site
from testbed.engine import TestbedNetwork

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

PATIENCE_SECONDS = 180.0
OWNER = DeploymentId("foreign")
URL = "https://playbooks.example/site.yml"
GALAXY = "example.greeter,v1"
# As they are written for the Infrastructure Manager: for the host itself, by the names of inputs.
PLAYBOOK = """\
- hosts: localhost
  connection: local
  roles:
    - role: example.greeter
"""
GREET = """\
- name: Greet
  ansible.builtin.copy:
    content: "{{ greeting }}"
    dest: /srv/greeting
    mode: "0600"
"""


@dataclass
class Place:
    directory: Path
    configurator: WithPlaybooks
    host: HostToConfigure

    def configured(self, run: str, source: str, greeting: str) -> TaskEvent:
        """The last event of the host with the playbook ``source``."""
        step = {"source": source, "inputs": {"greeting": greeting}}
        variables = {"playbook_steps": [step], "playbook_roles": [GALAXY]}
        host = replace(self.host, roles=(RoleCall(ROLE, "portal", variables),))
        *_, end = self.configurator.apply([host], run)
        return end

    def written(self) -> str:
        known = self.directory / "known"
        known.write_text("".join(f"{self.host.address} {key}\n" for key in self.host.host_keys))
        options = ["-i", self.configurator.key_file(), "-o", f"UserKnownHostsFile={known}"]
        options += ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
        command = ["ssh", *options, f"root@{self.host.address}", "cat /srv/greeting"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        assert done.returncode == 0, done.stderr
        return done.stdout


def pinned(directory: Path) -> list[ForeignPlaybook]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("ansible-role-greeter-1/tasks/main.yml")
        member.size = len(GREET)
        tar.addfile(member, io.BytesIO(GREET.encode()))
    found = []
    for source, content in ((URL, PLAYBOOK.encode()), (GALAXY, buffer.getvalue())):
        digest = hashlib.sha256(content).hexdigest()
        (directory / digest).write_bytes(content)
        found.append(ForeignPlaybook(source=source, file=directory / digest, sha256=digest))
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("foreign")
    name = f"vacuo-foreign-{uuid.uuid4().hex[:6]}"
    network = TestbedNetwork(f"{name}-bed")
    site = Site(
        name="here",
        provider="local",
        images={"default": "localhost/vacuo/host-pull:current"},  # it has Ansible of its own
        flavours=(Flavour(name="any", cores=1, memory_mb=1024, disk_gb=1),),
        network=name,
        subnet=free_subnet(directory, routed_networks()),
    )
    provider = LocalProvider(site, directory)
    ansible = AnsibleConfigurator(Settings(data_directory=directory / "data"))
    configurator = WithPlaybooks(ansible, pinned(directory))
    try:
        wanted = InstanceRequest(
            "portal", OWNER, NodeName("portal"), "any", "", configurator.bootstrap()
        )
        created(provider, wanted)
        yield Place(directory, configurator, _answering(provider, configurator))
    finally:
        for instance in provider.list(OWNER):
            provider.delete(instance.id)
        network.remove()
        for made in network.client.networks.list(names=[name]):
            made.remove()


def _answering(provider: LocalProvider, configurator: WithPlaybooks) -> HostToConfigure:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for one in provider.list(OWNER):
            if one.address and configurator.answers(one.address):
                with contextlib.suppress(Retryable):
                    keys = tuple(provider.host_keys(one.id))
                    return HostToConfigure(NodeName("portal"), one.address, keys, ())
        time.sleep(0.1)
    raise AssertionError(f"no host answered within {PATIENCE_SECONDS:.0f} s")


def test_a_pinned_playbook_runs_on_the_host_and_never_on_the_controller(place: Place) -> None:
    mark = place.directory / "controller-was-here"
    greeting = f"{{{{ lookup('pipe', 'touch {mark}; hostname') }}}} \"quoted\""
    end = place.configured("pinned", URL, greeting)
    assert end.status is TaskStatus.FINISHED, end
    name, quoted = place.written().split(" ", 1)
    assert name != subprocess.run(["hostname"], capture_output=True, text=True).stdout.strip()
    assert quoted == '"quoted"'
    assert not mark.exists()


def test_a_playbook_that_is_not_pinned_does_not_run(place: Place) -> None:
    end = place.configured("other", "https://playbooks.example/other.yml", "never")
    assert end.status is TaskStatus.FAILED
    assert "never" not in place.written()
