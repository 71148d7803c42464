"""The main job on a real HTCondor pool, real hosts, real roles: as a user runs it."""

from __future__ import annotations

import pytest

from orchestrator.model import DeploymentStatus
from testbed.main_job import MainJob

JOBS = 8


@pytest.mark.timeout(600)
def test_jobs_bring_a_site_that_runs_them_and_vanishes(main_job: MainJob) -> None:
    main_job.post(print)
    assert main_job.nodes() == []  # nothing waits, so nothing is there
    main_job.submit(print, JOBS)
    main_job.follow(lambda: None)
    _a_person_can_look(main_job)
    main_job.vanish(lambda: None)
    main_job.down(print)
    summary = main_job.summary
    assert summary.jobs_done == JOBS
    assert summary.checksums_right == JOBS
    assert summary.machines_peak >= 2
    assert summary.machines_left == 0
    assert summary.unknown_instances == 0
    # Eight reads of four files: the first of each goes to the origin, and the caches have the rest
    # unless two first reads meet.
    assert summary.xcache_hits > 0
    assert summary.squid_hits > 0
    gone = main_job.server.get(f"/deployments/{main_job.deployment}")
    assert gone["status"] == DeploymentStatus.DELETE_COMPLETE
    assert not list(main_job.pool.signing_keys.glob(f"*{main_job.deployment}*"))
    _no_secret_in_what_was_written(main_job)


def _a_person_can_look(job: MainJob) -> None:
    """While machines are there: a shell on one, its log, and why it is as it is."""
    cache = next(node["uuid"] for node in job.nodes() if node["group"] == "cache")
    shell = job.server.vacuo("ssh", cache, "--", "hostname")
    assert shell.stdout.strip() == cache
    assert "squid" in job.server.vacuo("logs", cache).stdout
    assert "in service" in job.server.vacuo("explain", cache).stdout
    assert "worker" in job.server.vacuo("status", job.deployment).stdout


def _no_secret_in_what_was_written(job: MainJob) -> None:
    """Tokens are JWTs: none may stand in the server's log or in its events."""
    log = job.server.log()
    events = job.server.vacuo("--output", "json", "events", job.deployment, "-n", "1000").stdout
    for text in (log, events):
        assert "eyJ" not in text
