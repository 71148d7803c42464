"""Whatever dies and when: nothing is leaked, nothing is lost, and it says why it waits."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
from story import CACHE, ID, SITE, WORKER, Crash, Story, cache, workers

from orchestrator.model import DeploymentId, DeploymentStatus, InstanceState, NodeName, NodeState
from orchestrator.providers.base import InstanceRequest
from orchestrator.providers.simulated import SimulatedProvider
from orchestrator.settings import Flavour, Site
from orchestrator.world import Faults

STEPS = 560  # more calls than the story below makes from its first pass to its last


def test_create_times_out_after_server_accepted(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=1), faults=Faults(create_answer_lost=1.0))
    story.world.submit(1, seconds=10)
    story.until(story.all_done)
    story.until(story.empty)
    assert story.peak == 1
    assert len(story.all_nodes()) == 1


def test_create_is_repeated_under_the_same_name_when_nothing_came_of_it(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=1))
    story.world.submit(1, seconds=10)
    story.start(crash_at=0)
    while not story.nodes():
        story.start(crash_at=story.calls)  # each time one call further, until the intent is there
        with pytest.raises(Crash):
            story.tick()
    assert not story.world.hosts
    story.start()
    story.until(story.all_done)
    assert len(story.all_nodes()) == 1


def test_create_refused_is_told_and_tried_again_ever_more_slowly(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=1), faults=Faults(create_refused=1.0))
    story.world.submit(1, seconds=10)
    for _ in range(120):
        story.tick()
    assert 3 <= len(story.all_nodes()) <= 6
    assert "too-many-failures" in story.codes()
    story.world.faults.create_refused = 0.0
    story.until(story.all_done)


def test_a_host_that_never_answers_is_replaced(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=1), faults=Faults(boot_fails=1.0))
    story.world.submit(1, seconds=10)
    story.until(lambda: bool(story.nodes()))
    story.world.faults.boot_fails = 0.0
    story.until(story.all_done)
    story.until(story.empty)
    codes = [node.reason.code for node in story.all_nodes() if node.reason]
    assert codes == ["boot-timed-out", "left-the-pool"]


def test_configuration_that_fails_is_tried_again_then_replaced(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=1), faults=Faults(configure_fails=1.0))
    story.world.submit(1, seconds=10)
    story.until(lambda: any(n.state is NodeState.DELETING for n in story.all_nodes()))
    (node,) = story.all_nodes()
    assert node.attempts == story.patience.configure_attempts
    story.world.faults.configure_fails = 0.0
    story.until(story.all_done)
    story.until(story.empty)


def test_nothing_is_created_or_deleted_while_the_site_cannot_be_seen(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=2))
    story.world.submit(2, seconds=20)
    story.until(lambda: story.joined() == 1)
    hosts = set(story.world.hosts)
    story.world.faults.site_unreachable = True
    story.world.submit(2, seconds=20)
    for _ in range(120):
        story.tick()
        assert set(story.world.hosts) == hosts
    assert "site-unreachable" in story.codes()
    story.world.faults.site_unreachable = False
    story.until(story.all_done)
    story.until(story.empty)


def test_a_dead_collector_is_not_no_machines(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=2))
    jobs = story.world.submit(4, seconds=400)
    story.until(lambda: story.joined() == 2)
    story.world.faults.pool_unreachable = True
    for _ in range(300):
        story.tick()
    assert story.joined() == 2
    assert "pool-unreachable" in story.codes()
    story.world.faults.pool_unreachable = False
    story.until(story.all_done)
    assert all(job.tries == 1 for job in jobs)


def test_a_site_that_lists_late_gets_no_second_request(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=1), faults=Faults(listing_lags_seconds=30))
    story.world.submit(1, seconds=10)
    story.until(story.all_done)
    story.until(story.empty)
    assert len(story.all_nodes()) == 1


def test_an_instance_with_our_tag_that_nobody_knows_is_reaped(tmp_path: Path) -> None:
    story = Story(tmp_path, workers())
    _intruder(story, ID)
    assert story.world.hosts
    for _ in range(10):
        story.tick()
    assert not story.world.hosts


def test_an_instance_of_a_deployment_that_is_gone_is_swept(tmp_path: Path) -> None:
    story = Story(tmp_path, workers())
    _intruder(story, DeploymentId("long-gone"))
    story.housekeeping.sweep()
    story.now += 5
    story.housekeeping.sweep()
    assert not story.world.hosts


def test_a_machine_that_somebody_deleted_is_replaced(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=1))
    (job,) = story.world.submit(1, seconds=30)
    story.until(lambda: job.started_at is not None)
    story.world.hosts.clear()
    story.until(story.all_done)
    assert job.tries == 2
    story.until(story.empty)


def test_workers_of_a_cache_that_died_are_drained_and_replaced(tmp_path: Path) -> None:
    using = replace(workers(maximum=1), uses=(CACHE,))
    story = Story(tmp_path, using, cache())
    (first, _) = story.world.submit(2, cores=2, seconds=40)
    story.until(lambda: first.started_at is not None)
    (lost,) = [host for host in story.world.hosts.values() if host.node.startswith(CACHE)]
    del story.world.hosts[lost.id]
    story.until(lambda: "draining" in story.codes())
    story.until(story.all_done)
    assert first.tries == 1  # its job was let finish
    story.until(story.empty)
    served = [node for node in story.all_nodes() if node.group == WORKER]
    assert len(served) == 2
    assert lost.address not in served[-1].uses


def test_a_machine_that_powers_off_before_it_joined_is_replaced(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=1))
    story.world.submit(1, seconds=10)
    story.until(lambda: any(n.state is NodeState.JOINING for n in story.nodes()))
    for host in story.world.hosts.values():
        host.state = InstanceState.STOPPED
    story.until(story.all_done)
    story.until(story.empty)


def test_a_lost_answer_to_a_deletion_is_found_out_by_looking(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=1), faults=Faults(delete_answer_lost=1.0))
    story.world.submit(1, seconds=10)
    story.until(story.all_done)
    story.until(story.empty)


def test_a_deletion_that_a_site_refuses_is_told_and_tried_until_it_works(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=1), faults=Faults(delete_refused=1.0))
    story.world.submit(1, seconds=10)
    story.until(lambda: "delete-failed" in story.codes())
    for _ in range(30):
        story.tick()
    assert len(story.nodes()) == 1  # and it is not forgotten
    story.world.faults.delete_refused = 0.0
    story.until(story.empty)
    assert "delete-failed" not in story.codes()


def test_a_slow_deletion_does_not_pass_for_a_site_without_offers(tmp_path: Path) -> None:
    faults = Faults(configure_fails=1.0, delete_refused=1.0)
    story = Story(tmp_path, cache(elastic=False), faults=faults)
    story.until(lambda: "delete-failed" in story.codes())
    for _ in range(20):  # longer than the back-off after one failure
        story.tick()
        assert "no-offer" not in story.codes()
    assert len(story.nodes()) > 1  # the replacement does not wait for the deletion


def test_a_run_whose_server_died_is_run_again(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=1))
    story.world.submit(1, seconds=10)
    story.until(lambda: any(n.state is NodeState.BOOTING for n in story.nodes()))
    while not any(n.state is NodeState.CONFIGURING for n in story.nodes()):
        story.start(crash_at=story.calls)
        with contextlib.suppress(Crash):
            story.tick()
    story.start()
    story.until(story.all_done)
    story.until(story.empty)
    assert len(story.all_nodes()) == 1


@pytest.mark.parametrize("first", range(0, STEPS, 9))
def test_killed_at_any_call_it_goes_on_and_leaves_nothing(tmp_path: Path, first: int) -> None:
    """Killed before or after any call to a port or the store (every third of them is tried): the
    jobs are done once, no machine is made twice, none is left."""
    for crash_at in range(first, first + 9, 3):
        directory = tmp_path / str(crash_at)
        directory.mkdir()
        story = _short_story(directory)
        story.start(crash_at)
        try:
            _to_the_end(story)
        except Crash:
            story.start()
            _to_the_end(story)
        assert story.peak <= 2
        assert len(story.all_nodes()) <= 2
        assert all(job.tries == 1 for job in story.world.jobs.values())


def test_the_steps_above_cover_the_whole_story(tmp_path: Path) -> None:
    story = _short_story(tmp_path)
    story.start()
    _to_the_end(story)
    assert story.calls < STEPS


@pytest.mark.parametrize("seed", range(6))
def test_a_world_full_of_faults_is_left_empty(tmp_path: Path, seed: int) -> None:
    faults = Faults(
        create_refused=0.2,
        create_answer_lost=0.3,
        boot_fails=0.1,
        configure_fails=0.2,
        delete_answer_lost=0.3,
        listing_lags_seconds=3,
    )
    story = Story(tmp_path, workers(maximum=4), cache(), faults=faults, seed=seed)
    story.world.submit(12, seconds=25)
    story.until(story.all_done, most=3000)
    story.until(story.empty)
    assert story.peak <= 5


def _short_story(directory: Path) -> Story:
    story = Story(directory, workers(maximum=2, idle_seconds=3))
    story.world.submit(3, seconds=4)
    return story


def _to_the_end(story: Story) -> None:
    story.until(lambda: story.all_done() and story.empty())
    if not story.deployment.deleting:
        story.delete()
    story.until(lambda: story.deployment.status is DeploymentStatus.DELETE_COMPLETE)
    assert story.empty()


def _intruder(story: Story, owner: DeploymentId) -> None:
    flavour = Flavour(name="small", cores=1, memory_mb=1024, disk_gb=10, price_per_hour=None)
    site = Site(name=SITE, provider="simulated", flavours=(flavour,))
    request = InstanceRequest(
        name="intruder",
        owner=owner,
        node=NodeName("intruder"),
        flavour="small",
        image="",
        user_data=None,  # type: ignore[arg-type]
    )
    SimulatedProvider(site, story.world).create(request)
    assert WORKER not in story.states()
