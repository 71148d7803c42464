"""What templates ask of hosts, once there are hosts: lists, one of them, joined; unknown before."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.control.values import outputs
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
