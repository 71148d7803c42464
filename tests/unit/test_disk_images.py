"""Disks for clouds: where things are on them, what they are called, and what is said."""

from __future__ import annotations

import fcntl
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import image as image_command
from orchestrator.cli.main import app
from orchestrator.configure.ansible import AnsibleConfigurator
from orchestrator.control import disk_build, prepared
from orchestrator.errors import UserError
from orchestrator.model import (
    Attribute,
    GroupName,
    NodeGroup,
    Offer,
    PreparedImage,
    Requirements,
    SiteName,
)
from orchestrator.model import Service as ServiceOf
from orchestrator.providers import disk_assembly, disk_images, disk_layout
from orchestrator.providers.disk_images import DiskImages, DiskNote
from orchestrator.providers.disk_layout import MIB, SECTOR
from orchestrator.settings import Settings, Site

FIRST_USABLE = 34 * SECTOR  # UEFI 2.10, 5.3.1
BACKUP = 33 * SECTOR


# --- the disk -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [1, MIB - 1, MIB, 700 * MIB + 5])
def test_partitions_fit_do_not_overlap_and_the_root_is_last(wanted: int) -> None:
    disk = disk_layout.layout(wanted)
    end = FIRST_USABLE
    for part in disk.partitions:
        assert part.start >= end
        assert part.start % MIB == part.size % MIB == 0
        end = part.start + part.size
    assert disk.partitions[-1] is disk.root
    assert disk.root.number == 1
    assert wanted <= disk.root.size < wanted + MIB
    assert end + BACKUP <= disk.size


def test_the_table_is_in_sectors_with_the_types_that_firmware_looks_for() -> None:
    lines = disk_layout.sfdisk_script(disk_layout.layout(100 * MIB)).splitlines()
    assert lines[0] == "label: gpt"
    assert f"14 : start=2048, size=2048, type={disk_layout.BIOS_BOOT}, name=bios" in lines
    assert f"15 : start=4096, size=28672, type={disk_layout.EFI_SYSTEM}, name=efi" in lines
    assert any(line.startswith("1 : start=32768, size=204800,") for line in lines)


def test_the_boot_record_and_the_core_know_where_the_core_is() -> None:
    core = disk_layout.layout(MIB).bios
    record = disk_layout.boot_record(bytes(range(256)) * 2, core)
    assert len(record) == 440  # what follows is the disk's
    assert struct.unpack_from("<Q", record, 0x5C) == (2048,)
    located = disk_layout.located_core(b"\1" * 1024, core)
    assert len(located) == 1024
    assert struct.unpack_from("<Q", located, 500) == (2049,)
    assert located[508:] == b"\1" * 516  # how long it is, and where it goes, GRUB wrote


def test_a_loader_that_does_not_fit_is_refused() -> None:
    core = disk_layout.layout(MIB).bios
    with pytest.raises(ValueError, match="room for"):
        disk_layout.located_core(b"\0" * (MIB + 1), core)
    with pytest.raises(ValueError, match=r"boot\.img"):
        disk_layout.boot_record(b"\0" * 440, core)


def test_what_made_a_container_of_it_is_gone_from_the_machine(tmp_path: Path) -> None:
    files = {
        "etc/containers/containers.conf.d/10-this-machine.conf": "[engine]",
        "etc/containers/storage.conf": 'additionalimagestores = ["/var/lib/shared-images"]',
        "etc/environment": "A=1\nPODMAN_IGNORE_CGROUPSV1_WARNING=1\n",
        "etc/machine-id": "0123\n",
        "usr/local/sbin/vacuo-host-init": "#!/bin/sh",
        "var/lib/shared-images/x": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    disk_assembly.become_machine(tmp_path, "the-uuid", {"digest": "abc"})
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {
        "boot/grub/grub.cfg",
        "etc/environment",
        "etc/fstab",
        "etc/hostname",
        "etc/hosts",
        "etc/machine-id",
        "etc/vacuo/image.json",
    }
    assert (tmp_path / "etc/environment").read_text() == "A=1\n"
    assert (tmp_path / "etc/machine-id").read_text() == ""
    assert "console=ttyS0" in (tmp_path / "boot/grub/grub.cfg").read_text()
    assert "UUID=the-uuid / ext4" in (tmp_path / "etc/fstab").read_text()
    assert not (tmp_path / "var/lib/shared-images").exists()


def test_missing_tools_are_named_by_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_assembly.shutil, "which", lambda name, path: name != "mformat")
    monkeypatch.setattr(disk_assembly, "TOOLS", {"mformat": "mtools", "mke2fs": "e2fsprogs"})
    with pytest.raises(UserError) as caught:
        disk_assembly.require_tools()
    assert caught.value.attempt == "apt-get install mtools"


# --- the files ------------------------------------------------------------------------------------


class Shelf(DiskImages):
    """Disks in a directory, of a base that is whatever the test says."""

    content = "sha256:1"

    def __init__(self, directory: Path) -> None:
        super().__init__(
            Site(name="disk-images", provider="local", flavours=()),
            directory,
            directory,
            "debian-13",
        )

    def _image_id(self, reference: str) -> str:
        return self.content


