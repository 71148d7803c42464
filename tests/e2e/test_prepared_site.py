"""A prepared image, built by command while the server runs: it is planned with, and used."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator

import docker
import pytest

from bench.world import WORKERS, deploy
from orchestrator.providers.container_engine import connect, find_engine
from testbed.jobs import JobRequest
from testbed.main_job import POOL, MainJob
from testbed.waiting import eventually

# The template's NodeValidation looked before the startd started, and found nothing.
FOUND_FIT = """grep -q '^VacuoNodeAtStart = ""' "$_CONDOR_MACHINE_AD\""""


@pytest.fixture
def base() -> Iterator[str]:
    """The host image by a name of our own: no other server takes what is prepared on it."""
    name = f"localhost/vacuo-e2e/base-{uuid.uuid4().hex[:8]}"
    images = connect(find_engine()).images
    images.get("localhost/vacuo/host:current").tag(name, "current")
    yield f"{name}:current"
    images.remove(f"{name}:current")


@pytest.mark.timeout(900)
def test_a_built_image_is_in_the_plan_and_a_job_runs_on_a_host_of_it(
    make_job: Callable[[], MainJob], base: str
) -> None:
    main_job = make_job()
    main_job.start(print, site={"images": {"default": base}})
    server = main_job.server
    server.login()
    configuration = str(server.configuration_file)
    inputs = ("-p", f"pool={POOL}")
    built = server.json("image", "build", str(WORKERS), "--config", configuration, *inputs)
    (entry,) = built["images"]
    image = entry["image"]
    try:
        plan = ("--output", "json", "plan", str(WORKERS), *inputs)
        told = f"the prepared image {image} (its base is"
        # It has something to create, and says so by its exit code.
        eventually(lambda: told in server.vacuo(*plan, check=False).stdout, "a plan that says so")
        deploy(main_job, "idle_time=10 s", "lifetime=1 h", "workers_maximum=1")
        main_job.cluster = main_job.submitter.submit(JobRequest(f"{FOUND_FIT} && sleep 5"))
        (node,) = eventually(main_job.nodes, "a node")
        assert node["image"] == image
        main_job.submitter.wait(main_job.cluster)
        (job,) = main_job.submitter.jobs(main_job.cluster)
        assert job.succeeded
        eventually(lambda: not main_job.nodes(), "the end of the idle host")
        main_job.down(print)
    finally:
        with contextlib.suppress(docker.errors.APIError):
            connect(find_engine()).images.remove(image, force=True)
