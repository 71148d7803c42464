"""Hosts keep a credential that is good, so that a pool may restart at any time."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path

import jwt
import pytest
from story import POOL, SITE, WORKER, Crash, Story, workers
from test_self_configuration_faults import PullStory

from orchestrator.batch.own_pools import OwnPools
from orchestrator.model import (
    Attribute,
    DeploymentStatus,
    GroupName,
    NodeGroup,
    NodeState,
    RenewCredential,
    Requirements,
    Service,
)

HOUR = 3600.0
STEPS = 60


def joiners(**options: int) -> NodeGroup:
    """Workers that are configured with a credential for their pool, and stay."""
    group = workers(**{"lifetime_seconds": 1_000_000, "idle_seconds": 1_000_000, **options})
    (service,) = group.services
    token = Attribute("execute", ("join_credential",))
    service = replace(service, variables={**service.variables, "htcondor_execute_token": token})
    return replace(group, services=(service,))


def pass_hours(story: Story, hours: float, step: float = 60.0) -> None:
    for _ in range(round(hours * HOUR / step)):
        story.tick(step)


def rejoined(story: Story) -> bool:
    return all(host.in_pool_since is not None for host in story.world.hosts.values())


def test_two_days_of_restarts_cost_no_job(tmp_path: Path) -> None:
    story = Story(tmp_path, joiners(minimum=2, maximum=2))
    jobs = story.world.submit(2, cores=2, seconds=47 * HOUR)
    story.until(lambda: story.joined() == 2)
    for _ in range(16):
        pass_hours(story, 3, 120.0)
        story.world.restart_pool()
        for _ in range(8):
            story.tick()
        assert rejoined(story)
    assert [job.tries for job in jobs] == [1, 1]
    assert len(story.all_nodes()) == 2
    story.delete()
    story.until(lambda: story.deployment.status is DeploymentStatus.DELETE_COMPLETE)
    assert not story.world.hosts


def test_without_a_way_to_the_host_somebody_is_told_and_it_works_on(tmp_path: Path) -> None:
    story = Story(tmp_path, joiners(minimum=1, maximum=1))
    story.until(lambda: story.joined() == 1)
    story.world.faults.hosts_unreachable = True
    pass_hours(story, 0.7)
    assert "credential-renewal-failed" in story.codes()
    assert story.joined() == 1
    story.world.faults.hosts_unreachable = False
    pass_hours(story, 0.05, 10.0)
    assert "credential-renewal-failed" not in story.codes()
    story.world.restart_pool()
    pass_hours(story, 0.01, 1.0)
    assert rejoined(story)


def test_a_host_whose_credential_has_ended_is_lost_with_its_pool(tmp_path: Path) -> None:
    """What the renewal is for: without it the restart ends the node."""
    story = Story(tmp_path, joiners(minimum=1, maximum=1))
    story.until(lambda: story.joined() == 1)
    (first,) = story.nodes(WORKER)
    story.world.faults.hosts_unreachable = True
    pass_hours(story, 1.2)
    story.world.restart_pool()
    story.until(lambda: first.name not in {n.name for n in story.nodes(WORKER)})
    (gone,) = [node for node in story.all_nodes() if node.name == first.name]
    assert gone.reason is not None
    assert gone.reason.code == "machine-lost"


def test_renewals_are_few(tmp_path: Path) -> None:
    story = Story(tmp_path, joiners(minimum=1, maximum=1))
    story.until(lambda: story.joined() == 1)
    pass_hours(story, 5)
    intents = story.repository.intents(story.deployment.id)
    renewed = [intent for intent in intents if isinstance(intent.action, RenewCredential)]
    assert 9 <= len(renewed) <= 10  # every half hour


@pytest.mark.parametrize("step", range(0, STEPS, 3))
def test_a_server_that_is_killed_while_it_renews_renews(tmp_path: Path, step: int) -> None:
    story = Story(tmp_path, joiners(minimum=1, maximum=1))
    story.until(lambda: story.joined() == 1)
    story.now += 0.5 * HOUR
    story.start(crash_at=step)
    with contextlib.suppress(Crash):
        for _ in range(40):
            story.tick()
    story.start()
    story.now += 40.0
    for _ in range(3):
        story.tick()
    (host,) = story.world.hosts.values()
    assert host.credential_until is not None
    assert host.credential_until > story.now + 0.9 * HOUR
    pass_hours(story, 0.05)
    assert not story.nodes(WORKER)[0].renewal_at


def test_a_host_that_configures_itself_fetches_its_next_credential(tmp_path: Path) -> None:
    story = PullStory(tmp_path, joiners(minimum=1, maximum=1))
    story.world.submit(1, cores=2, seconds=20 * HOUR)
    story.until(lambda: story.joined() == 1)
    pass_hours(story, 2.9)
    (host,) = story.world.hosts.values()
    assert host.credential_until is not None
    assert host.credential_until > story.now + 0.45 * HOUR
    (node,) = story.nodes(WORKER)
    assert node.state is NodeState.JOINED
    assert (node.pool, node.site) == (POOL, SITE)


def test_a_host_that_never_asks_for_its_credential_is_told_of(tmp_path: Path) -> None:
    story = PullStory(tmp_path, joiners(minimum=1, maximum=1))
    story.world.submit(1, cores=2, seconds=20 * HOUR)
    story.until(lambda: story.joined() == 1)
    for agent in story.agents.values():
        agent.cut_off_until = story.now + 3 * HOUR
    pass_hours(story, 1.1)
    assert "credential-renewal-failed" in story.codes()
    assert story.joined() == 1
    pass_hours(story, 2.1)
    assert "credential-renewal-failed" not in story.codes()


# --- pools that deployments make for themselves ---------------------------------------------------


def own_pool() -> tuple[NodeGroup, NodeGroup]:
    """A central manager, and a worker that joins it."""
    pool, execute = "vacuo.nodes.HTCondor.Pool", "vacuo.nodes.HTCondor.Execute"
    domain = {"htcondor_pool_trust_domain": "batch.test"}
    token = {"htcondor_execute_token": Attribute("pool", ("worker_credential",))}
    return (
        NodeGroup(
            GroupName("manager"),
            Requirements(),
            services=(Service("pool", pool, "vacuo.site.htcondor_pool", domain),),
        ),
        NodeGroup(
            WORKER,
            Requirements(),
            services=(Service("execute", execute, "vacuo.site.htcondor_execute", token),),
        ),
    )


class OwnPoolStory(Story):
    """Keeps what is put on hosts, and the keys of the pool that the deployment makes."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.own_pools = OwnPools(directory / "data")
        super().__init__(directory, *own_pool())
        self.given: list[str] = []
        monkeypatch.setattr(time, "time", lambda: self.now)
        monkeypatch.setattr(self.world, "take_credential", self._take)

    def _take(self, host: object, token: str) -> None:
        if token.startswith("eyJ"):  # of all that a host is told, the tokens
            self.given.append(token.strip())

    def ends(self) -> list[float]:
        claims = (jwt.decode(t, options={"verify_signature": False}) for t in self.given)
        return [found["exp"] for found in claims]


def test_a_worker_of_a_pool_of_its_deployment_always_has_a_token_that_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = OwnPoolStory(tmp_path, monkeypatch)
    story.until(lambda: story.deployment.status is DeploymentStatus.CREATE_COMPLETE)
    for _ in range(5 * 60):
        story.tick(60.0)
        assert story.ends()[-1] > story.now
    assert 10 <= len(story.given) <= 11  # at first, and every half hour; for the worker alone


def test_a_worker_of_its_own_pool_that_cannot_be_reached_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = OwnPoolStory(tmp_path, monkeypatch)
    story.until(lambda: story.deployment.status is DeploymentStatus.CREATE_COMPLETE)
    story.world.faults.hosts_unreachable = True
    pass_hours(story, 0.7)
    assert "credential-renewal-failed" in story.codes()
    assert any("for pool pool" in found.sentence for found in story.deployment.reasons)
    story.world.faults.hosts_unreachable = False
    pass_hours(story, 0.05, 10.0)
    assert "credential-renewal-failed" not in story.codes()
