"""The container engine that local hosts run on: found, configured, and kept answering.

Three ways to an engine, tried in this order: an endpoint that the configuration names; podman, with
a service and stores of our own; Docker where podman is absent.  The rest of Vacuo sees one
:class:`Engine` and speaks to it through docker-py, which both podman and dockerd understand.

What podman needs differs from machine to machine, so it is worked out from facts
(:func:`probe`, the only function here that looks) by a pure function (:func:`containers_conf`):
nothing is overridden that works as it comes.  The stores, networks and locks are always our own, so
that neither a person's ``podman system prune`` nor ours touches what belongs to the other.

From a shell::

    eval "$(python3 -m orchestrator.providers.container_engine --env)"   # then: podman ps
    python3 -m orchestrator.providers.container_engine --ping

Only the standard library is needed for that; docker-py is imported when a client is asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import ipaddress
import json
import os
import resource
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import Retryable, Terminal

if TYPE_CHECKING:
    import docker

DEFAULT_DIRECTORY = Path("/var/lib/vacuo/engine")
DIRECTORY_VARIABLE = "VACUO_ENGINE_DIRECTORY"
SHARED_IMAGES_IN_HOST = "/var/lib/shared-images"
NETWORK = "vacuo"
_CAP_SYS_RESOURCE = 24  # <linux/capability.h>
_START_SECONDS = 30.0
_REQUEST_SECONDS = 120.0


class EngineKind(StrEnum):
    PODMAN = "podman"
    DOCKER = "docker"


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


@dataclass(frozen=True)
class Engine:
    """An engine to connect to.

    ``environment`` is what a ``podman`` command needs to see the same containers; it is empty for
    an engine that somebody else runs.  ``shared_images`` is the image store that hosts mount.
    """

    kind: EngineKind
    endpoint: str  # unix:///… or tcp://…
    directory: Path
    environment: Mapping[str, str]
    managed: bool  # its service is started by us, and started again when it dies

    @property
    def shared_images(self) -> Path:
        return self.directory / "shared-images"

    @property
    def runtime_directory(self) -> Path:
        """Sockets, locks and run roots: on a file system that a reboot empties."""
        return _runtime_directory(self.directory)


# --- finding one ----------------------------------------------------------------------------------


def engine_directory(directory: Path | None = None) -> Path:
    """``directory``, or the one the environment names, or the default."""
    return directory or Path(os.environ.get(DIRECTORY_VARIABLE, str(DEFAULT_DIRECTORY)))


def find_engine(directory: Path | None = None, endpoint: str | None = None) -> Engine:
    """The engine to use, its configuration written but nothing started.

    :raises Terminal: there is neither podman nor Docker here, or podman cannot work as it is.
    """
    directory = engine_directory(directory)
    if endpoint:
        kind = EngineKind.DOCKER if "docker" in endpoint else EngineKind.PODMAN
        return Engine(kind, endpoint, directory, {}, managed=False)
    if shutil.which("podman"):
        environment = write_configuration(directory, probe())
        socket_path = _runtime_directory(directory) / "podman.sock"
        return Engine(EngineKind.PODMAN, f"unix://{socket_path}", directory, environment, True)
    docker_endpoint = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not docker_endpoint.startswith("unix://") or Path(docker_endpoint[7:]).is_socket():
        return Engine(EngineKind.DOCKER, docker_endpoint, directory, {}, managed=False)
    raise Terminal(
        "There is no container engine on this machine: podman is not installed and no Docker "
        "socket exists. Try: setup/bootstrap.sh, or apt-get install podman."
    )


def probe() -> MachineFacts:
    """Look at this machine."""
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
    )


def containers_conf(facts: MachineFacts, directory: Path, subnet: str) -> str:
    """The text of our ``containers.conf``: isolation always, the rest only where needed.

    :raises Terminal: no installed runtime can work with this machine's cgroups.
    """
    containers, engine = [], [
        f'tmp_dir = "{_runtime_directory(directory)}/libpod"',
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
runroot = "{_runtime_directory(directory)}/storage"
[storage.options]
additionalimagestores = ["{directory}/shared-images"]
"""


