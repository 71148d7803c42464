"""What a plan says is what the loop then does: over random wishes and worlds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from story import CACHE, ID, SITE, WORKER, Story

from orchestrator.control.foresight import foresee
from orchestrator.control.preview import make_preview
from orchestrator.control.previewed import Preview
from orchestrator.model import (
    Attribute,
    DeploymentSpec,
    DeploymentStatus,
    Node,
    NodeGroup,
    NodeState,
    PoolName,
    Requirements,
    Service,
    SiteName,
    VacuumPolicy,
)
from orchestrator.settings import SiteLimits

OTHER = SiteName("other")
POOL = PoolName("pool")


@st.composite
def caches(draw: st.DrawFn) -> NodeGroup:
    cores = draw(st.sampled_from([1, 1, 2]))
    port = draw(st.sampled_from([3128, 3129]))
    count = draw(st.integers(1, 3))
    services = [Service("squid", "vacuo.nodes.Squid", "vacuo.site.squid", {"squid_port": port})]
    if draw(st.booleans()):
        services.append(Service("cache", "vacuo.nodes.XCache", "vacuo.site.xcache"))
    return NodeGroup(
        CACHE,
        Requirements(cores, draw(st.sampled_from([900, 1024]))),
        tuple(services),
        count,
        vacuum=draw(st.sampled_from([None, None, VacuumPolicy(count, 4)])),
        site=draw(st.sampled_from([None, None, SITE, OTHER])),
    )


@st.composite
def workers(draw: st.DrawFn) -> NodeGroup:
    minimum = draw(st.integers(0, 2))
    variables = {"htcondor_execute_idle_seconds": Attribute("execute", ("idle_time",))}
    uses = draw(st.booleans())
    if uses:
        variables["htcondor_execute_proxy"] = Attribute("squid", ("private_address",))
    kind = "vacuo.nodes.HTCondor.Execute"
    return NodeGroup(
        WORKER,
        Requirements(draw(st.sampled_from([1, 2])), 1024),
        (Service("execute", kind, "vacuo.site.htcondor_execute", variables),),
        vacuum=VacuumPolicy(minimum, draw(st.integers(max(1, minimum), 4)), 3000, 80_000),
        pool=POOL,
        uses=(CACHE,) if uses else (),
    )


@st.composite
def wishes(draw: st.DrawFn) -> tuple[NodeGroup, ...]:
    """A cache always, workers mostly, and sometimes under another name."""
    cache = draw(caches())
    if draw(st.integers(0, 9)) == 0:
        return (replace(cache, name="proxies"),)  # type: ignore[arg-type]
    return (cache, draw(workers())) if draw(st.integers(0, 4)) else (cache,)


limits = st.sampled_from([SiteLimits(), SiteLimits(), SiteLimits(instances=4), SiteLimits(cores=5)])


@pytest.mark.timeout(600)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(wishes(), wishes(), limits, st.integers(0, 3), st.booleans())
def test_a_plan_says_what_the_loop_then_does(
    before: tuple[NodeGroup, ...],
    after: tuple[NodeGroup, ...],
    limit: SiteLimits,
    jobs: int,
    lasting: bool,
) -> None:
    """To the letter where jobs are as a plan supposes, ``lasting`` until their machine drains.

    Where they end by themselves there are fewer workers to make, and where they keep a machine for
    a while something new may come to another site: then only what becomes of each node is as said.
    """
    story = Story(None, *before, limits=limit, sites=(SITE, OTHER))
    story.world.submit(jobs, seconds=1_000_000 if lasting else 60)
    there = {node.name: node for node in _at_rest(story, lasting)}
    if any(node.state is not NodeState.JOINED for node in there.values()):
        return  # a site that was too full for the first wish
    preview = _preview(story, after)
    note(f"{preview}")
    story.update(*after)
    _at_rest(story, lasting)
    now = {node.name: node for node in story.all_nodes()}
    _agree_on_nodes(preview, there, now)
    if lasting or jobs == 0:
        _agree_on_new_ones(preview, there, now)


def _at_rest(story: Story, lasting: bool) -> list[Node]:
    """The nodes, once nothing has changed for a while: longer than anything takes but a job."""
    quiet = 0
    last: list[Node] = []
    for _ in range(400):
        story.tick()
        if lasting:
            _end_jobs_of_draining_machines(story)
        now = [replace(node, reason=None) for node in story.nodes()]
        moving = any(node.state is not NodeState.JOINED for node in now)
        quiet = 0 if moving or now != last else quiet + 1
        last = now
        if quiet > 8:
            break
    return story.nodes()


def _end_jobs_of_draining_machines(story: Story) -> None:
    for host in story.world.hosts.values():
        for job in story.world.running_on(host) if host.draining else ():
            job.seconds = 0


def _preview(story: Story, groups: tuple[NodeGroup, ...]) -> Preview:
    current = story.deployment
    wished = replace(
        current,
        spec=DeploymentSpec("a story", groups),
        status=DeploymentStatus.UPDATE_IN_PROGRESS,
    )
    nodes = story.nodes()
    seen = story.observer.observe(wished, nodes, story.now, everything=True)
    foresight = foresee(wished, nodes, seen, story.now, story.patience)
    return make_preview(current.spec, wished, nodes, seen, foresight)


def _agree_on_nodes(preview: Preview, there: dict[str, Node], now: dict[str, Node]) -> None:
    """What was said of each node that was there has happened."""
    for node in [node for group in preview.groups for node in group.nodes]:
        if node.name is None:
            continue
        was, is_now = there[node.name], now[node.name]
        if node.effect in ("replace", "remove"):
            assert is_now.state is NodeState.GONE, (node, is_now)
            continue
        assert is_now.state is NodeState.JOINED, (node, is_now)
        assert is_now.instance == was.instance
        runs = is_now.attempts - was.attempts
        assert runs > 0 if node.effect == "reconfigure" else runs == 0, (node, is_now)


def _agree_on_new_ones(preview: Preview, there: dict[str, Node], now: dict[str, Node]) -> None:
    """As many as was said have been made, as large as was said and where it was said."""
    new = Counter(
        (group.name, node.site, node.flavour, node.cores, node.memory_mb)
        for group in preview.groups
        for node in group.nodes
        if node.effect == "create"
    )
    made = Counter(
        (node.group, node.site, node.flavour, node.cores, node.memory_mb)
        for node in now.values()
        if node.name not in there and node.state is not NodeState.GONE
    )
    assert new == made


@pytest.mark.timeout(600)
@settings(max_examples=30)
@given(wishes(), limits, st.integers(0, 3))
def test_the_first_pass_is_the_planners_own(
    groups: tuple[NodeGroup, ...], limit: SiteLimits, jobs: int
) -> None:
    """Of a deployment that does not exist yet: what is made, where, and how large."""
    story = Story(None, *groups, limits=limit, sites=(SITE, OTHER))
    story.world.submit(jobs, seconds=600)
    story.now += 1
    preview = _preview(story, groups)
    story.loop.run_once(ID)
    first = Counter((n.group, n.site, n.flavour, n.image) for n in story.nodes())
    told = Counter(
        (group.name, node.site, node.flavour, node.image)
        for group in preview.groups
        for node in group.nodes
    )
    assert first <= told
    assert first == told or any(group.uses for group in groups)
