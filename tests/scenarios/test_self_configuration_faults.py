"""Hosts that configure themselves, and a server that is killed at every call it makes for them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from story import SITE, Crash, Story, workers

from orchestrator.configure.base import TaskEvent, TaskStatus
from orchestrator.control.ports import PullSite
from orchestrator.control.pulling import HandedOut, NotYet, Pulling
from orchestrator.model import InstanceState, NodeState
from orchestrator.world import TOKEN_PREFIX, SimulatedHost

STEPS = 240  # more calls than the story below makes until the host has joined
URL = "https://vacuo.example.org"


class Agent:
    """What ``vacuo-configure`` does on one host, one step at a time; it outlives every server."""

    def __init__(self, host: SimulatedHost, now: Any) -> None:
        self._host = host
        self._now = now
        self._credential = json.loads(host.user_data.files["/etc/vacuo/pull.json"][1])["credential"]
        self._secret = f"what {host.name} made up"
        self._bundle: HandedOut | None = None
        self._enrolled = False
        self.runs = 0
        self.cut_off_until = 0.0

    def step(self, pulling: Pulling) -> None:
        if self._host.state is not InstanceState.RUNNING or self._now() < self.cut_off_until:
            return
        if not self._enrolled:
            digest = hashlib.sha256(self._secret.encode()).hexdigest()
            self._enrolled = pulling.enrol(self._credential, digest) is not None
            return
        if self._bundle is not None:
            self._report(pulling, self._bundle)
            return
        who = pulling.node_of(self._secret)
        found = pulling.bundle(who) if who else None
        self._bundle = found if isinstance(found, HandedOut) else None
        if who and isinstance(found, NotYet) and found.credential:
            token = found.credential.content.strip()
            self._host.credential_until = float(token.removeprefix(TOKEN_PREFIX))
            pulling.took_credential(who, found.credential.id)

    def _report(self, pulling: Pulling, bundle: HandedOut) -> None:
        self._host.configured_at, self._host.idle_seconds = self._now(), 20.0
        run = pulling.run_of(bundle.reporter)
        if run is not None:
            end = TaskEvent(self._host.node, self._now(), "", "finished", TaskStatus.FINISHED)
            pulling.report(run, 0, [end], ())
        self._bundle = None
        self.runs += 1


class PullStory(Story):
    """A story at a site whose hosts configure themselves."""

    pull: ClassVar = {SITE: PullSite(URL, 60.0)}

    def tick(self, seconds: float = 1.0) -> None:
        super().tick(seconds)
        for host in list(self.world.hosts.values()):
            if host.user_data.files:
                self.agents.setdefault(host.id, Agent(host, self._clock)).step(self.pulling)

    @property
    def agents(self) -> dict[str, Agent]:
        found: dict[str, Agent] = self.__dict__.setdefault("_agents", {})
        return found


def test_a_host_that_nobody_can_reach_joins_and_works(tmp_path: Path) -> None:
    story = PullStory(tmp_path, workers(maximum=1))
    story.world.submit(1, seconds=10)
    story.until(story.all_done)
    story.until(story.empty)
    assert [agent.runs for agent in story.agents.values()] == [1]


def test_a_host_that_never_enrols_is_replaced(tmp_path: Path) -> None:
    story = PullStory(tmp_path, workers(maximum=1))
    story.world.submit(1, seconds=10)
    story.until(lambda: bool(story.world.hosts))
    (host,) = story.world.hosts.values()
    host.user_data.files.pop("/etc/vacuo/pull.json")  # type: ignore[attr-defined]
    host.user_data.files.clear()  # type: ignore[attr-defined]
    story.until(story.all_done)
    codes = [node.reason.code for node in story.all_nodes() if node.reason]
    assert codes[0] == "boot-timed-out"


def test_a_run_that_is_never_reported_is_offered_again(tmp_path: Path) -> None:
    story = PullStory(tmp_path, workers(maximum=1))
    story.world.submit(1, seconds=10)
    story.until(lambda: any(agent._bundle for agent in story.agents.values()))
    (agent,) = story.agents.values()
    agent.cut_off_until = story.now + 61
    story.until(story.all_done)
    (node,) = [node for node in story.all_nodes() if node.state is not NodeState.PLANNED]
    assert node.attempts == 2


def test_a_bundle_that_got_lost_is_fetched_again(tmp_path: Path) -> None:
    story = PullStory(tmp_path, workers(maximum=1))
    story.world.submit(1, seconds=10)
    story.until(lambda: any(agent._bundle for agent in story.agents.values()))
    (agent,) = story.agents.values()
    agent._bundle = None  # it was restarted in the middle
    story.until(story.all_done)
    assert [node.attempts for node in story.all_nodes()] == [1]
    assert agent.runs == 1


@pytest.mark.parametrize("first", range(3))
def test_a_server_killed_at_any_call_loses_no_host(tmp_path: Path, first: int) -> None:
    """Every fifth call, in three tests: the kill is before or after it."""
    for crash_at in range(5 * first, STEPS, 15):
        directory = tmp_path / str(crash_at)
        directory.mkdir()
        story = PullStory(directory, workers(maximum=1))
        story.world.submit(1, seconds=10)
        story.start(crash_at=crash_at)
        with contextlib.suppress(Crash):
            story.until(story.all_done)
        story.start()
        story.until(story.all_done)
        story.until(story.empty)
        assert len(story.all_nodes()) == 1, crash_at
        assert story.peak == 1