def put(directory: Path, digest: str, base_content: str = "sha256:1") -> PreparedImage:
    image = prepared.named("base:current", digest)
    note = DiskNote(image.image, image.base, digest, base_content, 1 << 30, "00")
    file = directory / f"vacuo-debian-13-{digest}.qcow2"
    file.write_bytes(b"disk")
    file.with_name(f"{file.name}.json").write_text(json.dumps(vars(note)))
    return image


def test_disks_are_found_by_their_notes(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    assert shelf.prepared_images() == []
    image = put(tmp_path, "aaa")
    assert shelf.prepared_images() == [image]
    shelf.content = "sha256:2"  # the base was built anew
    assert shelf.prepared_images() == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"digest": "aaa"}', "null"])
def test_half_a_disk_is_none(tmp_path: Path, text: str) -> None:
    put(tmp_path, "aaa")
    (tmp_path / "vacuo-debian-13-aaa.qcow2.json").write_text(text)
    assert Shelf(tmp_path).prepared_images() == []
    (tmp_path / "vacuo-debian-13-aaa.qcow2.json").unlink()
    assert Shelf(tmp_path).note("aaa") is None


def test_a_disk_that_was_renamed_or_of_another_system_is_not_taken_for_it(tmp_path: Path) -> None:
    put(tmp_path, "aaa")
    for suffix in ("qcow2", "qcow2.json"):
        (tmp_path / f"vacuo-debian-13-aaa.{suffix}").rename(
            tmp_path / f"vacuo-debian-13-bbb.{suffix}"
        )
    (tmp_path / "vacuo-debian-12-ccc.qcow2").touch()
    assert Shelf(tmp_path).prepared_images() == []


def test_what_killed_builds_left_is_removed_and_what_goes_on_is_not(tmp_path: Path) -> None:
    for name in ("dead", "alive"):
        (tmp_path / f".vacuo-disk-{name}" / "tree").mkdir(parents=True)
    (tmp_path / ".vacuo-disk-dead" / "lock").touch()
    with (tmp_path / ".vacuo-disk-alive" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with disk_images._work_in(tmp_path) as work:
            assert work.directory.parent == tmp_path
            left = {path.name for path in tmp_path.iterdir()} - {work.directory.name}
    assert left == {".vacuo-disk-alive"}
    assert not work.directory.exists()


# --- what is said ---------------------------------------------------------------------------------


def group(**variables: Any) -> NodeGroup:
    services = (
        ServiceOf("runtime", "", "vacuo.site.container_runtime"),
        ServiceOf("squid", "", "vacuo.site.squid", variables),
        ServiceOf("other", "", "somebody.elses.role", {"role_image": "not/ours:1"}),
    )
    return NodeGroup(GroupName("cache"), Requirements(), services)


def test_the_images_that_roles_will_run_are_known_by_their_variables(tmp_path: Path) -> None:
    configurator = AnsibleConfigurator(Settings(data_directory=tmp_path))
    usual = disk_build.container_images(group(), configurator)
    assert usual == ["localhost/vacuo/services:current"]
    own = disk_build.container_images(group(squid_image="example.org/squid:6"), configurator)
    assert own == ["example.org/squid:6"]
    late = disk_build.container_images(group(squid_image=Attribute("a", ("b",))), configurator)
    assert late == usual


def test_the_upload_says_what_the_planner_looks_for() -> None:
    properties = {"vacuo_prepared": "abc", "vacuo_base": "Debian 13"}
    file = Path("/srv/vacuo-debian-13-abc.qcow2")
    line = disk_build.upload_command(file, properties, (1 << 30) + 1)
    assert line.startswith("openstack image create --disk-format qcow2 --container-format bare ")
    assert "--min-disk 2 --file /srv/vacuo-debian-13-abc.qcow2" in line
    assert "--property vacuo_prepared=abc --property 'vacuo_base=Debian 13'" in line
    assert line.endswith(" vacuo-debian-13-abc")


def test_the_planner_picks_an_uploaded_disk_by_its_properties() -> None:
    """As a cloud's provider will list it: the cloud's name, and the two properties."""
    digest = prepared.digest(group(), "roles")
    uploaded = PreparedImage("0c1d-its-id-there", "Debian 13", digest)
    offer = Offer(SiteName("cloud"), "m1", 1, 1024, 10, "Debian 13")
    (chosen,) = prepared.choose([offer], digest, [uploaded])
    assert isinstance(chosen, Offer)
    assert (chosen.image, chosen.prepared_from) == (uploaded.image, "Debian 13")


def test_a_group_of_another_architecture_is_refused_before_anything_is_built() -> None:
    other = NodeGroup(GroupName("cache"), Requirements(architecture="aarch64"), ())
    with pytest.raises(UserError, match="No disk image can be made for group cache"):
        disk_build.check(other)


@pytest.mark.parametrize(
    ("words", "stray"),
    [
        (["--format", "qcow2", "--site", "local"], "--site"),
        (["--base", "debian-12"], "--base"),
        (["--directory", "/tmp"], "--directory"),
        (["--replaces", "Debian"], "--replaces"),
    ],
)
def test_an_option_of_the_other_kind_is_refused(words: list[str], stray: str) -> None:
    result = CliRunner().invoke(app, ["image", "build", "squid.yaml", *words])
    assert result.exit_code != 0
    assert f"{stray} does not go with --format" in result.output


def test_the_command_knows_every_base() -> None:
    assert [one.value for one in image_command.Base] == [one.value for one in disk_build.Base]
