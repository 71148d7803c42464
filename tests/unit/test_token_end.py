"""The end of a person's token is not the end of what they made: two days later all goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_world import ApiWorld
from login_world import HOUR, LoginWorld

from orchestrator.model import DeploymentId, DeploymentStatus, NodeState
from orchestrator.store.repository import Call


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


# --- where the pool is joined in the owner's name -------------------------------------------------

CALLBACK = "https://hooks.example/vacuo"


@pytest.fixture
def owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoginWorld]:
    monkeypatch.setattr("orchestrator.world.STEP_SECONDS", 30.0)
    monkeypatch.setattr("orchestrator.identity.issuer_refresh.REFRESH_SECONDS", 30 * 3600)
    made = LoginWorld(tmp_path, callback_host="hooks.example")
    yield made
    made.close()


def calls(world: LoginWorld) -> list[Call]:
    """What was owed to the callback, one after the other, as if the receiver took each."""
    found = []
    while due := world.repository.calls_due(world.now):
        for call in due:
            world.repository.settle_call(call)
            found.append(call)
    return found


def good_until(world: LoginWorld) -> list[float]:
    hosts = world.world.hosts.values()
    return [host.credential_until - world.now for host in hosts if host.credential_until]


def test_a_login_that_ends_on_the_second_day_costs_no_machine(owners: LoginWorld) -> None:
    """Access tokens last an hour, the login thirty; its person comes back in the fortieth."""
    world = owners
    id = world.submit("minimum: 2\n", callback=CALLBACK)
    world.passes(id, 80)
    nodes = world.joined(id)
    assert len(nodes) == 2
    jobs = world.world.submit(2, cores=2, seconds=47 * HOUR)
    world.hours(id, 29)
    assert world.joined(id) == nodes
    assert world.codes(id).isdisjoint({"login-ended", "credential-renewal-failed"})
    assert all(left > 0.4 * HOUR for left in good_until(world))
    assert len(world.asked) > 50  # the access tokens did end
    assert calls(world)[-1].status is DeploymentStatus.CREATE_COMPLETE

    world.hours(id, 2)
    found = world.get(f"/deployments/{id}").json
    assert (found["status"], found["statusReasonCode"]) == ("CREATE_COMPLETE", "login-ended")
    explained = world.get(f"/deployments/{id}/explain").json
    assert explained["cause"]["code"] == "login-ended"
    assert explained["nextCommand"] == "vacuo credentials renew"
    (call,) = calls(world)
    assert call.status_reason
    assert call.status_reason.code == "login-ended"

    asked = len(world.asked)
    world.hours(id, 9)
    assert world.joined(id) == nodes
    assert len(world.asked) == asked  # nobody is bothered about a login that has ended
    assert all(left < 0 for left in good_until(world))
    told = [e for e in world.repository.events(limit=100_000) if e.code == "login-ended"]
    assert [event.deployment for event in told] == [id]
    assert "credential-renewal-failed" not in world.codes(id)

    assert world.bring().status_code == 200
    world.passes(id, 5)
    assert "login-ended" not in world.codes(id)
    assert all(left > 0.9 * HOUR for left in good_until(world))
    (call,) = calls(world)
    assert (call.status, call.status_reason) == (DeploymentStatus.CREATE_COMPLETE, None)
    last = world.repository.events(limit=100_000)[-1]
    assert "is there again" in last.message

    world.world.restart_pool()
    world.hours(id, 8)
    assert world.joined(id) == nodes
    assert [job.tries for job in jobs] == [1, 1]
    assert all(job.finished_at is not None for job in jobs)
    everybody = world.repository.nodes(DeploymentId(id), include_gone=True)
    assert len(everybody) == 2


def test_nothing_is_begun_that_could_not_be_ended_without_a_login(owners: LoginWorld) -> None:
    """Neither a change of the template nor a queue takes a host from its work."""
    world = owners
    id = world.submit("minimum: 1\n")
    world.passes(id, 80)
    (node,) = world.joined(id)
    world.hours(id, 31)
    assert "login-ended" in world.codes(id)
    world.world.submit(8, cores=2, seconds=2 * HOUR)
    # The change is a request of the owner, with a token that could be exchanged: it is not here.
    world.answers = [(400, '{"error": "invalid_request"}')]
    changed = world.send("PUT", f"/deployments/{id}", {"template": "{minimum: 1, idle: 9999}\n"})
    assert changed.status_code == 202, changed.text
    world.hours(id, 3)
    assert world.joined(id) == [node]
    assert len(world.world.hosts) == 1
    assert world.bring().status_code == 200
    world.hours(id, 1)
    assert len(world.joined(id)) > 1
    status = world.repository.deployment(DeploymentId(id)).status
    assert status is DeploymentStatus.UPDATE_COMPLETE


def test_the_owners_next_request_brings_the_login_back(owners: LoginWorld) -> None:
    world = owners
    id = world.submit("minimum: 1\n")
    world.passes(id, 80)
    world.hours(id, 31)
    assert "login-ended" in world.codes(id)
    world.submit("minimum: 0\n")
    world.passes(id, 3)
    assert "login-ended" not in world.codes(id)


def test_a_deployment_without_its_login_can_be_deleted(owners: LoginWorld) -> None:
    world = owners
    id = world.submit("minimum: 1\n")
    world.passes(id, 80)
    world.hours(id, 31)
    assert world.send("DELETE", f"/deployments/{id}?force=true").status_code == 204
    world.passes(id, 30)
    status = world.repository.deployment(DeploymentId(id)).status
    assert status is DeploymentStatus.DELETE_COMPLETE