def write_configuration(directory: Path, facts: MachineFacts) -> Mapping[str, str]:
    """Write podman's configuration under ``directory``; the environment that points to it."""
    for name in ("storage", "shared-images", "networks"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    subnet = _recorded_subnet(directory)
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
    pool = ipaddress.ip_network("10.64.0.0/10")
    assert isinstance(pool, ipaddress.IPv4Network)
    candidates = list(pool.subnets(new_prefix=20))
    first = int(_digest(directory), 16) % len(candidates)
    for candidate in candidates[first:] + candidates[:first]:
        if not any(candidate.overlaps(other) for other in taken):
            return str(candidate)
    raise Terminal("No free subnet is left in 10.64.0.0/10 on this machine.")


# --- reaching it ----------------------------------------------------------------------------------


def connect(engine: Engine, timeout: float = _REQUEST_SECONDS) -> docker.DockerClient:
    """A client of ``engine``, whose service is started first if it is ours and does not answer.

    :raises Retryable: the engine does not answer.
    """
    import docker

    ensure_service(engine)
    try:
        # The version is named so that making a client makes no request.
        return docker.DockerClient(
            base_url=engine.endpoint, version="1.41", timeout=int(timeout), max_pool_size=32
        )
    except docker.errors.DockerException as error:
        raise Retryable(f"The container engine at {engine.endpoint} cannot be reached: {error}.")


def ensure_service(engine: Engine) -> None:
    """See that the engine answers; start its service, once per directory, where it is ours.

    :raises Retryable: it does not answer, or did not come up in time.
    """
    if answers(engine.endpoint):
        return
    if not engine.managed:
        raise Retryable(
            f"The container engine at {engine.endpoint} does not answer. "
            "Try: start it, or correct its endpoint in the configuration."
        )
    if not shutil.which("podman"):
        raise Retryable("podman is gone from this machine. Try: setup/bootstrap.sh.")
    with locked(engine.runtime_directory / "service.lock"):
        if not answers(engine.endpoint):
            _start_service(engine)


def answers(endpoint: str, timeout: float = 5.0) -> bool:
    """Whether an engine answers a ping at ``endpoint``."""
    try:
        connection = _connection(endpoint, timeout)
        with contextlib.closing(connection):
            connection.request("GET", "/_ping")
            return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; the kernel frees it when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        # A daemon started while the lock is held must not inherit it.
        os.set_inheritable(lock.fileno(), False)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start_service(engine: Engine) -> None:
    socket_path = Path(engine.endpoint.removeprefix("unix://"))
    socket_path.unlink(missing_ok=True)
    log_path = engine.directory / "service.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            ["podman", "system", "service", "--time=0", engine.endpoint],
            env={**os.environ, **engine.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it outlives whoever happened to start it
        )
    (engine.runtime_directory / "service.pid").write_text(str(process.pid), encoding="ascii")
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if answers(engine.endpoint, timeout=1.0):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    last = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    raise Retryable(
        f"podman's service did not come up ({' '.join(last) or 'no message'}). See {log_path}."
    )


def _connection(endpoint: str, timeout: float) -> HTTPConnection:
    scheme, _, rest = endpoint.partition("://")
    if scheme == "unix":
        connection = HTTPConnection("localhost", timeout=timeout)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(timeout)
        connection.sock.connect(rest)
        return connection
    return HTTPConnection(rest.rstrip("/"), timeout=timeout)


# --- small things ---------------------------------------------------------------------------------


def _digest(directory: Path) -> str:
    return hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:8]


def _runtime_directory(directory: Path) -> Path:
    # Also short: the path of a socket must fit into 108 bytes.
    return Path("/run/vacuo") / _digest(directory)


def _recorded_subnet(directory: Path) -> str:
    """The subnet chosen at the first run: it must not change while networks exist."""
    record = directory / "subnet"
    if not record.exists():
        _write_if_changed(record, free_subnet(directory, _routed_networks()) + "\n")
    return record.read_text(encoding="ascii").strip()


def _routed_networks() -> list[ipaddress.IPv4Network]:
    """Every network that this machine already has a route to, the default route apart."""
    networks = []
    for line in Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]:
        _, destination, _, _, _, _, _, mask = line.split()[:8]
        # The kernel prints both in its own byte order.
        address, netmask = (int.from_bytes(bytes.fromhex(word), "little") for word in (destination, mask))
        if netmask:
            networks.append(ipaddress.IPv4Network((address, netmask.bit_count())))
    return networks


def _write_if_changed(path: Path, text: str) -> None:
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)  # whoever reads it sees the old or the new, never a half


def main(arguments: Sequence[str] | None = None) -> int:
    """For shells: print the environment, the facts, or see that the service answers."""
    parser = argparse.ArgumentParser(
        prog="python3 -m orchestrator.providers.container_engine",
        description="The container engine that Vacuo's local hosts run on.",
    )
    parser.add_argument("--directory", type=Path, help=f"default: {DEFAULT_DIRECTORY}")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--env", action="store_true", help="print the environment, for eval")
    what.add_argument("--json", action="store_true", help="print what was found")
    what.add_argument("--ping", action="store_true", help="start the service if it is not there")
    chosen = parser.parse_args(arguments)
    try:
        engine = find_engine(chosen.directory)
        if chosen.ping:
            ensure_service(engine)
    except (Retryable, Terminal) as error:
        print(error, file=sys.stderr)
        return 1
    if chosen.env:
        for name, value in engine.environment.items():
            print(f"export {name}={shlex.quote(value)}")
    if chosen.json:
        found = {
            "kind": engine.kind,
            "endpoint": engine.endpoint,
            "directory": str(engine.directory),
            "runtime_directory": str(engine.runtime_directory),
            "shared_images": str(engine.shared_images),
            "environment": dict(engine.environment),
        }
        print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
