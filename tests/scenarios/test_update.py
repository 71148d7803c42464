"""A changed template reaches what is there: in place, by more or fewer, or one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from story import CACHE, WORKER, Crash, Story, workers

from orchestrator.model import (
    Attribute,
    DeploymentStatus,
    Node,
    NodeGroup,
    NodeState,
    Requirements,
    Service,
    VacuumPolicy,
)
from orchestrator.settings import SiteLimits
from orchestrator.world import Faults

SQUID = "vacuo.site.squid"
REBUILD_STEPS = 288  # more calls than the rebuild below makes


def caches(count: int = 1, cores: int = 1, *, port: int = 3128, **fields: object) -> NodeGroup:
    """A fixed number of hosts with a squid."""
    squid = Service("squid", "vacuo.nodes.Squid", SQUID, {"squid_port": port})
    memory = 1024 * cores
    group = NodeGroup(CACHE, Requirements(cores, memory), (squid,), count)
    return replace(group, **fields)  # type: ignore[arg-type]


def using(group: NodeGroup) -> NodeGroup:
    """The group, told of the cache's address."""
    address = Attribute("squid", ("private_address",))
    first, *others = group.services
    told = replace(first, variables={**first.variables, "htcondor_execute_proxy": address})
    return replace(group, services=(told, *others), uses=(CACHE,))


def up(story: Story) -> dict[str, Node]:
    """Bring the story to rest; answers the nodes by name."""
    done = (DeploymentStatus.CREATE_COMPLETE, DeploymentStatus.UPDATE_COMPLETE)
    story.until(lambda: story.deployment.status in done)
    for _ in range(3):
        story.tick()
    return {node.name: node for node in story.nodes()}


def update(story: Story, *groups: NodeGroup, check: Callable[[], None] = lambda: None) -> None:
    story.update(*groups)
    for _ in range(600):
        story.tick()
        check()
        if story.deployment.status is DeploymentStatus.UPDATE_COMPLETE:
            return
    raise AssertionError(f"the update did not end; nodes: {story.states()}")


# --- in place -----------------------------------------------------------------------------------


def test_a_changed_property_is_applied_in_place_a_few_at_a_time(tmp_path: Path) -> None:
    story = Story(tmp_path, caches(8), workers(minimum=1))
    before = up(story)
    most = 0

    def check() -> None:
        nonlocal most
        nodes = story.nodes(CACHE)
        most = max(most, sum(node.refreshing for node in nodes))
        assert all(node.state is NodeState.JOINED for node in nodes)

    story.update(caches(8, port=3129), workers(minimum=1))
    story.loop.run_once(story.deployment.id)
    assert sum(node.attempts == 2 for node in story.nodes(CACHE)) == 2  # a quarter
    update(story, caches(8, port=3129), workers(minimum=1), check=check)
    after = {node.name: node for node in story.nodes()}
    assert {n: node.instance for n, node in before.items()} == {
        n: node.instance for n, node in after.items()
    }
    assert all(node.attempts == (2 if node.group == CACHE else 1) for node in after.values())


def test_what_an_update_does_not_change_is_not_touched(tmp_path: Path) -> None:
    story = Story(tmp_path, caches(2))
    before = up(story)
    update(story, caches(2), workers(minimum=1))
    assert before.items() <= {node.name: node for node in story.nodes()}.items()


def test_a_running_job_survives_a_change_of_its_machines_configuration(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=1))
    (job,) = story.world.submit(1, seconds=100)
    story.until(lambda: job.started_at is not None)
    (before,) = story.nodes(WORKER)
    update(story, workers(maximum=1, idle_seconds=33))
    (after,) = story.nodes(WORKER)
    assert (after.instance, after.attempts) == (before.instance, before.attempts + 1)
    story.until(story.all_done)
    assert (job.node, job.tries) == (before.name, 1)
    (host,) = story.world.hosts.values()
    assert host.idle_seconds == 33


def test_a_change_that_fails_touches_no_second_node_and_a_better_one_mends_it(
    tmp_path: Path,
) -> None:
    story = Story(tmp_path, caches(4))
    before = up(story)
    story.world.faults.configure_fails = 1.0
    story.update(caches(4, port=1))
    story.until(lambda: story.deployment.status is DeploymentStatus.UPDATE_FAILED)
    assert story.deployment.status_reason is not None
    assert story.deployment.status_reason.code == "reconfigure-failed"
    assert sum(node.attempts > 1 for node in story.nodes()) == 1
    assert {node.name for node in story.nodes()} == set(before)
    story.world.faults.configure_fails = 0.0
    update(story, caches(4, port=3129))
    assert {node.name for node in story.nodes()} == set(before)
    assert not any(node.refreshing or node.failed_refreshes for node in story.nodes())


