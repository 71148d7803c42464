"""The container engine that local hosts run on: found, configured, and kept answering.

Three ways to an engine, tried in this order: an endpoint that the configuration names; podman, with
a service and stores of our own; Docker where podman is absent.  The rest of Vacuo sees one
:class:`Engine` and speaks to it through docker-py, which both podman and dockerd understand.

From a shell::

    eval "$(python3 -m orchestrator.providers.container_engine --env)"   # then: podman ps
    python3 -m orchestrator.providers.container_engine --ping

Only the standard library is needed for that; docker-py is imported when a client is asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
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
from orchestrator.providers.podman_configuration import (
    probe,
    runtime_directory,
    write_configuration,
)

if TYPE_CHECKING:
    import docker

DEFAULT_DIRECTORY = Path("/var/lib/vacuo/engine")
DIRECTORY_VARIABLE = "VACUO_ENGINE_DIRECTORY"
SHARED_IMAGES_IN_HOST = "/var/lib/shared-images"
_START_SECONDS = 30.0
_REQUEST_SECONDS = 120.0


class EngineKind(StrEnum):
    PODMAN = "podman"
    DOCKER = "docker"


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
        return runtime_directory(self.directory)


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
        environment = write_configuration(directory, probe(directory))
        socket_path = runtime_directory(directory) / "podman.sock"
        return Engine(EngineKind.PODMAN, f"unix://{socket_path}", directory, environment, True)
    docker_endpoint = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not docker_endpoint.startswith("unix://") or Path(docker_endpoint[7:]).is_socket():
        return Engine(EngineKind.DOCKER, docker_endpoint, directory, {}, managed=False)
    raise Terminal(
        "There is no container engine on this machine: podman is not installed and no Docker "
        "socket exists. Try: setup/bootstrap.sh, or apt-get install podman."
    )


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
        raise Retryable(f"The container engine at {engine.endpoint} cannot be reached.") from error


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


def was_refused(error: BaseException) -> bool:
    """Whether the connection was never made, so that nothing can have been asked for."""
    seen: list[object] = [error]
    for one in seen:
        if isinstance(one, ConnectionRefusedError | FileNotFoundError):
            return True
        if isinstance(one, BaseException):
            # Not __context__: a second try is made while the first one's refusal is being handled.
            seen += [*one.args, one.__cause__, getattr(one, "reason", None)]
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


# --- for shells -----------------------------------------------------------------------------------


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
