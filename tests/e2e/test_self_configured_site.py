"""A site whose hosts let nobody in: they configure themselves, and join a real pool."""

from __future__ import annotations

import io
import socket
import tarfile
import uuid
from collections.abc import Callable, Iterator

import pytest

from bench.world import deploy
from orchestrator.model import DeploymentId, EventKind
from orchestrator.providers.container_engine import connect, find_engine
from orchestrator.store.repository import Repository
from testbed.forward import forwarded
from testbed.jobs import JobRequest
from testbed.main_job import MainJob
from testbed.waiting import eventually


@pytest.fixture(scope="module")
def closed_image() -> Iterator[str]:
    """The image of hosts that configure themselves, with its sshd switched off."""
    client = connect(find_engine())
    repository = f"localhost/vacuo-e2e/closed-{uuid.uuid4().hex[:6]}"
    base = client.containers.create("localhost/vacuo/host-pull:current")
    try:
        off = io.BytesIO()
        with tarfile.open(fileobj=off, mode="w") as archive:
            link = tarfile.TarInfo("etc/systemd/system/ssh.service")
            link.type, link.linkname = tarfile.SYMTYPE, "/dev/null"
            archive.addfile(link)
            end = archive.offset + 2 * tarfile.BLOCKSIZE
        base.put_archive("/", off.getvalue()[:end])
        base.commit(repository, "latest")
    finally:
        base.remove(force=True, v=True)
    yield f"{repository}:latest"
    client.images.remove(f"{repository}:latest", force=True)


def audits(job: MainJob) -> list[str]:
    url = f"sqlite:///{job.server.directory / 'data' / 'vacuo.db'}"
    repository = Repository.open(url)
    try:
        events = repository.events(deployment=DeploymentId(job.deployment), kinds=[EventKind.AUDIT])
    finally:
        repository.close()
    return [event.message for event in events]


@pytest.mark.timeout(900)
def test_hosts_without_a_way_in_join_and_work_though_the_server_is_killed_meanwhile(
    make_job: Callable[[], MainJob], closed_image: str
) -> None:
    job = make_job()
    with forwarded(job.port) as port:
        site = {
            "configure": "pull",
            "pull_url": f"http://10.93.0.1:{port}",
            "images": {"default": closed_image},
        }
        job.start(print, site=site)
        job.server.login()
        deploy(job, "idle_time=10 s", "lifetime=1 h", "workers_maximum=1")
        job.cluster = job.submitter.submit(JobRequest("sleep 5"))
        eventually(
            lambda: any("fetched its bundle" in text for text in audits(job)), "a bundle handed out"
        )
        job.server.kill()
        (host,) = job.provider().list(None)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host.address, 22), timeout=10)
        job.server.start()
        job.submitter.wait(job.cluster)
        (done,) = job.submitter.jobs(job.cluster)
        assert done.succeeded
        # It is the same host: nobody had to begin again.
        assert len([text for text in audits(job) if text.endswith("enrolled")]) == 1
        eventually(lambda: not job.nodes(), "the end of the idle host")
        job.server.login()
        job.down(print)
    assert job.summary.machines_left == 0
