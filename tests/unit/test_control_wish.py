"""When a node can become what is wished, and when only another can."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.control.wish import at_once, configuration, is_outdated
from orchestrator.model import (
    Attribute,
    DeploymentId,
    DeploymentSpec,
    GroupName,
    Node,
    NodeGroup,
    NodeName,
    NodeState,
    Offer,
    PoolName,
    Requirements,
    Service,
    SiteName,
    VacuumPolicy,
)

SITE, OTHER = SiteName("site"), SiteName("other")
SQUID = Service("squid", "vacuo.nodes.Squid", "vacuo.site.squid", {"squid_port": 3128})
GROUP = NodeGroup(GroupName("cache"), Requirements(1, 1024), (SQUID,))
SMALL = Offer(SITE, "small", 1, 1024, 10, "image")
MEDIUM = Offer(SITE, "medium", 2, 2048, 10, "image")
NODE = Node(
    NodeName("cache-1"),
    DeploymentId("d"),
    GROUP.name,
    SITE,
    "small",
    1,
    1024,
    NodeState.JOINED,
    0.0,
    0.0,
    image="image",
    made_for=GROUP.requirements,
    base_image="image",
    roles=(SQUID.role,),
)


def wanting(**requirements: object) -> NodeGroup:
    return replace(GROUP, requirements=replace(GROUP.requirements, **requirements))


@pytest.mark.parametrize(
    ("group", "offers", "outdated"),
    [
        (GROUP, (SMALL, MEDIUM), False),
        (GROUP, (), False),
        (wanting(memory_mb=900), (SMALL, MEDIUM), False),  # the site would choose the same
        (wanting(cores=2), (MEDIUM,), True),
        (wanting(cores=2), (), False),  # nobody has looked yet
        (wanting(image="else"), (replace(SMALL, image="else"),), True),
        (wanting(disk_gb=9), (replace(SMALL, image="baked", prepared_from="image"),), False),
        (replace(GROUP, site=OTHER), (), True),
        (replace(GROUP, site=SITE), (), False),
        (replace(GROUP, pool=PoolName("pool")), (), True),
        (replace(GROUP, services=()), (), True),  # nothing takes a service off a host
        (replace(GROUP, services=(SQUID, replace(SQUID, role="r"))), (), False),
    ],
)
def test_only_what_a_host_cannot_become_needs_another(group, offers, outdated) -> None:
    assert is_outdated(NODE, group, offers) is outdated


def told(port: int = 3128, address: str = "192.0.2.1", idle: int = 60) -> str | None:
    variables = {
        "proxy": Attribute("squid", ("private_address",)),
        "idle": Attribute("execute", ("idle_time",)),
        "token": Attribute("execute", ("join_credential",)),
        "port": port,
    }
    execute = Service("execute", "t", "role", variables)
    policy = VacuumPolicy(0, 3, idle_seconds=idle)
    workers = NodeGroup(
        GroupName("workers"), Requirements(), (execute,), vacuum=policy, uses=(GROUP.name,)
    )
    spec = DeploymentSpec("", (workers, GROUP))
    return configuration(spec, workers, [replace(NODE, address=address)])


def test_a_configuration_is_what_a_run_would_make_and_nothing_that_each_host_has_for_itself():
    assert told() == told()
    assert len({told(), told(port=1), told(address="192.0.2.2"), told(idle=61)}) == 4


def test_it_is_not_known_before_those_it_uses_have_addresses() -> None:
    assert told(address="") is None


def test_a_quarter_changes_at_once_and_never_none() -> None:
    assert [at_once(count) for count in (0, 1, 4, 7, 8, 100)] == [1, 1, 1, 1, 2, 25]
