"""Machines come because jobs wait, and go when there is nothing left to do."""

from __future__ import annotations

from pathlib import Path

from story import CACHE, ID, WORKER, Story, cache, workers

from orchestrator.model import DeploymentStatus, NodeState, Patience
from orchestrator.settings import SiteLimits


def test_no_jobs_no_machines(tmp_path: Path) -> None:
    story = Story(tmp_path, workers())
    for _ in range(20):
        story.tick()
    assert story.peak == 0
    assert story.deployment.status is DeploymentStatus.CREATE_COMPLETE


def test_jobs_bring_machines_that_work_and_leave(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=4))
    story.world.submit(8, cores=1, seconds=30)
    story.until(story.all_done)
    story.until(story.empty)
    assert story.peak == 4
    assert all(node.reason and node.reason.code == "left-the-pool" for node in story.all_nodes())


def test_a_machine_is_asked_for_in_the_first_pass_after_a_job_came(tmp_path: Path) -> None:
    story = Story(tmp_path, workers())
    story.tick()
    story.world.submit(1)
    story.tick()
    assert len(story.nodes(WORKER)) == 1


def test_only_as_many_machines_as_the_jobs_fill(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=10))
    story.world.submit(3, cores=1, seconds=60)  # two cores a machine: two machines
    story.until(lambda: story.joined() == 2)
    story.until(story.all_done)
    assert story.peak == 2


def test_jobs_that_fit_no_machine_bring_none(tmp_path: Path) -> None:
    story = Story(tmp_path, workers())
    story.world.submit(3, cores=16)
    for _ in range(10):
        story.tick()
    assert story.peak == 0


def test_never_above_the_maximum_and_it_says_so(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=2))
    story.world.submit(100, seconds=5)
    story.until(lambda: story.joined() == 2)
    story.tick()
    assert story.peak == 2
    assert "at-maximum" in story.codes()


def test_never_above_the_sites_quota_and_it_says_so(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=9), limits=SiteLimits(cores=5))
    story.world.submit(100, seconds=60)
    story.until(lambda: story.joined() == 2)
    story.tick()
    assert story.peak == 2
    assert "quota-exhausted" in story.codes()


def test_a_promised_floor_is_kept(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(minimum=1))
    story.until(lambda: story.deployment.status is DeploymentStatus.CREATE_COMPLETE)
    assert story.joined() == 1
    for _ in range(200):
        story.tick()
        assert len(story.nodes(WORKER)) == 1
    assert len(story.all_nodes()) == 1  # and it stayed the same one


def test_caches_come_with_the_workers_and_outlive_them(tmp_path: Path) -> None:
    story = Story(tmp_path, _using_cache(), cache())
    story.world.submit(2, seconds=20)
    story.until(lambda: story.joined(CACHE) == 1 and story.joined(WORKER) == 1)
    story.until(lambda: not story.nodes(WORKER))
    assert story.nodes(CACHE)  # the workers' end comes first
    story.until(story.empty)


def test_workers_wait_for_the_address_of_their_cache(tmp_path: Path) -> None:
    story = Story(tmp_path, _using_cache(), cache())
    story.world.submit(1)
    story.world.faults.boot_fails = 0.0
    for _ in range(30):
        story.tick()
        configured = [n for n in story.nodes(WORKER) if n.state is NodeState.CONFIGURING]
        assert not configured or any(node.address for node in story.nodes(CACHE))


def test_a_machine_at_its_lifetime_finishes_its_job_first(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=1, lifetime_seconds=60))
    (job,) = story.world.submit(1, seconds=120)
    story.until(lambda: job.started_at is not None)
    first = job.node
    story.until(lambda: any(n.state is NodeState.DRAINING for n in story.nodes()))
    story.until(story.all_done)
    assert job.node == first
    assert job.tries == 1


def test_a_machine_whose_startd_will_not_leave_is_ended_by_the_loop(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=1, idle_seconds=10))
    story.world.submit(1, seconds=5)
    story.until(lambda: story.joined() == 1)
    for host in story.world.hosts.values():
        host.idle_seconds = 0  # it never leaves by itself
    story.until(story.empty)


def test_deletion_waits_for_running_jobs(tmp_path: Path) -> None:
    story = Story(tmp_path, workers())
    (job,) = story.world.submit(1, seconds=100)
    story.until(lambda: job.started_at is not None)
    story.delete()
    story.until(lambda: story.deployment.status is DeploymentStatus.DELETE_COMPLETE)
    assert job.finished_at is not None
    assert job.tries == 1
    assert story.empty()
    assert ID in story.world.revoked


def test_forced_deletion_does_not_wait(tmp_path: Path) -> None:
    story = Story(tmp_path, workers())
    (job,) = story.world.submit(1, seconds=10_000)
    story.until(lambda: job.started_at is not None)
    story.delete(forced=True)
    story.until(lambda: story.deployment.status is DeploymentStatus.DELETE_COMPLETE, most=30)
    assert story.empty()


def test_deletion_has_a_deadline_for_jobs_that_never_end(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(), patience=Patience(drain_seconds=60))
    (job,) = story.world.submit(1, seconds=10_000)
    story.until(lambda: job.started_at is not None)
    story.delete()
    story.until(lambda: story.deployment.status is DeploymentStatus.DELETE_COMPLETE, most=200)
    assert story.empty()


def test_deletion_while_a_machine_is_being_asked_for_leaves_nothing(tmp_path: Path) -> None:
    story = Story(tmp_path, workers())
    story.world.faults.listing_lags_seconds = 10
    story.world.submit(4)
    story.tick()
    story.delete()
    story.until(lambda: story.deployment.status is DeploymentStatus.DELETE_COMPLETE)
    assert story.empty()


def test_an_update_that_lowers_the_maximum_drains_the_surplus(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=3))
    jobs = story.world.submit(6, seconds=60)
    story.until(lambda: story.joined() == 3)
    story.update(workers(maximum=1))
    story.until(lambda: len(story.nodes()) == 1)
    assert all(job.tries <= 1 for job in jobs)
    story.until(story.all_done)


def test_an_update_that_drops_a_group_drains_its_machines(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=1), cache(elastic=False))
    (job,) = story.world.submit(1, seconds=60)
    story.until(lambda: job.started_at is not None)
    story.update(cache(elastic=False))
    story.until(lambda: not story.nodes(WORKER))
    assert job.finished_at is not None
    assert len(story.nodes(CACHE)) == 1


def _using_cache():  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(workers(maximum=1), uses=(CACHE,))
