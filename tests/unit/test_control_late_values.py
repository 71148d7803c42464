"""What templates ask of hosts, once there are hosts: lists, one of them, joined; unknown before."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.control.values import Scope, outputs, resolve
from orchestrator.control.wish import configuration
from orchestrator.model import (
    Attribute,
    DeploymentId,
    DeploymentSpec,
    GroupName,
    Join,
    Node,
    NodeGroup,
    NodeName,
    NodeState,
    Requirements,
    Service,
    SiteName,
    Value,
)


def node(number: int, group: str) -> Node:
    return Node(
        name=NodeName(f"{group}-{number}"),
        deployment=DeploymentId("d"),
        group=GroupName(group),
        site=SiteName("here"),
        flavour="small",
        cores=1,
        memory_mb=1024,
        state=NodeState.JOINED,
        since=0.0,
        created_at=0.0,
        address=f"10.0.0.{number}",
    )


def told(value: Value, nodes: list[Node]) -> Any:
    spec = DeploymentSpec(
        "",
        (
            NodeGroup(GroupName("many"), Requirements(), count=2),
            NodeGroup(GroupName("one"), Requirements()),
        ),
        {"it": value},
    )
    return outputs(spec, nodes)["it"]


MANY = Attribute("many", ("private_address",))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (MANY, ["10.0.0.1", "10.0.0.2"]),
        (Attribute("many", ("private_address", "1")), "10.0.0.2"),
        (Attribute("many", ("private_address", "2")), None),
        (Attribute("one", ("private_address",)), "10.0.0.9"),
        (Attribute("one", ("private_address", "0")), "10.0.0.9"),
        (Join(MANY, ","), "10.0.0.1,10.0.0.2"),
        (Join([Attribute("one", ("private_address",)), "x"], "-"), "10.0.0.9-x"),
        (Attribute("one", ("operation_output", "Standard", "configure", "key")), None),
    ],
)
def test_an_output_is_what_is_known_of_the_hosts(value: Value, wanted: object) -> None:
    assert told(value, [node(1, "many"), node(2, "many"), node(9, "one")]) == wanted


@pytest.mark.parametrize("value", [MANY, Join(MANY, ","), Attribute("one", ("node_name", "0"))])
def test_an_output_without_hosts_is_unknown_and_never_empty(value: Value) -> None:
    assert told(value, []) is None


def test_a_host_is_told_of_the_others_of_its_group_and_of_each_that_comes_or_goes() -> None:
    value = {"squid_siblings": Attribute("many", ("other_addresses",))}
    service = Service("squid", "vacuo.nodes.Squid", "vacuo.site.squid", value)
    group = NodeGroup(GroupName("many"), Requirements(), (service,), count=3)
    spec = DeploymentSpec("", (group,))
    nodes = [node(number, "many") for number in (1, 2)]
    assert resolve(value, Scope(spec, nodes, nodes[0])) == {"squid_siblings": ["10.0.0.2"]}
    assert resolve(value, Scope(spec, nodes[:1], nodes[0])) == {"squid_siblings": []}
    told_apart = {configuration(spec, group, there) for there in ([], nodes[:1], nodes)}
    assert len(told_apart) == 3
