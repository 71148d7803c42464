"""What podman needs on this machine, as files of our own.

What that is differs from machine to machine, so it is worked out from facts (:func:`probe`, which
only looks) by pure functions: nothing is overridden that works as it comes.  The stores, networks
and locks are always our own, so that neither a person's ``podman system prune`` nor ours touches
what belongs to the other.  Only the standard library is needed.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import resource
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import Terminal

_CAP_SYS_RESOURCE = 24  # <linux/capability.h>


@dataclass(frozen=True)
class MachineFacts:
    """What decides how podman must be set up here.

    ``hard_limits`` are what podman may give (open files, processes); None stands for no limit.
    """

    unified_cgroups: bool
    systemd: bool
    may_raise_limits: bool
    hard_limits: tuple[int | None, int | None]
    runtimes: frozenset[str]  # of crun and runc, those installed
    on_overlay: bool = False  # the stores' directory lies on an overlay file system


def probe(directory: Path) -> MachineFacts:
    """Look at this machine, and at the file system that ``directory`` is or will be on."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    # Podman lowers its own limit to the highest process id, and cannot raise it again.
    highest = int(Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii"))
    if processes == resource.RLIM_INFINITY or processes > highest:
        processes = highest
    return MachineFacts(
        unified_cgroups=Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        systemd=Path("/run/systemd/system").is_dir(),
        may_raise_limits=bool(int(effective.split()[1], 16) >> _CAP_SYS_RESOURCE & 1),
        hard_limits=(None if files == resource.RLIM_INFINITY else files, processes),
        runtimes=frozenset(name for name in ("crun", "runc") if shutil.which(name)),
        on_overlay=_file_system(directory) == "overlay",
    )


def containers_conf(facts: MachineFacts, directory: Path, subnet: str) -> str:
    """The text of our ``containers.conf``: isolation always, the rest only where needed.

    :raises Terminal: no installed runtime can work with this machine's cgroups.
    """
    containers: list[str] = []
    engine = [
        f'tmp_dir = "{runtime_directory(directory)}/libpod"',
        # Locks in shared memory are one pool for all podmans of a machine, and the first start of
        # one frees those of the others.
        'lock_type = "file"',
    ]
    if not facts.may_raise_limits:
        # Podman asks for more than the hard limits, and the container then fails to start.
        named = zip(("nofile", "nproc"), facts.hard_limits, strict=True)
        limits = [f'"{name}={limit}:{limit}"' for name, limit in named if limit is not None]
        containers.append(f"default_ulimits = [{', '.join(limits)}]")
    if not facts.systemd:
        containers.append('log_driver = "k8s-file"')
        engine += ['cgroup_manager = "cgroupfs"', 'events_logger = "file"']
    if not facts.unified_cgroups:
        if "runc" not in facts.runtimes:
            raise Terminal(
                "This machine has cgroups of version 1, which crun refuses, and runc is not "
                "installed. Try: apt-get install runc."
            )
        engine.append('runtime = "runc"')
    network = [
        'network_backend = "netavark"',
        f'network_config_dir = "{directory}/networks"',
        f'default_subnet = "{subnet}"',
    ]
    sections = {"containers": containers, "engine": engine, "network": network}
    lines = ["# Written by Vacuo from what it found on this machine; changes are overwritten."]
    for name, settings in sections.items():
        lines += ["", f"[{name}]", *settings]
    return "\n".join(lines) + "\n"


def storage_conf(directory: Path) -> str:
    """The text of our ``storage.conf``: stores of our own, and the store that hosts share."""
    return f"""# Written by Vacuo; changes are overwritten.
[storage]
driver = "overlay"
graphroot = "{directory}/storage"
runroot = "{runtime_directory(directory)}/storage"
[storage.options]
additionalimagestores = ["{directory}/shared-images"]
"""


def write_configuration(directory: Path, facts: MachineFacts) -> Mapping[str, str]:
    """Write podman's configuration under ``directory``; the environment that points to it.

    :raises Terminal: podman cannot work there.
    """
    if facts.on_overlay:
        raise Terminal(
            f"{directory} lies on an overlay file system, as in a container, and podman cannot "
            "keep its stores on one. Try: set VACUO_ENGINE_DIRECTORY to a directory on a volume."
        )
    for name in ("storage", "shared-images", "networks"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    subnet = recorded_subnet(directory)
    files = {
        "containers.conf": containers_conf(facts, directory, subnet),
        "storage.conf": storage_conf(directory),
    }
    for name, text in files.items():
        _write_if_changed(directory / name, text)
    return {
        "CONTAINERS_CONF": str(directory / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(directory / "storage.conf"),
        "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
    }


def free_subnet(directory: Path, taken: Sequence[ipaddress.IPv4Network]) -> str:
    """A /20 of 10.64.0.0/10 that overlaps none of ``taken``; where the search begins depends on
    ``directory``, so that two installations seldom meet."""
    pool = ipaddress.IPv4Network("10.64.0.0/10")
    candidates = list(pool.subnets(new_prefix=20))
    first = int(_digest(directory), 16) % len(candidates)
    for candidate in candidates[first:] + candidates[:first]:
        if not any(candidate.overlaps(other) for other in taken):
            return str(candidate)
    raise Terminal("No free subnet is left in 10.64.0.0/10 on this machine.")


def _digest(directory: Path) -> str:
    return hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:8]


def runtime_directory(directory: Path) -> Path:
    # Also short: the path of a socket must fit into 108 bytes.
    return Path("/run/vacuo") / _digest(directory)


def recorded_subnet(directory: Path) -> str:
    """The subnet chosen at the first run: it must not change while networks exist."""
    record = directory / "subnet"
    if not record.exists():
        _write_if_changed(record, free_subnet(directory, routed_networks()) + "\n")
    return record.read_text(encoding="ascii").strip()


def routed_networks() -> list[ipaddress.IPv4Network]:
    """Every network that this machine already has a route to, the default route apart."""
    networks = []
    for line in Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]:
        _, destination, _, _, _, _, _, mask = line.split()[:8]
        # The kernel prints both in its own byte order.
        address, netmask = (
            int.from_bytes(bytes.fromhex(word), "little") for word in (destination, mask)
        )
        if netmask:
            networks.append(ipaddress.IPv4Network((address, netmask.bit_count())))
    return networks


def _file_system(directory: Path) -> str:
    """The type of the file system that ``directory`` is or will be on."""
    types = {}
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, place, kind = line.split()[:3]
        types[place] = kind  # the last mount on a place is the one that shows
    above = (directory.absolute(), *directory.absolute().parents)
    return next((types[str(path)] for path in above if str(path) in types), "")


def _write_if_changed(path: Path, text: str) -> None:
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)  # whoever reads it sees the old or the new, never a half
