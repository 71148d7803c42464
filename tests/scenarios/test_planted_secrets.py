"""Marked secrets in everything that a person gives to a real server, and a look at all it wrote."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_command_line import CONFIGURATION, PATIENCE, Desk

from orchestrator.store.repository import Repository
from testbed.ports import free_port

PASSWORD, NESTED, CLOUD = "marked-password-äö", "marked-nested-secret", "marked-cloud-secret"
MASTER = base64.b64encode(b"marked master key, 32 bytes long").decode()
OTHER = base64.b64encode(b"another master key, as long as 1").decode()

TEMPLATE = """\
tosca_definitions_version: tosca_simple_yaml_1_3
imports: [vacuo/types.yaml]
topology_template:
  inputs:
    door_password: {type: string}
    innocent: {type: string, metadata: {secret: true}}
  node_templates:
    host:
      type: vacuo.nodes.Host
      capabilities:
        host: {properties: {num_cpus: 1, mem_size: 1 GiB, disk_size: 10 GB}}
    containers:
      type: vacuo.nodes.ContainerRuntime
      requirements: [{host: host}]
    worker:
      type: vacuo.nodes.HTCondor.Execute
      properties:
        pool: demo
        job_environment:
          DOOR: {get_input: door_password}
          URL: {concat: ["https://me:", {get_input: innocent}, "@host/"]}
      requirements: [{host: containers}]
  policies:
    - one:
        type: vacuo.policies.Vacuum
        targets: [host]
        properties: {minimum: 1, maximum: 1, idle_time: 1 d, lifetime: 2 d}
  outputs:
    door: {value: {get_input: door_password}}
"""


class Marked(Desk):
    """A server whose master key is in its environment."""

    log: Path

    def serve(self) -> subprocess.Popen[bytes]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.home / "tmp"),
            "VACUO_MASTER_KEY": MASTER,
        }
        words = ["server", "start", "--config", str(self.configuration)]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "orchestrator.cli.main", *words],
                env=environment,
                cwd=self.home,
                stdout=log,
                stderr=log,
            )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Marked]:
    with served(tmp_path, CONFIGURATION) as made:
        yield made


@contextmanager
def served(tmp_path: Path, text: str) -> Iterator[Marked]:
    """A real server, whose configuration is ``text``."""
    port = free_port()
    (tmp_path / "tmp").mkdir()
    configuration = tmp_path / "server.yaml"
    configuration.write_text(text.format(data=tmp_path / "data", port=port))
    made = Marked(tmp_path, f"http://127.0.0.1:{port}", configuration)
    made.log = tmp_path / "server.log"
    server = made.serve()
    try:
        eventually(lambda: "✓ engine" in made.run("doctor")[1], made.log)
        yield made
    finally:
        server.terminate()
        try:
            server.wait(PATIENCE)
        finally:
            server.kill()


def eventually(look: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.2)


def processes() -> dict[int, int]:
    """Every process and its parent."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
            except OSError:
                continue
            found[int(entry.name)] = int(status.rpartition(")")[2].split()[1])
    return found


def below(top: int) -> list[int]:
    parents = processes()
    family = [top]
    for pid in family:
        family += [child for child, parent in parents.items() if parent == pid]
    return family


def told_to(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def forms(text: str) -> list[bytes]:
    raw = text.encode()
    escaped = json.dumps(text)[1:-1].encode()
    return [raw, escaped, base64.b64encode(raw), raw.hex().encode()]


@pytest.mark.timeout(600)
def test_nothing_that_the_server_wrote_or_started_has_a_secret(desk: Marked) -> None:
    desk.login()
    outside = desk.home / "given"  # what the person has: it is not looked at
    outside.mkdir()
    template, parameters = outside / "site.yaml", outside / "parameters.yaml"
    template.write_text(TEMPLATE)
    parameters.write_text(json.dumps({"door_password": PASSWORD, "innocent": NESTED}))
    ec2 = outside / "ec2.yaml"
    ec2.write_text(json.dumps({"access_key_id": "AKIA", "secret_access_key": CLOUD}))

    told = [desk.ok("credentials", "add", "ec2", "aws", "--file", str(ec2))]
    told.append(desk.ok("up", str(template), "--parameters", str(parameters), "--wait"))
    (server,) = [
        pid
        for pid, parent in processes().items()
        if parent == os.getpid() and b"server.yaml" in told_to(pid, "cmdline")
    ]
    family = below(server)
    assert len(family) > 1
    secrets = [PASSWORD, NESTED, CLOUD]
    for pid in family:
        arguments = told_to(pid, "cmdline")
        assert not any(secret.encode() in arguments for secret in [*secrets, MASTER])
    # The server's own processes have the key; whatever else they start has not.
    others = [pid for pid in family if b"orchestrator.cli.main" not in told_to(pid, "cmdline")]
    assert not any(MASTER.encode() in told_to(pid, "environ") for pid in others)

    (id,) = re.findall(r"[0-9a-f-]{36}", desk.ok("list", "-o", "name"))
    for words in (
        ("show", id),
        ("status", id),
        ("explain", id),
        ("logs", id),
        ("events",),
        ("list",),
        ("credentials", "list"),
        ("plan", str(template), "--parameters", str(parameters)),
    ):
        for form in ((), ("-o", "json")):
            code, output, errors = desk.run(*words, *form)
            assert code in (0, 2), errors  # 2: a plan has something to do
            told += [output, errors]
    told.append(desk.ok("down", id, "--wait"))

    written = [
        path for path in desk.home.rglob("*") if path.is_file() and outside not in path.parents
    ]
    assert {"vacuo.db", "vacuo.db-wal", "server.log"} <= {path.name for path in written}
    assert not any(path.name.startswith("core") for path in written)
    content = b"\0".join(path.read_bytes() for path in written) + "".join(told).encode()
    for secret in [*secrets, MASTER]:
        for form in forms(secret):
            assert form not in content, secret
    assert not (desk.home / "data" / "master-keys").exists()


@pytest.mark.timeout(600)
def test_a_key_is_rotated_while_the_server_runs(desk: Marked) -> None:
    """With a key that is given, the rotation is told both; secrets survive it."""
    desk.login()
    file = desk.home / "ssh.yaml"
    file.write_text(json.dumps({"private_key": NESTED}))
    desk.ok("credentials", "add", "ssh", "hosts", "--file", str(file))
    environment = {
        "PATH": os.environ["PATH"],
        "VACUO_MASTER_KEY": OTHER,
        "VACUO_MASTER_KEY_OLD": MASTER,
    }
    words = ["server", "rotate-key", "--config", str(desk.configuration)]
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli.main", *words],
        env=environment,
        cwd=desk.home,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert b"1 secrets" in done.stdout
    repository = Repository.open(f"sqlite:///{desk.home / 'data' / 'vacuo.db'}")
    try:
        (row,) = repository.secrets.sealed_otherwise((), 10)
    finally:
        repository.close()
    assert row.place.name == "credential hosts"
    desk.ok("credentials", "list")
