"""XCache without Vacuo: its image, the compose file and the Kubernetes manifests, run for real."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from orchestrator.providers.container_engine import find_engine

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "xcache/kubernetes/xcache.yaml"
PATIENCE_SECONDS = 180.0
COMMAND_SECONDS = 120.0
COMPOSE = str(Path(sys.executable).parent / "podman-compose")
CANARY = b"a canary\n"


@dataclass(frozen=True)
class Podman:
    """The engine's command, and the image under test."""

    environment: dict[str, str]
    image: str
    name: str

    def __call__(self, *arguments: str, check: bool = True, **more: str) -> str:
        return self.run("podman", *arguments, check=check, **more)

    def run(self, *command: str, check: bool = True, **more: str) -> str:
        done = subprocess.run(
            command,
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout if done.returncode == 0 else ""

    def status(self, *arguments: str) -> tuple[int, str]:
        """Exit status and all that was written."""
        done = subprocess.run(
            ["podman", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        return done.returncode, done.stdout


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """The image as the Containerfile makes it, on the base that needs no package source."""
    name = f"vacuo-xc-{uuid.uuid4().hex[:6]}"
    image = f"localhost/{name}:latest"
    environment = {**os.environ, **find_engine().environment}
    made = Podman(environment, image, name)
    made(
        *("build", "--build-arg", "BASE=localhost/vacuo/services:current"),
        *("--file", str(ROOT / "xcache/Containerfile"), "--tag", image, str(ROOT)),
    )
    try:
        yield made
    finally:
        made("rmi", "--force", image, check=False)


def healthy(podman: Podman, container: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        status, told = podman.status("exec", container, "vacuo-xcache", "check")
        if status == 0:
            return
        if time.monotonic() > deadline:
            log = podman.status("logs", "--tail", "30", container)[1]
            raise AssertionError(f"{container} did not become healthy: {told}\n{log}")
        time.sleep(0.3)


@pytest.fixture(scope="module")
def cluster(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The compose file's services, healthy, over files of ours; the project's name."""
    files = tmp_path_factory.mktemp("files") / "files"
    (files / "data").mkdir(parents=True)
    (files / "data" / "canary").write_bytes(CANARY)
    for number in range(4):
        (files / "data" / f"file-{number}").write_bytes(os.urandom(1 << 20))
    for path in (*files.parents[:1], files, *files.rglob("*")):
        path.chmod(0o755)
    podman.environment.update(
        XCACHE_IMAGE=podman.image,
        XCACHE_BASE="localhost/vacuo/services:current",
        XCACHE_FILES=str(files),
        XCACHE_CANARY_PATH="/data/canary",
        XCACHE_CANARY_SHA256=hashlib.sha256(CANARY).hexdigest(),
    )
    project = [COMPOSE, "--file", str(ROOT / "xcache/compose.yaml"), "--project-name", podman.name]
    try:
        podman.run(*project, "up", "--detach")
        for service in ("origin", "redirector", "cache-1", "cache-2"):
            healthy(podman, f"{podman.name}_{service}_1")
        yield podman.name
    finally:
        podman.run(*project, "down", "--volumes", "--timeout", "10", check=False)


def read(podman: Podman, cluster: str, path: str, host: str = "redirector") -> bytes:
    done = subprocess.run(
        [
            *("podman", "exec", f"{cluster}_client_1", "timeout", "60", "xrdcp"),
            *("--silent", "--nopbar", f"root://{host}//{path.lstrip('/')}", "-"),
        ],
        env=podman.environment,
        capture_output=True,
        timeout=COMMAND_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_at_last(podman: Podman, cluster: str, path: str) -> bytes:
    """What is read within a few tries: a client may be sent on while a cache still writes."""
    for _ in range(3):
        with contextlib.suppress(AssertionError):
            return read(podman, cluster, path)
    return read(podman, cluster, path)


def opened(podman: Podman, cluster: str, path: str) -> int:
    log = podman.status("logs", f"{cluster}_origin_1")[1]
    return sum(line.endswith(f"fn={path}") for line in log.splitlines() if "ofs_open" in line)


def test_a_client_reads_through_the_redirector_and_the_origin_is_asked_once(
    podman: Podman, cluster: str
) -> None:
    files = Path(podman.environment["XCACHE_FILES"])
    for _ in range(2):
        for number in range(4):
            path = f"/data/file-{number}"
            assert read(podman, cluster, path) == (files / path[1:]).read_bytes()
            assert opened(podman, cluster, path) == 1


def test_http_clients_are_sent_to_a_cache_and_get_the_bytes_they_ask_for(
    podman: Podman, cluster: str
) -> None:
    files = Path(podman.environment["XCACHE_FILES"])
    url = "http://redirector:1094/data/file-1"
    told = podman(
        *("exec", f"{cluster}_client_1", "sh", "-c"),
        f"curl -s -L -r 100-199 -w '%{{http_code}}' -o /tmp/part {url} && sha256sum < /tmp/part",
    )
    part = (files / "data/file-1").read_bytes()[100:200]
    assert told.split()[0] == f"206{hashlib.sha256(part).hexdigest()}"


def test_what_was_read_is_served_without_the_origin(podman: Podman, cluster: str) -> None:
    files = Path(podman.environment["XCACHE_FILES"])
    expected = read(podman, cluster, "/data/file-2")
    podman("stop", "--time", "10", f"{cluster}_origin_1")
    try:
        assert read_at_last(podman, cluster, "/data/file-2") == expected
    finally:
        podman("start", f"{cluster}_origin_1")
        healthy(podman, f"{cluster}_origin_1")
    assert expected == (files / "data/file-2").read_bytes()


def test_a_container_whose_daemon_dies_ends_and_says_why(podman: Podman, cluster: str) -> None:
    for service, daemon in (("redirector", "cmsd"), ("cache-1", "xrootd")):
        container = f"{cluster}_{service}_1"
        before = podman("inspect", "--format", "{{.State.StartedAt}}", container)
        podman("exec", container, "pkill", "-KILL", "-x", daemon)
        deadline = time.monotonic() + PATIENCE_SECONDS
        # The compose file starts it again.
        while podman("inspect", "--format", "{{.State.StartedAt}}", container) == before:
            assert time.monotonic() < deadline, f"{container} goes on without its {daemon}"
            time.sleep(0.3)
        healthy(podman, container)
        log = podman.status("logs", container)[1]
        assert f"{daemon} ended with status -9, so all ends" in log


def test_a_stopped_daemon_is_not_live(podman: Podman, cluster: str) -> None:
    container = f"{cluster}_cache-2_1"
    healthy(podman, container)
    for daemon in ("cmsd", "xrootd"):
        podman("exec", container, "pkill", "-STOP", "-x", daemon)
        status, told = podman.status("exec", container, "vacuo-xcache", "check", "--live")
        podman("exec", container, "pkill", "-CONT", "-x", daemon)
        assert (status, f"{daemon} is dead or stopped" in told) == (1, True), told


# --- one container with a small disk --------------------------------------------------------------


def test_a_full_disk_and_a_wrong_canary_are_not_well(podman: Podman, cluster: str) -> None:
    name = f"{podman.name}-small"
    podman(
        *("run", "--detach", "--name", name, "--network", f"{cluster}_default"),
        *("--tmpfs", "/data/xrd:rw,size=64m", "--env", "ORIGIN_HOST=origin"),
        *("--env", "XCACHE_CANARY_PATH=/data/canary"),
        *("--env", f"XCACHE_CANARY_SHA256={hashlib.sha256(CANARY).hexdigest()}", podman.image),
    )
    try:
        healthy(podman, name)
        podman("exec", name, "sh", "-c", "head -c 99000000 /dev/zero > /data/xrd/full || true")
        assert podman.status("exec", name, "vacuo-xcache", "check", "--live")[0] == 0
        status, told = podman.status("exec", name, "vacuo-xcache", "check")
        assert (status, "the disk of /data/xrd is full" in told) == (1, True), told
        podman("exec", name, "rm", "/data/xrd/full")
        healthy(podman, name)
        corrupt = "printf 'a Canary\\n' > $(readlink -f /data/xrd/namespace/data/canary)"
        podman("exec", name, "sh", "-c", corrupt)
        status, told = podman.status("exec", name, "vacuo-xcache", "check")
        assert (status, "SHA-256 is not the expected one" in told) == (1, True), told
    finally:
        podman("rm", "--force", "--volumes", "--time", "0", name, check=False)


def test_a_complete_configuration_is_run_as_it_is(
    podman: Podman, cluster: str, tmp_path: Path
) -> None:
    file = tmp_path / "own.cfg"
    rendered = podman(
        *("run", "--rm", "--env", "ORIGIN_HOST=origin", "--env", "XCACHE_LISTEN_PORT=1195"),
        *(podman.image, "render"),
    )
    file.write_text(rendered.replace("pfc.blocksize 512k", "pfc.blocksize 128k"))
    name = f"{podman.name}-own"
    podman(
        *("run", "--detach", "--name", name, "--network", f"{cluster}_default"),
        *("--volume", f"{file}:/own.cfg:ro", podman.image, "run", "--config", "/own.cfg"),
    )
    try:
        healthy(podman, name)
        expected = (Path(podman.environment["XCACHE_FILES"]) / "data/file-3").read_bytes()
        assert read(podman, cluster, "/data/file-3", f"{name}:1195") == expected
        assert "pfc.blocksize 131072" in podman.status("logs", name)[1]
    finally:
        podman("rm", "--force", "--volumes", "--time", "0", name, check=False)


# --- Kubernetes -----------------------------------------------------------------------------------


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(MANIFESTS.read_text()))


def test_the_manifests_are_what_kubernetes_takes() -> None:
    for manifest in manifests():
        kubernetes_validate.validate(manifest, "1.30", strict=True)


def test_every_pod_is_looked_after_by_probes_that_can_fail() -> None:
    for manifest in manifests():
        if manifest["kind"] == "Deployment":
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            assert container["livenessProbe"]["exec"]["command"] == [
                *("vacuo-xcache", "check", "--live")
            ]
            assert container["readinessProbe"]["exec"]["command"] == ["vacuo-xcache", "check"]


def test_the_manifests_run(podman: Podman, cluster: str, tmp_path: Path) -> None:
    """Podman plays a Deployment's pods, without its services; what runs in them is the same."""
    played = []
    for manifest in manifests():
        if manifest["kind"] == "Service":
            continue  # podman knows none
        if manifest["kind"] == "ConfigMap":
            manifest["data"] |= {"ORIGIN_HOST": "origin", "REDIR_HOST": "redirector"}
            manifest["metadata"]["name"] = podman.name
        else:
            spec = manifest["spec"]["template"]["spec"]
            manifest["metadata"]["name"] += podman.name.removeprefix("vacuo-xc")
            spec["containers"][0] |= {"image": podman.image, "imagePullPolicy": "Never"}
            for source in spec["containers"][0].get("envFrom", []):
                source["configMapRef"]["name"] = podman.name
        played.append(manifest)
    file = tmp_path / "played.yaml"
    file.write_text(yaml.safe_dump_all(played))
    try:
        podman("kube", "play", "--network", f"{cluster}_default", str(file))
        listed = json.loads(podman("ps", "--all", "--format", "json"))
        names = [
            name
            for one in listed
            for name in one["Names"]
            if podman.name.removeprefix("vacuo-xc-") in name and not one["IsInfra"]
            if name.endswith(("-redirector", "-cache"))
        ]
        assert len(names) == 3, names
        for name in names:
            healthy(podman, name)
    finally:
        podman("kube", "down", str(file), check=False)
