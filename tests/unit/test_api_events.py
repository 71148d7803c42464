"""Events: as JSON, as a stream, and resumed where a stream broke off."""

from __future__ import annotations

import json
import threading
import time
from itertools import islice

import pytest
from api_world import ApiWorld

from orchestrator.api import events as stream
from orchestrator.api.requests import Services
from orchestrator.model import DeploymentStatus, Event, EventKind


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "POLL_SECONDS", 0.01)
    world = ApiWorld(tmp_path, streams=2)
    yield world
    world.close()


def append(world, id, *messages, **fields):
    world.repository.append(
        [Event(world.now, EventKind.TASK, id, message, **fields) for message in messages]
    )


def opened(world, path, who="alice", **headers):
    answer = world.get(path, who=who, Accept="text/event-stream", **headers)
    assert answer.status_code == 200, answer.text
    assert answer.mimetype == "text/event-stream"
    return answer


def frames(answer, count=None):
    """The frames of a stream as dictionaries; ``count`` of them, or all there are."""
    found = []
    texts = answer.iter_encoded() if count is None else islice(answer.iter_encoded(), count)
    for text in texts:
        lines = text.decode().rstrip("\n").split("\n")
        found.append(dict(line.split(": ", 1) for line in lines))
    return found


def messages(some):
    return [json.loads(frame["data"])["message"] for frame in some if "id" in frame]


def test_json_gives_events_after_a_number_up_to_a_limit(world):
    id = world.create()["uuid"]
    append(world, id, "one", "two", "three")
    whole = world.get(f"/deployments/{id}/events").json
    assert [event["message"] for event in whole["events"]][1:] == ["one", "two", "three"]
    assert whole["last"] == whole["events"][-1]["sequence"]
    first = world.get(f"/deployments/{id}/events?limit=2").json
    rest = world.get(f"/deployments/{id}/events?since={first['last']}").json
    assert first["events"] + rest["events"] == whole["events"]
    none = world.get(f"/deployments/{id}/events?since={whole['last']}").json
    assert none == {"events": [], "last": whole["last"]}


def test_events_filter_by_node_and_failure(world):
    id = world.create()["uuid"]
    append(world, id, "good", node="n1")
    append(world, id, "bad", node="n1", failed=True)
    append(world, id, "other", node="n2", failed=True)
    path = f"/deployments/{id}/events?node=n1&failed=true"
    assert [event["message"] for event in world.get(path).json["events"]] == ["bad"]


def test_ones_own_events_are_those_of_all_ones_deployments_and_no_others(world):
    mine = [world.create()["uuid"] for _ in range(2)]
    theirs = world.create("bob")["uuid"]
    append(world, theirs, "secret")
    append(world, None, "of the server")
    found = world.get("/events").json["events"]
    assert {event["deployment"] for event in found} == set(mine)


def test_a_stream_has_ids_kinds_and_data_and_ends_with_the_deployment(world):
    id = world.create()["uuid"]
    append(world, id, "line one\nline two: ä\r")
    world.repository.change(id, status=DeploymentStatus.DELETE_COMPLETE)
    first, *told, last = frames(opened(world, f"/deployments/{id}/events"))
    assert first == {"retry": "2000"}
    assert [frame["event"] for frame in told] == ["audit", "task"]
    assert [int(frame["id"]) for frame in told] == sorted(int(frame["id"]) for frame in told)
    assert json.loads(told[1]["data"])["message"] == "line one\nline two: ä\r"
    assert last == {"event": "end", "data": '{"status": "DELETE_COMPLETE"}'}


def test_a_stream_resumes_after_the_last_id_and_misses_nothing(world):
    id = world.create()["uuid"]
    append(world, id, "one", "two")
    broken = opened(world, f"/deployments/{id}/events")
    seen = frames(broken, 3)  # retry, the audit, "one"
    broken.close()
    append(world, id, "three")
    world.repository.change(id, status=DeploymentStatus.DELETE_COMPLETE)
    resumed = opened(
        world, f"/deployments/{id}/events?since=0", **{"Last-Event-ID": seen[-1]["id"]}
    )
    assert messages(seen)[-1] == "one"
    assert messages(frames(resumed)) == ["two", "three"]


@pytest.mark.parametrize("sent", ["x", "-1", "1.5", "9" * 19, "٣"])
def test_an_id_that_is_not_a_number_is_refused(world, sent):
    id = world.create()["uuid"]
    headers = {"Accept": "text/event-stream", "Last-Event-ID": sent}
    answer = world.get(f"/deployments/{id}/events", **headers)
    assert answer.status_code == 400
    assert answer.json["errors"][0]["path"] == "Last-Event-ID"


def test_a_stream_tells_what_happens_while_it_is_open(world):
    id = world.create()["uuid"]
    answer = opened(world, f"/deployments/{id}/events")
    texts = answer.iter_encoded()
    next(texts), next(texts)  # retry, the audit
    writer = threading.Timer(0.05, append, (world, id, "later"))
    writer.start()
    assert b'"message":"later"' in next(texts)
    writer.join()
    answer.close()


def test_a_quiet_stream_shows_that_it_is_alive(world, monkeypatch):
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.02)
    id = world.create()["uuid"]
    answer = opened(world, f"/deployments/{id}/events")
    assert list(islice(answer.iter_encoded(), 3))[-1] == b": alive\n\n"
    answer.close()


def test_more_streams_than_there_are_places_are_told_what_else_works(world):
    open_streams = [opened(world, "/events") for _ in range(2)]
    answer = world.get("/events", Accept="text/event-stream")
    assert answer.status_code == 503
    assert answer.json["code"] == "too-many-streams"
    assert world.get("/events?since=0").status_code == 200
    for one in open_streams:
        one.close()
        one.close()
    for one in [opened(world, "/events") for _ in range(2)]:
        one.close()


def test_a_head_request_takes_no_place(world):
    for _ in range(3):
        headers = world.headers() | {"Accept": "text/event-stream"}
        assert world.client.head("/events", headers=headers).status_code == 200


def test_a_stream_ends_when_its_token_does(world):
    id = world.create()["uuid"]
    headers = {
        "Authorization": f"Bearer {world.issuer.mint('alice', 1.0)}",
        "Accept": "text/event-stream",
    }
    answer = world.client.get(f"/deployments/{id}/events", headers=headers)
    assert answer.status_code == 200
    assert "event: end" not in answer.text
    assert time.time() > 0


def test_a_server_that_stops_ends_its_streams(world):
    id = world.create()["uuid"]
    answer = opened(world, f"/deployments/{id}/events")
    Services.of(world.app).closing.set()
    assert len(frames(answer)) == 1  # retry


def test_a_stream_of_a_deployment_that_is_forgotten_ends(world):
    id = world.create()["uuid"]
    answer = opened(world, f"/deployments/{id}/events")
    world.repository.change(id, status=DeploymentStatus.DELETE_COMPLETE)
    world.repository.prune(world.now + 1e6, 0.0)
    assert frames(answer)[-1]["event"] == "end"


@pytest.mark.parametrize("accept", ["application/json", "*/*", "", "text/event-stream;q=0.1, */*"])
def test_json_is_the_answer_to_everybody_who_does_not_ask_for_a_stream(world, accept):
    assert world.get("/events", Accept=accept).mimetype == "application/json"