def test_a_change_whose_server_died_is_made_again(tmp_path: Path) -> None:
    story = Story(tmp_path, caches(1))
    before = up(story)
    story.update(caches(1, port=3129))
    while not any(node.refreshing for node in story.nodes()):
        story.start(crash_at=story.calls)
        try:
            story.tick()
        except Crash:
            continue
    story.start()
    update(story, caches(1, port=3129))
    assert [node.name for node in story.nodes()] == list(before)


# --- more and fewer -----------------------------------------------------------------------------


def test_scaling_up_makes_only_what_is_missing(tmp_path: Path) -> None:
    story = Story(tmp_path, caches(1))
    before = up(story)
    update(story, caches(3))
    after = {node.name: node for node in story.nodes()}
    assert before.items() <= after.items()
    assert len(after) == 3


def test_scaling_down_spares_the_busy(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=3, minimum=3))
    up(story)
    (job,) = story.world.submit(1, seconds=200)
    story.until(lambda: job.started_at is not None)
    story.tick()
    update(story, workers(maximum=1, minimum=1))
    story.until(lambda: len(story.nodes()) == 1)
    assert [node.name for node in story.nodes()] == [job.node]


def test_scaling_down_removes_those_of_the_removal_list(tmp_path: Path) -> None:
    story = Story(tmp_path, caches(4))
    before = list(up(story).values())
    named = (str(before[0].name), str(before[2].instance))
    update(story, caches(2, removal_list=named))
    story.until(lambda: len(story.nodes()) == 2)
    assert {node.name for node in story.nodes()} == {before[1].name, before[3].name}


def test_a_busy_node_of_the_removal_list_finishes_its_job(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=2))
    jobs = story.world.submit(4, seconds=60)
    story.until(lambda: all(job.started_at is not None for job in jobs))
    listed = jobs[0].node
    update(story, replace(workers(maximum=2), removal_list=(str(listed),)))
    story.until(lambda: listed not in {node.name for node in story.nodes()})
    assert all(job.tries == 1 for job in jobs)


def test_draining_nodes_count_towards_the_maximum(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=2, lifetime_seconds=40))
    jobs = story.world.submit(4, seconds=120)
    story.until(lambda: all(job.started_at is not None for job in jobs))
    story.world.submit(4, seconds=10)
    story.until(lambda: all(node.state is NodeState.DRAINING for node in story.nodes()))
    story.tick()
    assert "maximum-draining" in story.codes()
    while not story.all_done():
        story.tick()
        assert sum(node.state is not NodeState.DELETING for node in story.nodes()) <= 2


def test_a_floor_is_kept_beside_a_node_that_drains(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=1, minimum=1, lifetime_seconds=40))
    (job,) = story.world.submit(1, seconds=300)
    story.until(lambda: any(node.state is NodeState.DRAINING for node in story.nodes()))
    story.until(lambda: story.joined() == 1)
    assert job.finished_at is None


# --- other hosts --------------------------------------------------------------------------------


def test_another_size_is_made_beside_the_old_one_node_after_the_other(tmp_path: Path) -> None:
    story = Story(tmp_path, caches(3))
    before = up(story)
    story.peak = 0

    def check() -> None:
        assert story.joined(CACHE) >= 3

    update(story, caches(3, cores=2), check=check)
    story.until(lambda: len(story.nodes()) == 3)
    assert story.peak <= 5  # one more, and one that the site is still deleting
    assert not before.keys() & {node.name for node in story.nodes()}
    assert {node.flavour for node in story.nodes()} == {"medium"}


def test_the_same_flavour_is_not_made_again(tmp_path: Path) -> None:
    story = Story(tmp_path, caches(1))
    before = up(story)
    update(story, replace(caches(1), requirements=Requirements(1, 900)))
    assert [(n.name, n.instance) for n in story.nodes()] == [
        (n.name, n.instance) for n in before.values()
    ]


def test_a_service_that_is_dropped_needs_another_host(tmp_path: Path) -> None:
    other = Service("proxy", "vacuo.nodes.XCache", "vacuo.site.xcache")
    both = caches(1)
    story = Story(tmp_path, replace(both, services=(*both.services, other)))
    before = up(story)
    update(story, both)
    story.until(lambda: len(story.nodes()) == 1)
    assert not before.keys() & {node.name for node in story.nodes()}


def test_a_rebuild_without_room_waits_and_says_so(tmp_path: Path) -> None:
    story = Story(tmp_path, caches(1), limits=SiteLimits(instances=1))
    before = up(story)
    story.update(caches(1, cores=2))
    for _ in range(30):
        story.tick()
    assert [node.name for node in story.nodes()] == list(before)
    assert "rebuild-waits" in story.codes()
    assert story.deployment.status is DeploymentStatus.UPDATE_IN_PROGRESS


def test_at_the_maximum_the_old_one_goes_first(tmp_path: Path) -> None:
    elastic = VacuumPolicy(0, 1)
    story = Story(tmp_path, caches(1, vacuum=elastic), using(workers(minimum=1)))
    up(story)
    update(story, caches(1, 2, vacuum=elastic), using(workers(minimum=1)))
    story.until(lambda: story.joined(CACHE) == 1 and story.joined(WORKER) == 1)
    assert [node.flavour for node in story.nodes(CACHE)] == ["medium"]


