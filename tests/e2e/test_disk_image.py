"""A disk image, built by command: it boots, and a host of it has little left to do."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml
from virtual_machine import VirtualMachine

from orchestrator.configure import run_files
from orchestrator.configure.ansible import AnsibleConfigurator
from orchestrator.configure.base import HostToConfigure, RoleCall, TaskStatus
from orchestrator.control.disk_build import SITE
from orchestrator.model import NodeName
from orchestrator.providers.container_engine import connect, find_engine
from orchestrator.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SERVICES = "localhost/vacuo/services:current"
ADDRESS = "127.86.0.22"  # of this machine, and nobody else's: its port 22 is the machine's
FIRMWARE = "/usr/share/ovmf/OVMF.fd"
BUILD_SECONDS = 1800.0
BOOT_SECONDS = 900.0

pytestmark = [pytest.mark.real, pytest.mark.timeout(3600)]


@dataclass(frozen=True)
class Shelf:
    """Where the image of the module's tests is, and what the command said of it."""

    directory: Path
    said: dict[str, Any]

    @property
    def file(self) -> Path:
        return Path(self.said["file"])


def build(directory: Path) -> dict[str, Any]:
    configuration = directory / "vacuo.yaml"
    configuration.write_text(yaml.safe_dump({"data_directory": str(directory / "data")}))
    command = [sys.executable, "-m", "orchestrator.cli.main", "--output", "json", "image", "build"]
    command += [str(ROOT / "tosca-templates" / "squid.yaml"), "--format", "qcow2"]
    command += ["--directory", str(directory), "--config", str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS)
    assert done.returncode == 0, done.stderr
    (image,) = json.loads(done.stdout)["images"]
    return dict(image)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    directory = tmp_path_factory.mktemp("disks")
    try:
        yield Shelf(directory, build(directory))
    finally:
        shutil.rmtree(directory)  # hundreds of MB, which pytest would keep for three runs
        for network in connect(find_engine()).networks.list(names=[f"vacuo-{SITE}"]):
            with contextlib.suppress(docker.errors.APIError):  # somebody else builds, too
                network.remove()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[VirtualMachine]]:
    made: list[VirtualMachine] = []
    yield made
    for machine in made:
        machine.close()


def test_an_image_that_is_there_is_not_built_again(shelf: Shelf) -> None:
    before = shelf.file.stat()
    again = build(shelf.directory)
    if again["properties"] == shelf.said["properties"]:  # nobody edited a role meanwhile
        assert (again["built"], again["sha256"]) == (False, shelf.said["sha256"])
        assert shelf.file.stat().st_mtime_ns == before.st_mtime_ns
    assert shelf.said["properties"]["vacuo_prepared"] in shelf.file.name


def test_an_image_boots_by_uefi(
    shelf: Shelf, tmp_path: Path, machines: list[VirtualMachine]
) -> None:
    machine = VirtualMachine(tmp_path / "uefi", shelf.file, firmware=FIRMWARE)
    machines.append(machine)
    machine.wait(lambda text: "efi: EFI v" in text, "a kernel that UEFI started", BOOT_SECONDS)


def test_a_machine_of_it_grows_has_what_was_baked_and_runs_what_is_left(
    shelf: Shelf, tmp_path: Path, machines: list[VirtualMachine]
) -> None:
    configurator = AnsibleConfigurator(Settings(data_directory=tmp_path / "data"))
    keys = list(configurator.bootstrap().authorized_keys)
    user_data = {"users": ["default", {"name": "root", "ssh_authorized_keys": keys}]}
    machine = VirtualMachine(
        tmp_path / "bios", shelf.file, ADDRESS, seed=f"#cloud-config\n{json.dumps(user_data)}\n"
    )
    machines.append(machine)
    known = (machine.host_key(BOOT_SECONDS),)
    host = HostToConfigure(NodeName("baked"), ADDRESS, known, _roles())

    asked = _ask(configurator, host, tmp_path)
    assert asked["cloud-init"] == "status: done"
    assert int(asked["root-mib"]) > 4096
    assert asked["image"] == SERVICES
    assert json.loads(asked["stamp"])["digest"] == shelf.said["properties"]["vacuo_prepared"]
    assert asked["hostname"] == "baked"
    assert len(asked["machine-id"]) == 32
    assert asked["passwords"] == "none"
    assert asked["keys"] == "1"  # the one that it was given now
    assert asked["getty"] == "active"
    assert asked["of-containers"] == "none"
    assert asked["failed"] == "none"

    events = list(configurator.apply([host], "rest"))
    assert events[-1].status is TaskStatus.FINISHED, (events[-1], machine.console()[-3000:])
    ran = [e for e in events if e.role and e.status in (TaskStatus.OK, TaskStatus.CHANGED)]
    assert not [e for e in ran if "Install" in e.task or "Fetch" in e.task or "apt" in e.task]
    assert [e for e in ran if "Start squid" in e.task and e.status is TaskStatus.CHANGED]


def _roles() -> tuple[RoleCall, ...]:
    return (
        RoleCall("vacuo.site.container_runtime", "containers", {}),
        RoleCall("vacuo.site.squid", "squid", {"squid_memory_mb": 32, "squid_disk_mb": 0}),
    )


_QUESTIONS = f"""\
say() {{ printf '%s=%s\\n' "$1" "$(echo "$2" | tr -d '\\n')"; }}
say cloud-init "$(cloud-init status --wait | grep ^status)"
say root-mib $(df --block-size=1M --output=size / | tail -1)
podman image exists {SERVICES} && say image {SERVICES}
say stamp "$(cat /etc/vacuo/image.json)"
say hostname "$(hostname)"
say machine-id "$(cat /etc/machine-id)"
say passwords "$(awk -F: '$2 !~ /^[!*]/' /etc/shadow | grep . || echo none)"
say keys "$(cat /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys | grep -c .)"
say getty "$(systemctl is-active serial-getty@ttyS0)"
say of-containers "$(ls /usr/local/sbin/ | grep ^vacuo- || echo none)"
say failed "$(systemctl list-units --failed --plain --no-legend | grep . || echo none)"
"""


def _ask(
    configurator: AnsibleConfigurator, host: HostToConfigure, directory: Path
) -> dict[str, str]:
    known = directory / f"known-{uuid.uuid4().hex[:8]}"
    known.write_text(run_files.known_hosts([host]))
    command = ["ssh", "-F", "/dev/null", "-i", configurator.key_file()]
    command += ["-o", f"UserKnownHostsFile={known}"]
    command += [word for option in run_files.SSH_OPTIONS for word in ("-o", option)]
    done = subprocess.run(
        [*command, "-l", "root", host.address, "sh"],
        input=_QUESTIONS,
        capture_output=True,
        text=True,
        timeout=BOOT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
