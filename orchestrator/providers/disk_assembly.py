"""From a tree of files to a bootable disk, by the usual tools, without mounting or looping.

All of it needs root only because the files keep their owners.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import Terminal, UserError
from orchestrator.providers import disk_layout
from orchestrator.providers.container_engine import SHARED_IMAGES_IN_HOST
from orchestrator.providers.disk_layout import MIB, Layout

GRUB = Path("/usr/lib/grub")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What has to be there, as a command or a file, and the package that has it.
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "sfdisk": "fdisk",
    "mformat": "mtools",
    "grub-mkimage": "grub-common",
    str(GRUB / "i386-pc" / "boot.img"): "grub-pc-bin",
    str(GRUB / "x86_64-efi" / "kernel.img"): "grub-efi-amd64-bin",
    "qemu-img": "qemu-utils",
}

# Named one by one: what newer versions of mke2fs add by themselves, GRUB cannot read.
_FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,"
    "large_file,huge_file,dir_nlink,extra_isize,metadata_csum"
)
_BYTES_AN_INODE = 8192

# What made a container of it.
_ONLY_IN_CONTAINERS = (
    "etc/containers/containers.conf.d/10-this-machine.conf",
    "etc/systemd/system.conf.d/10-quiet.conf",
    "usr/local/sbin/vacuo-host-init",
    "usr/local/sbin/vacuo-oven-init",
    "usr/local/share/vacuo/not-in-containers",
)
_HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
STAMP = "etc/vacuo/image.json"


@dataclass(frozen=True)
class Work:
    """The files of one assembly, all below ``directory``."""

    directory: Path

    @property
    def tree(self) -> Path:
        return self.directory / "tree"

    @property
    def raw(self) -> Path:
        return self.directory / "disk.raw"


def missing_packages() -> list[str]:
    """The Debian packages that a build lacks on this machine."""
    there = {name for name in TOOLS if shutil.which(name, path=SEARCH_PATH) or Path(name).is_file()}
    return sorted({package for name, package in TOOLS.items() if name not in there})


def require_tools() -> None:
    """Raises :class:`UserError` that names what to install."""
    if packages := missing_packages():
        raise UserError(
            "This machine lacks tools that make disk images.",
            f"They are in {', '.join(packages)}.",
            f"apt-get install {' '.join(packages)}",
        )


def become_machine(tree: Path, root_uuid: str, stamp: Mapping[str, str]) -> None:
    """Make the files of a configured container those of a machine that boots from
    ``root_uuid``."""
    for name in _ONLY_IN_CONTAINERS:
        (tree / name).unlink(missing_ok=True)
    shutil.rmtree(tree / SHARED_IMAGES_IN_HOST.lstrip("/"), ignore_errors=True)
    stores = tree / "etc/containers/storage.conf"
    if stores.is_file() and SHARED_IMAGES_IN_HOST in stores.read_text():
        stores.unlink()
    environment = tree / "etc/environment"
    if environment.is_file():
        lines = environment.read_text().splitlines(keepends=True)
        environment.write_text("".join(one for one in lines if "CGROUPSV1" not in one))
    for name in ("proc", "sys", "dev", "run", "tmp", "boot/grub", "etc/vacuo"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    (tree / "tmp").chmod(0o1777)
    files = {
        "etc/fstab": disk_layout.file_system_table(root_uuid),
        "etc/hosts": _HOSTS,
        "etc/hostname": "localhost\n",
        "etc/machine-id": "",
        "boot/grub/grub.cfg": disk_layout.grub_configuration(root_uuid),
        STAMP: json.dumps(dict(stamp), indent=2, sort_keys=True) + "\n",
    }
    for name, text in files.items():
        (tree / name).write_text(text)
        (tree / name).chmod(0o644)
    resolver = tree / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    resolver.symlink_to("../run/systemd/resolve/stub-resolv.conf")


def assemble(work: Work, target: Path, stamp: Mapping[str, str]) -> int:
    """Write the disk of ``work.tree`` to ``target``, a qcow2; returns the disk's size in bytes.

    Raises :class:`Terminal` with the words of the tool that failed.
    """
    root_uuid = str(uuid.uuid4())
    become_machine(work.tree, root_uuid, stamp)
    disk = disk_layout.layout(disk_layout.root_bytes(_used(work.tree)))
    with work.raw.open("wb") as raw:
        raw.truncate(disk.size)
    _run(["sfdisk", "--quiet", str(work.raw)], disk_layout.sfdisk_script(disk))
    _write_root(work, disk, root_uuid)
    _write_loaders(work, disk, root_uuid)
    command = ["qemu-img", "convert", "-c", "-m", "4", "-O", "qcow2"]
    _run([*command, str(work.raw), str(target)])
    return disk.size


def _write_root(work: Work, disk: Layout, root_uuid: str) -> None:
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", _FEATURES, "-m", "1"]
    command += ["-i", str(_BYTES_AN_INODE), "-L", "vacuo-root", "-U", root_uuid]
    command += ["-E", f"offset={disk.root.start}", "-d", str(work.tree)]
    _run([*command, str(work.raw), f"{disk.root.size // 1024}k"])


def _write_loaders(work: Work, disk: Layout, root_uuid: str) -> None:
    search = work.directory / "grub-search.cfg"
    search.write_text(disk_layout.grub_search(root_uuid))
    made = {}
    for platform, modules in disk_layout.MODULES.items():
        made[platform] = work.directory / f"grub.{platform}"
        command = ["grub-mkimage", "--format", platform, "--prefix", "/boot/grub"]
        command += ["--config", str(search), "--output", str(made[platform]), *modules]
        _run(command)
    boot = (GRUB / "i386-pc" / "boot.img").read_bytes()
    with work.raw.open("r+b") as raw:
        raw.write(disk_layout.boot_record(boot, disk.bios))
        raw.seek(disk.bios.start)
        raw.write(disk_layout.located_core(made["i386-pc"].read_bytes(), disk.bios))
    at = f"{work.raw}@@{disk.efi.start}"
    _run(["mformat", "-i", at, "-T", str(disk.efi.size // disk_layout.SECTOR), "-v", "EFI", "::"])
    _run(["mmd", "-i", at, "::/EFI", "::/EFI/BOOT"])
    _run(["mcopy", "-i", at, str(made["x86_64-efi"]), "::/EFI/BOOT/BOOTX64.EFI"])


def unpack(chunks: Iterator[bytes], tree: Path) -> None:
    """Unpack a stream of tar into ``tree``, with owners, devices and extended attributes."""
    tree.mkdir(parents=True)
    command = ["tar", "--extract", "--numeric-owner", "--same-permissions", "--xattrs"]
    command += ["--xattrs-include=*", f"--directory={tree}", "--file=-"]
    tar = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()
    )
    assert tar.stdin is not None
    try:
        for chunk in chunks:
            tar.stdin.write(chunk)
        tar.stdin.close()
    except BrokenPipeError:
        pass  # it says itself why
    except BaseException:
        tar.kill()
        raise
    finally:
        assert tar.stderr is not None
        said = tar.stderr.read().decode(errors="replace")
        tar.wait()
    if tar.returncode:
        raise Terminal(f"The host's files cannot be unpacked: {_last_line(said)}.")


def _used(tree: Path) -> int:
    """Bytes of all files in ``tree``, each in whole blocks, each once."""
    done = _run(["du", "--summarize", "--block-size=1", str(tree)])
    return max(int(done.split()[0]), MIB)


def _run(command: Sequence[str], text: str = "") -> str:
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, env=_environment(), check=False
        )
    except OSError as error:
        raise Terminal(f"{command[0]} cannot be run: {error.strerror}.") from error
    if done.returncode:
        raise Terminal(f"{command[0]} failed: {_last_line(done.stderr or done.stdout)}.")
    return done.stdout


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line]
    return lines[-1][:300] if lines else "no message"


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("TMPDIR",) if name in os.environ}
    # A file system on a partition is not a multiple of mtools' idea of a floppy's tracks.
    return {"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8", "MTOOLS_SKIP_CHECK": "1", **kept}
