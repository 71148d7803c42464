"""A rack without any cloud: blank hosts, an inventory and two playbooks make a pool that works."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from testbed.molecule import ROOT, Scenario, create, destroy

WORKERS = ("node-1", "node-2")
PATIENCE_SECONDS = 180.0


@dataclass
class Rack:
    """Hosts that nothing was done to yet, and what a person would have to reach them."""

    directory: Path
    addresses: dict[str, str]

    @property
    def ssh_options(self) -> str:
        known = self.directory / "known_hosts"
        return f"-o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={known}"

    def write_inventory(self) -> Path:
        collector = f"{self.addresses['cm']}:9618"
        everybody = {
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_private_key_file": str(self.directory / "id_ed25519"),
            "ansible_ssh_common_args": self.ssh_options,
            "htcondor_pool_collector": collector,
            "htcondor_pool_trust_domain": "rack.test",
            "htcondor_pool_users": {"alice": 20001},
            "htcondor_pool_cycle_seconds": 2,
            "htcondor_execute_collector": collector,
            "htcondor_execute_trust_domain": "rack.test",
            "htcondor_execute_site": "rack",
        }
        hosts = {name: {"ansible_host": address} for name, address in self.addresses.items()}
        inventory = {
            "all": {"vars": everybody, "hosts": hosts},
            "central_managers": {"hosts": {"cm": None}},
            "access_points": {"hosts": {"cm": None}},
            "workers": {"hosts": dict.fromkeys(WORKERS)},
        }
        path = self.directory / "inventory.yml"
        path.write_text(yaml.safe_dump(inventory))
        return path

    def play(self, *playbooks: str) -> str:
        """Run playbooks of the installed collection as a person does; its output."""
        command = [sys.executable, "-m", "ansible.cli.playbook", "-i", str(self.write_inventory())]
        return self._run([*command, *playbooks])

    def install_collection(self) -> None:
        command = [sys.executable, "-m", "ansible.cli.galaxy", "collection", "install", "--offline"]
        self._run([*command, "-p", str(self.directory / "installed"), str(ROOT / "ansible")])

    def queue(self, *arguments: str) -> str:
        """``ansible/molecule/pool/queue.sh`` on the central manager."""
        script = ROOT / "ansible/molecule/pool/queue.sh"
        quoted = " ".join(f"'{argument}'" for argument in arguments)
        key = ["-i", str(self.directory / "id_ed25519"), *self.ssh_options.split()]
        done = subprocess.run(
            ["ssh", *key, f"root@{self.addresses['cm']}", f"sh -s -- {quoted}"],
            input=script.read_text(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def _run(self, command: list[str]) -> str:
        environment = os.environ | {
            "ANSIBLE_HOME": str(self.directory / "ansible"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.directory / "installed"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
        }
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr
        return done.stdout


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    scenario = Scenario(f"vacuo-rack-{uuid.uuid4().hex[:6]}", tmp_path, tmp_path / "hosts.yml")
    try:
        platforms = [{"name": "cm"}, *({"name": name, "image": "bare"} for name in WORKERS)]
        create(scenario, platforms)
        hosts = yaml.safe_load(scenario.instance_config.read_text())
        yield Rack(tmp_path, {host["instance"]: host["address"] for host in hosts})
    finally:
        destroy(scenario)


@pytest.mark.timeout(900)
def test_blank_hosts_become_workers_of_a_pool_of_ones_own_and_jobs_run(rack: Rack) -> None:
    rack.install_collection()
    told = rack.play("vacuo.site.pool", "vacuo.site.worker")
    for node in WORKERS:
        requirement = f'requirements = VacuoNode == "{node}"'
        job = rack.queue("submit", "hostname", requirement)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (shown := rack.queue("show", job)) != "4 1 0":
            assert time.monotonic() < deadline, f"The job on {node} stands at {shown!r}.\n{told}"
            time.sleep(0.5)
        assert rack.queue("output", job) == node
    again = rack.play("vacuo.site.worker")
    recap = [line for line in again.splitlines() if "unreachable=" in line]
    assert len(recap) == len(WORKERS)
    assert all("changed=0 " in line for line in recap), again
