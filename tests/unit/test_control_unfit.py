"""A node whose own probes keep jobs away says so for as long as they do, and is not lost for it."""

from __future__ import annotations

from orchestrator.control.lifecycle import Context, Sight, advance
from orchestrator.model import (
    DeploymentId,
    GroupName,
    Instance,
    InstanceId,
    InstanceState,
    Machine,
    Node,
    NodeGroup,
    NodeName,
    NodeState,
    Observed,
    Patience,
    PoolName,
    Requirements,
    SiteName,
)

NOW = 1_000_000.0
ID, NAME = DeploymentId("0123456789"), NodeName("worker-1")
GROUP = NodeGroup(GroupName("worker"), Requirements(1, 1024), pool=PoolName("main"))
NODE = Node(
    name=NAME,
    deployment=ID,
    group=GROUP.name,
    site=SiteName("here"),
    flavour="any",
    cores=1,
    memory_mb=1024,
    state=NodeState.JOINED,
    since=NOW - 60,
    created_at=NOW - 90,
    instance=InstanceId("i-1"),
    address="192.0.2.1",
    pool=GROUP.pool,
)


def after_a_pass(node: Node, unfit: str) -> Node:
    there = Instance(InstanceId("i-1"), NAME, InstanceState.RUNNING, ID, NAME, "192.0.2.1")
    startd = Machine("host", NAME, ID, 1, 1, 1024, 1024, 0, unfit=unfit)
    sight = Sight(
        instance=Observed.fresh((there,), NOW),
        machine=Observed.fresh((startd,), NOW),
        reachable=True,
        run=None,
        create=None,
    )
    step = advance(node, sight, Context(GROUP, NOW, Patience()))
    assert step.actions == ()
    assert step.node.state is NodeState.JOINED
    return step.node


def test_a_node_says_what_keeps_jobs_away_until_it_is_mended() -> None:
    broken = after_a_pass(NODE, "10.0.0.2:3128 does not answer")
    assert broken.reason is not None
    assert broken.reason.code == "node-unfit"
    assert "10.0.0.2:3128 does not answer" in broken.reason.sentence
    assert after_a_pass(broken, "").reason is None
