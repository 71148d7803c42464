"""A whole batch system from the shipped template: its users' jobs run on its own workers."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator import data
from orchestrator.providers.local import LocalProvider
from orchestrator.settings import load
from testbed.ports import free_port
from testbed.server import VacuoServer

TEMPLATE = data.directory("tosca-templates") / "batch-system.yaml"
INPUTS = (
    *("-p", "workers=1"),
    *("-p", "more_access_points=1"),
    *("-p", "users={alice: 20001}"),
    *("-p", "worker_memory=1 GiB"),
    *("-p", "manager_memory=1 GiB"),
    *("-p", "manager_disk=10 GB"),
)
JOB = (
    "executable = /bin/hostname",
    "transfer_executable = false",
    "should_transfer_files = yes",
    "output = out.$(Cluster)",
    "request_cpus = 1",
    "request_memory = 32",
    "request_disk = 1MB",
    "queue",
)
PATIENCE_SECONDS = 240.0


@pytest.mark.timeout(900)
def test_jobs_of_both_access_points_run_on_the_worker_and_nothing_is_left(tmp_path: Path) -> None:
    server = VacuoServer(tmp_path / "server", [], port=free_port()).start()
    try:
        server.login()
        made = server.json("up", str(TEMPLATE), "--wait", "--timeout", "600", *INPUTS)
        uuid = made["deployment"]["uuid"]
        nodes = {node["group"]: node for node in _nodes(server, uuid)}
        assert set(nodes) == {"manager", "access", "worker"}
        jobs = {group: _submit(server, nodes[group]) for group in ("manager", "access")}
        for group, job in jobs.items():
            assert _host_of(server, nodes[group], job) == nodes["worker"]["uuid"]
        _no_secret_is_shown(server, uuid)
        server.vacuo("down", uuid, "--now", "--wait")
        assert _nodes(server, uuid) == []
        assert _hosts(server) == []
    finally:
        server.stop()  # before the hosts, which it would make anew
        _remove_hosts(server)


def _submit(server: VacuoServer, access_point: dict[str, Any]) -> str:
    """The number of a job that the account ``alice`` has submitted, once the schedd answers."""
    lines = " ".join(shlex.quote(line) for line in JOB)
    script = f"cd /tmp && printf '%s\\n' {lines} | condor_submit -terse -"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (done := _in_pool(server, access_point, script, "--user alice"))[0] != 0:
        assert time.monotonic() < deadline, f"alice cannot submit: {done[1]}"
        time.sleep(1)
    return done[1].split()[0]


def _host_of(server: VacuoServer, access_point: dict[str, Any], job: str) -> str:
    """The node that the job ran on, when it has ended well."""
    look = f"condor_history {job} -limit 1 -af JobStatus ExitCode LastRemoteHost"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (shown := _in_pool(server, access_point, look)[1]).startswith("4 0 "):
        if time.monotonic() > deadline:
            why = _in_pool(server, access_point, "condor_status -any; condor_q -all -better")
            raise AssertionError(f"The job stands at {shown!r}. {why[1]}")
        time.sleep(1)
    slot = shown.split()[2]
    node = f"condor_status -constraint 'Name == \"{slot.replace('_1@', '@')}\"' -af VacuoNode"
    return _in_pool(server, access_point, node)[1]


def _in_pool(
    server: VacuoServer, node: dict[str, Any], script: str, options: str = ""
) -> tuple[int, str]:
    """Exit code and output of a script in the container of the pool's daemons on ``node``."""
    command = f"podman exec {options} vacuo-pool sh -c {shlex.quote(script)}"
    done = server.vacuo("ssh", node["uuid"], "--", command, check=False)
    return done.returncode, (done.stdout + (done.stderr if done.returncode else "")).strip()


def _no_secret_is_shown(server: VacuoServer, uuid: str) -> None:
    key = (server.directory / "data" / "own-pools" / "secret").stat()
    assert key.st_mode & 0o077 == 0
    shown = str(server.get(f"/deployments/{uuid}")) + str(_nodes(server, uuid)) + server.log()
    assert "eyJ" not in shown


def _nodes(server: VacuoServer, uuid: str) -> list[dict[str, Any]]:
    return list(server.get(f"/deployments/{uuid}/resources")["content"])


def _provider(server: VacuoServer) -> LocalProvider:
    settings = load(server.configuration_file)
    return LocalProvider(settings.sites[0], settings.data_directory)


def _hosts(server: VacuoServer) -> list[str]:
    """The hosts that the engine has for this server, whatever the server knows of them."""
    return [instance.name for instance in _provider(server).list(None)]


def _remove_hosts(server: VacuoServer) -> None:
    provider = _provider(server)
    for instance in provider.list(None):
        provider.delete(instance.id)