def test_those_who_use_a_cache_that_is_replaced_are_told_before_the_old_one_goes(
    tmp_path: Path,
) -> None:
    story = Story(tmp_path, caches(1), using(workers(minimum=1)))
    before = up(story)
    (worker,) = [node for node in before.values() if node.group == WORKER]

    def check() -> None:
        addresses = {node.address for node in story.nodes(CACHE)}
        (now,) = story.nodes(WORKER)
        assert now.name == worker.name
        assert set(now.uses) <= addresses

    update(story, caches(1, cores=2), using(workers(minimum=1)), check=check)
    story.until(lambda: len(story.nodes(CACHE)) == 1)
    (cache,) = story.nodes(CACHE)
    (now,) = story.nodes(WORKER)
    assert now.uses == (cache.address,)
    assert now.attempts == worker.attempts + 1


def test_all_that_a_worker_was_told_of_may_be_on_its_way_out(tmp_path: Path) -> None:
    """Fewer caches, all of them to be replaced, and a worker that only now begins to use them."""
    other = Service("proxy", "vacuo.nodes.XCache", "vacuo.site.xcache")
    both = replace(caches(3), services=(*caches().services, other))
    story = Story(tmp_path, both, workers(minimum=1))
    before = up(story)
    update(story, caches(1), using(workers(minimum=1)))
    story.until(lambda: len(story.nodes(CACHE)) == 1)
    (cache,) = story.nodes(CACHE)
    assert cache.name not in before
    story.until(lambda: [node.uses for node in story.nodes(WORKER)] == [(cache.address,)])


def test_fewer_and_larger_at_once_makes_each_new_one_once(tmp_path: Path) -> None:
    story = Story(tmp_path, caches(3), using(workers(minimum=1)))
    up(story)
    update(story, caches(1, cores=2), using(workers(minimum=1)))
    story.until(lambda: len(story.nodes(CACHE)) == 1)
    assert sum(node.group == CACHE for node in story.all_nodes()) == 4


def test_a_renamed_group_is_one_that_goes_and_one_that_comes(tmp_path: Path) -> None:
    story = Story(tmp_path, caches(1))
    up(story)
    renamed = replace(caches(1), name="proxies")
    update(story, renamed)
    story.until(lambda: not story.nodes(CACHE))
    assert story.joined("proxies") == 1


# --- several updates, and what dies -------------------------------------------------------------


def test_an_update_during_an_update_is_the_one_that_counts(tmp_path: Path) -> None:
    story = Story(tmp_path, caches(4))
    before = up(story)
    story.update(caches(4, cores=2))
    story.until(lambda: len(story.nodes()) == 5)
    update(story, caches(4, port=3129))
    story.until(lambda: len(story.nodes()) == 4)
    after = {node.name: node for node in story.nodes()}
    assert len(before.keys() & after.keys()) >= 3
    assert {node.flavour for node in after.values()} == {"small"}
    assert len({node.configured_as for node in after.values()}) == 1


def test_an_update_while_the_deployment_is_made_makes_nothing_twice(tmp_path: Path) -> None:
    story = Story(tmp_path, caches(2))
    story.tick()
    update(story, caches(3, port=3129))
    assert len(story.all_nodes()) == 3
    assert len({node.configured_as for node in story.nodes()}) == 1


def test_failures_of_an_earlier_wish_do_not_hold_up_the_next(tmp_path: Path) -> None:
    story = Story(tmp_path, caches(1), faults=Faults(configure_fails=1.0))
    story.until(lambda: "too-many-failures" in story.codes(), most=900)
    story.world.faults.configure_fails = 0.0
    story.update(caches(1, port=3129))
    story.tick()
    assert any(node.state is NodeState.REQUESTED for node in story.nodes())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, REBUILD_STEPS, 24))
def test_killed_in_a_rolling_rebuild_it_goes_on(tmp_path: Path, first: int) -> None:
    """Killed before or after a call to a port or the store, it ends as if it had not been."""
    for crash_at in range(first, first + 24, 6):
        directory = tmp_path / str(crash_at)
        directory.mkdir()
        story = Story(directory, caches(2))
        up(story)
        story.start(crash_at)
        try:
            _rebuild(story)
        except Crash:
            story.start()
            _rebuild(story)
        assert {node.flavour for node in story.nodes()} == {"medium"}
        assert len(story.all_nodes()) == 4


def _rebuild(story: Story) -> None:
    def check() -> None:
        assert story.joined(CACHE) >= 2

    update(story, caches(2, cores=2), check=check)
    story.until(lambda: len(story.nodes()) == 2)


def test_the_steps_above_cover_the_whole_rebuild(tmp_path: Path) -> None:
    story = Story(tmp_path, caches(2))
    up(story)
    story.start()
    _rebuild(story)
    assert REBUILD_STEPS - 60 < story.calls < REBUILD_STEPS
