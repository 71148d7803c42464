"""A node is asked to leave over the API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_world import ApiWorld

from orchestrator.model import DeploymentId, EventKind, Node, NodeState


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ApiWorld]:
    found = ApiWorld(tmp_path)
    yield found
    found.close()


def joined(world: ApiWorld) -> tuple[str, Node]:
    id = world.create()["uuid"]
    world.passes(id, 10)
    [node] = world.repository.nodes(DeploymentId(id))
    assert node.state is NodeState.JOINED
    return id, node


def test_a_node_drains_and_another_comes_and_it_is_told_who_asked(world: ApiWorld) -> None:
    id, node = joined(world)
    path = f"/deployments/{id}/resources/{node.name}"
    asked = world.send("POST", f"{path}/actions", {"type": "drain"})
    assert (asked.status_code, asked.json["uuid"]) == (202, node.name)
    assert id in world.woken
    world.passes(id)
    found = world.get(path).json
    assert found["phase"] == "DRAINING"
    assert "was asked to leave by alice@" in found["reason"]["sentence"]
    world.passes(id, 20)
    assert world.get(path).json["phase"] == "GONE"
    assert [n.state for n in world.repository.nodes(DeploymentId(id))] == [NodeState.JOINED]
    again = world.send("POST", f"{path}/actions", {"type": "drain"})
    assert (again.status_code, again.json["code"]) == (409, "conflict")


def test_the_wish_is_one_audit_with_its_correlation_id(world: ApiWorld) -> None:
    id, node = joined(world)
    path = f"/deployments/{id}/resources/{node.name}/actions"
    for request in ("first", "second"):
        sent = world.send("POST", path, {"type": "drain"}, **{"X-Request-Id": request})
        assert sent.status_code == 202
    audits = [
        event
        for event in world.repository.events(deployment=DeploymentId(id))
        if event.kind is EventKind.AUDIT and event.node == node.name
    ]
    assert [event.message for event in audits] == ["asked to leave"]
    assert audits[0].correlation == "first"
    assert audits[0].actor.startswith("alice@")


@pytest.mark.parametrize("body", [{"type": "stop"}, {"type": "start"}, {}, {"type": None}])
def test_what_a_node_cannot_do_is_refused(world: ApiWorld, body: dict[str, object]) -> None:
    id, node = joined(world)
    path = f"/deployments/{id}/resources/{node.name}/actions"
    assert world.send("POST", path, body).status_code == 400
    assert world.repository.drains.asked(DeploymentId(id)) == {}


def test_a_node_that_there_is_not_cannot_be_asked(world: ApiWorld) -> None:
    id, _ = joined(world)
    path = f"/deployments/{id}/resources/absent/actions"
    assert world.send("POST", path, {"type": "drain"}).status_code == 404
