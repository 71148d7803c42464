"""A node is asked to leave: its jobs end, it goes, and another comes where its group needs one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from story import CACHE, ID, SITE, WORKER, Story, cache, workers

from orchestrator.control.foresight import foresee
from orchestrator.model import DeploymentStatus, NodeName, NodeState, VacuumPolicy
from orchestrator.settings import SiteLimits

WHO = "alice@https://issuer.example"


def ask(story: Story, node: NodeName) -> bool:
    return story.repository.drains.ask(ID, node, WHO, story.now, ())


def gone(story: Story, name: NodeName) -> bool:
    return any(n.name == name and n.state is NodeState.GONE for n in story.all_nodes())


def test_a_node_that_was_asked_to_leave_finishes_its_jobs_and_says_who_asked(
    tmp_path: Path,
) -> None:
    story = Story(tmp_path, workers(maximum=1))
    (job,) = story.world.submit(1, cores=2, seconds=60)
    story.until(lambda: job.started_at is not None)
    name = job.node
    assert name
    ask(story, name)
    story.until(lambda: any(n.state is NodeState.DRAINING for n in story.nodes()))
    [node] = story.nodes()
    assert node.reason
    assert f"was asked to leave by {WHO}" in node.reason.sentence
    assert any(WHO in why.sentence for why in story.deployment.reasons)
    story.until(lambda: gone(story, name))
    assert job.finished_at is not None
    assert job.tries == 1
    assert job.node == name


def test_a_group_with_a_floor_gets_another(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(minimum=2))
    story.until(lambda: story.joined() == 2)
    first = story.nodes(WORKER)[0].name
    ask(story, first)
    story.until(lambda: gone(story, first))
    story.until(lambda: story.joined() == 2)
    assert story.deployment.status is DeploymentStatus.CREATE_COMPLETE
    for _ in range(30):
        story.tick()
    assert len(story.all_nodes()) == 3  # and nobody else had to go


def test_a_group_without_a_floor_and_without_jobs_gets_none(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(idle_seconds=10_000))
    story.world.submit(1, seconds=5)
    story.until(lambda: story.joined() == 1)
    story.until(story.all_done)
    ask(story, story.nodes()[0].name)
    story.until(story.empty)
    assert len(story.all_nodes()) == 1


def test_a_node_that_comes_up_goes_at_once(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(minimum=1))
    story.until(lambda: any(n.state is NodeState.BOOTING for n in story.nodes()))
    name = story.nodes()[0].name
    ask(story, name)
    story.until(lambda: gone(story, name))
    [left] = [node for node in story.all_nodes() if node.name == name]
    assert left.reason
    assert left.reason.code == "drain-asked"
    story.until(lambda: story.joined() == 1)


def test_nothing_is_let_go_while_the_site_cannot_be_seen(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(minimum=1))
    story.until(lambda: story.joined() == 1)
    story.world.faults.site_unreachable = True
    story.tick()
    ask(story, story.nodes()[0].name)
    for _ in range(10):
        story.tick()
        assert [node.state for node in story.nodes()] == [NodeState.JOINED]
    story.world.faults.site_unreachable = False
    story.until(lambda: any(n.state is NodeState.DRAINING for n in story.nodes()))


def test_a_node_that_serves_others_is_replaced_first(tmp_path: Path) -> None:
    support = replace(cache(), vacuum=VacuumPolicy(0, 2))
    story = Story(tmp_path, replace(workers(minimum=1), uses=(CACHE,)), support)
    story.until(lambda: story.joined() >= 1 and story.joined(CACHE) >= 1)
    first = story.nodes(CACHE)[0].name
    ask(story, first)
    while not gone(story, first):
        story.tick()
        assert story.joined(CACHE) >= 1
        assert story.now < 1_000_000 + 600
    [left] = [node for node in story.all_nodes() if node.name == first]
    assert left.reason
    assert left.reason.code == "drain-asked"
    users = [node for node in story.nodes(WORKER) if node.state is NodeState.JOINED]
    [now] = [node for node in story.nodes(CACHE) if node.state is NodeState.JOINED]
    assert all(now.address in node.uses for node in users)


def test_to_ask_twice_is_to_ask_once_and_a_restart_forgets_nothing(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(maximum=1))
    (job,) = story.world.submit(1, cores=2, seconds=60)
    story.until(lambda: job.started_at is not None)
    name = job.node
    assert name
    assert ask(story, name)
    assert not ask(story, name)
    story.start()
    assert story.repository.drains.asked(ID) == {name: WHO}
    story.until(lambda: gone(story, name))
    story.repository.prune(story.now, 10**9)
    assert story.repository.drains.asked(ID) == {}


@pytest.mark.parametrize("limit", [1, 4])
def test_a_site_without_room_gets_the_other_when_there_is(tmp_path: Path, limit: int) -> None:
    story = Story(tmp_path, workers(minimum=1), limits=SiteLimits(instances=limit))
    story.until(lambda: story.joined() == 1)
    name = story.nodes()[0].name
    ask(story, name)
    story.until(lambda: gone(story, name))
    story.until(lambda: story.joined() == 1)


def test_the_plan_that_is_shown_has_what_was_asked(tmp_path: Path) -> None:
    story = Story(tmp_path, workers(minimum=1))
    story.until(lambda: story.joined() == 1)
    name = story.nodes()[0].name
    ask(story, name)
    nodes = story.repository.nodes(ID)
    seen = story.observer.observe(story.deployment, nodes, story.now, everything=True)
    foresight = foresee(story.deployment, nodes, seen, story.now, story.patience)
    assert foresight.complete
    assert foresight.nodes[name].state is NodeState.GONE
    others = [n for n in foresight.nodes.values() if n.name != name]
    assert [node.state for node in others] == [NodeState.JOINED]
    assert others[0].site == SITE
