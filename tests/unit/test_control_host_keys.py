"""A host that shows another ssh key than its site tells of is replaced, and gets nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_world import TEMPLATE, ApiWorld, submission

from orchestrator.configure.base import HostToConfigure, TaskStatus
from orchestrator.configure.run_events import Progress
from orchestrator.model import DeploymentId, Node, NodeName, NodeState


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiWorld]:
    made = ApiWorld(tmp_path)
    yield made
    made.close()


def nodes(api: ApiWorld, id: str, *, gone: bool = False) -> tuple[Node, ...]:
    return api.repository.nodes(DeploymentId(id), include_gone=gone)


def test_a_new_host_with_another_key_is_replaced_and_gets_nothing(api: ApiWorld) -> None:
    api.world.faults.host_keys_differ = True
    id = api.create()["uuid"]
    first = ""
    for _ in range(20):
        api.passes(id)
        first = first or "".join(node.name for node in nodes(api, id))
        if [node for node in nodes(api, id, gone=True) if node.state is NodeState.GONE]:
            break
    [lost] = [node for node in nodes(api, id, gone=True) if node.name == first]
    assert lost.state is NodeState.GONE
    assert lost.attempts == 1  # it was not tried again
    texts = [event.message for event in api.repository.events(deployment=DeploymentId(id))]
    assert any("another ssh host key" in text and first in text for text in texts)
    assert all(host.credential_until is None for host in api.world.hosts.values())
    assert all(host.configured_at is None for host in api.world.hosts.values())
    api.world.faults.host_keys_differ = False
    api.now += 600
    api.passes(id, 20)
    assert [node.state for node in nodes(api, id)] == [NodeState.JOINED]
    assert api.get(f"/deployments/{id}").json["status"] == "CREATE_COMPLETE"


def test_a_host_in_service_that_shows_another_key_is_drained_and_replaced(api: ApiWorld) -> None:
    id = api.create()["uuid"]
    api.passes(id, 20)
    [before] = nodes(api, id)
    assert before.state is NodeState.JOINED
    api.world.faults.host_keys_differ = True
    template = f"{TEMPLATE}idle: 1800\n"
    changed = api.send("PUT", f"/deployments/{id}", submission(template=template))
    assert changed.status_code == 202
    states = set()
    for _ in range(10):
        api.passes(id)
        states |= {node.state for node in nodes(api, id) if node.name == before.name}
    assert NodeState.DRAINING in states
    assert before.name not in [node.name for node in nodes(api, id)]
    texts = [event.message for event in api.repository.events(deployment=DeploymentId(id))]
    assert any("another ssh host key" in text for text in texts)


SSH = "Failed to connect to the host via ssh: Host key verification failed."
CHANGED = "@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@"
MITOGEN = "Host key checking is enabled, and SSH reported an unrecognized or mismatching host key."
AWAY = "Failed to connect to the host via ssh: Connection refused"


@pytest.mark.parametrize("said", [SSH, CHANGED, MITOGEN, AWAY])
def test_what_ssh_says_of_another_key_is_told_from_a_host_that_is_away(said: str) -> None:
    host = HostToConfigure(NodeName("n"), "10.0.0.1", ("ssh-ed25519 AAAA",), ())
    data = {"host": "n", "task": "t", "res": {"msg": said}}
    event = Progress([host]).take({"event": "runner_on_unreachable", "event_data": data})
    assert event is not None
    wanted = TaskStatus.UNREACHABLE if said is AWAY else TaskStatus.DISTRUSTED
    assert event.status is wanted
    assert re.search("ssh|SSH|HOST", event.message)
