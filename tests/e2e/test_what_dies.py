"""What dies in real life: the server at each phase, the engine, the pool, the disk."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.world import deploy
from orchestrator.model import DeploymentId, NodeState
from orchestrator.providers.container_engine import Engine, find_engine
from orchestrator.store.repository import Repository
from testbed.jobs import JobRequest
from testbed.main_job import MainJob
from testbed.ports import free_port
from testbed.server import VACUO, VacuoServer

WORKERS = ("idle_time=10 s", "lifetime=1 h", "workers_maximum=1")
PHASES = (
    NodeState.REQUESTED,
    NodeState.BOOTING,
    NodeState.CONFIGURING,
    NodeState.JOINING,
    NodeState.JOINED,
    NodeState.DELETING,
)


@pytest.mark.timeout(900)
def test_server_killed_in_each_phase_goes_on_and_leaves_nothing(main_job: MainJob) -> None:
    deploy(main_job, *WORKERS)
    main_job.cluster = main_job.submitter.submit(JobRequest("sleep 15"))
    for phase in PHASES:
        _until(lambda phase=phase: _reached(main_job, phase), 240, 0.02)
        main_job.server.kill()
        main_job.server.start()
    main_job.submitter.wait(main_job.cluster)
    _until(lambda: not main_job.nodes(), 240)
    main_job.server.login()
    main_job.down(print)
    assert main_job.summary.machines_left == 0
    (job,) = main_job.submitter.jobs(main_job.cluster)
    assert job.succeeded
    made = [node["uuid"] for node in main_job.nodes(everything=True)]
    assert len(made) <= 2, f"A kill made machines twice: {made}"


def _reached(job: MainJob, phase: NodeState) -> bool:
    """Whether a node is in the phase or beyond it, as the store has it: no API is in the way."""
    url = f"sqlite:///{job.server.directory / 'data' / 'vacuo.db'}"
    repository = Repository.open(url)
    try:
        nodes = repository.nodes(DeploymentId(job.deployment), include_gone=True)
    finally:
        repository.close()
    order = list(NodeState)
    return any(order.index(node.state) >= order.index(phase) for node in nodes)


@pytest.mark.timeout(600)
def test_engine_gone_in_the_middle_deletes_nothing_and_goes_on(
    make_job: Callable[[], MainJob],
) -> None:
    job = make_job()
    engine = find_engine()
    service = _Service(engine, job.directory / "engine.sock")
    try:
        service.start()
        job.start(print, site={"endpoint": service.endpoint})
        job.server.login()
        deploy(job, *WORKERS)
        job.cluster = job.submitter.submit(JobRequest("sleep 20"))
        job.submitter.wait_until_running(job.cluster)
        service.stop()
        _until(lambda: "site-unreachable" in _codes(job), 60)
        (node,) = job.nodes()
        assert node["phase"] == NodeState.JOINED
        time.sleep(5)
        assert [there["uuid"] for there in job.nodes()] == [node["uuid"]]
        service.start()
        _until(lambda: "site-unreachable" not in _codes(job), 60)
        assert all(done.succeeded for done in job.submitter.wait(job.cluster))
        _until(lambda: not job.nodes(), 120)
        job.down(print)
        assert job.summary.machines_left == 0
    finally:
        service.start()
        job.stop()
        service.stop()


class _Service:
    """An API service of podman that this test may kill."""

    def __init__(self, engine: Engine, socket: Path) -> None:
        self._engine = engine
        self._socket = socket
        self.endpoint = f"unix://{socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._process:
            return
        self._socket.parent.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            ["podman", "system", "service", "--time=0", self.endpoint],
            env={**os.environ, **self._engine.environment},
            stdin=subprocess.DEVNULL,
        )
        _until(self._socket.exists, 30)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._socket.unlink(missing_ok=True)


@pytest.mark.timeout(600)
def test_up_while_the_pool_is_unreachable_waits_and_says_why(main_job: MainJob) -> None:
    main_job.pool.pause()
    deploy(main_job, *WORKERS)
    _until(lambda: "pool-unreachable" in _codes(main_job), 60)
    explained = main_job.server.vacuo("explain", main_job.deployment).stdout
    assert "does not answer" in explained
    assert main_job.nodes() == []
    main_job.pool.resume()
    _until(lambda: "pool-unreachable" not in _codes(main_job), 60)
    main_job.down(print)


@pytest.mark.timeout(300)
def test_second_server_on_one_database_says_why_it_will_not_start(
    make_job: Callable[[], MainJob],
) -> None:
    port, another = free_port(), free_port()
    first = VacuoServer(make_job().directory, [], port=port).start()
    try:
        configuration = first.configuration_file.read_text()
        second = first.directory / "second.yaml"
        second.write_text(configuration.replace(f":{port}", f":{another}"))
        done = subprocess.run(
            [VACUO, "server", "--config", str(second)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert "another" in done.stderr.lower()
        assert "Traceback" not in done.stderr
        first.login()
        assert first.get("/deployments")["content"] == []
    finally:
        first.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB of this test's own."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "vacuo-test", str(directory)]
    subprocess.run(mount, check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.mark.timeout(300)
def test_disk_full_leaves_no_half_written_deployment(small_disk: Path) -> None:
    server = VacuoServer(small_disk, [], port=free_port()).start()
    filler = small_disk / "filler"
    try:
        server.login()
        _fill(filler)
        refused = server.vacuo("up", "squid", check=False)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
        filler.unlink()
        assert server.get("/deployments")["content"] == []
        made = server.json("up", "squid")["deployment"]
        assert made["status"] == "CREATE_IN_PROGRESS"
        server.vacuo("down", made["uuid"], "--now", "--wait")
    finally:
        server.stop()


def _fill(path: Path) -> None:
    """Write until there is no room left."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


def _codes(job: MainJob) -> set[str]:
    found = job.server.get(f"/deployments/{job.deployment}")
    return {reason["code"] for reason in found["reasons"]}


def _until(condition: Callable[[], bool], seconds: float, pause: float = 0.2) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to pass within {seconds} s"
        time.sleep(pause)
