"""A real host in a real pool is asked to leave: its job ends there, and it takes no other."""

from __future__ import annotations

import pytest

from bench.world import deploy, until
from orchestrator.model import NodeState
from testbed.jobs import JobRequest
from testbed.main_job import MainJob


@pytest.mark.timeout(900)
def test_a_host_that_was_asked_to_leave_ends_its_job_and_goes(main_job: MainJob) -> None:
    deploy(main_job, "idle_time=10 s", "lifetime=1 h", "workers_maximum=1")
    main_job.cluster = main_job.submitter.submit(JobRequest("sleep 40; hostname"))
    main_job.submitter.wait_until_running(main_job.cluster)
    (node,) = main_job.nodes()
    main_job.server.vacuo("drain", node["uuid"])
    until(lambda: _phase(main_job, node["uuid"]) == NodeState.DRAINING, 60)
    told = main_job.server.vacuo("status", main_job.deployment).stdout
    assert "was asked to leave by" in " ".join(told.split())
    later = main_job.submitter.submit(JobRequest("hostname"))
    (job,) = main_job.submitter.wait(main_job.cluster)
    assert job.succeeded
    ((_, output),) = main_job.submitter.retrieve(main_job.cluster)
    assert output.strip() == node["uuid"]  # it ended where it began
    until(lambda: _phase(main_job, node["uuid"]) == NodeState.GONE, 120)
    (job,) = main_job.submitter.wait(later)
    assert job.succeeded
    ((_, output),) = main_job.submitter.retrieve(later)
    assert output.strip() != node["uuid"]  # a host that leaves takes nothing more
    main_job.server.login()
    main_job.down(print)
    assert main_job.summary.machines_left == 0


def _phase(job: MainJob, node: str) -> str:
    found = job.server.get(f"/deployments/{job.deployment}/resources/{node}")
    return str(found["phase"])
