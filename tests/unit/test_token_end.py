"""The end of a person's token is not the end of what they made: two days later all goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_world import ApiWorld

from orchestrator.model import DeploymentId, DeploymentStatus, NodeState

HOUR = 3600.0


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiWorld]:
    monkeypatch.setattr("orchestrator.world.STEP_SECONDS", 15.0)  # two days pass sooner
    made = ApiWorld(tmp_path)
    yield made
    made.close()


def hours(world: ApiWorld, id: str, count: float) -> None:
    for _ in range(round(count * 20)):
        world.now += 180
        world.loop.run_once(DeploymentId(id))


def joined(world: ApiWorld, id: str) -> int:
    nodes = world.repository.nodes(DeploymentId(id))
    return sum(node.state is NodeState.JOINED for node in nodes)


def test_a_deployment_goes_on_for_two_days_without_any_token(world: ApiWorld) -> None:
    token = world.headers()["Authorization"].removeprefix("Bearer ")
    made = world.client.post(
        "/deployments",
        json={"template": "minimum: 1\n"},
        headers={"Authorization": f"Bearer {token}"},
    )
    id = made.json["uuid"]
    world.passes(id, 20)
    assert joined(world, id) == 1

    # Nothing that the server keeps has the token, so nothing can depend on it.
    written = b"".join(
        path.read_bytes() for path in world.settings.data_directory.rglob("*") if path.is_file()
    )
    assert token.encode() not in written
    assert token.rpartition(".")[2].encode() not in written

    jobs = world.world.submit(6, cores=2, seconds=10 * HOUR)
    hours(world, id, 1)
    assert joined(world, id) > 1  # it grows with the queue
    hours(world, id, 47)
    assert world.repository.deployment(DeploymentId(id)).status is DeploymentStatus.CREATE_COMPLETE
    assert sum(job.finished_at is not None for job in jobs) >= 3

    # Another token of the same person changes and deletes it.
    changed = world.send("PUT", f"/deployments/{id}", {"template": "minimum: 2\n"})
    assert changed.status_code == 202, changed.text
    hours(world, id, 0.5)
    assert joined(world, id) >= 2
    assert world.send("DELETE", f"/deployments/{id}?force=true").status_code == 204
    world.passes(id, 30)
    status = world.repository.deployment(DeploymentId(id)).status
    assert status is DeploymentStatus.DELETE_COMPLETE
