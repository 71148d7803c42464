"""What is refused, how it is told, and that nothing of it comes back."""

from __future__ import annotations

import io
import json
import time

import pytest
from api_world import TEMPLATE, ApiWorld, submission

from orchestrator.errors import OutcomeUnknown, StoreUnavailable
from orchestrator.identity import issuer as development
from orchestrator.settings import Limits, Settings
from orchestrator.tosca.sandbox import Compiler

SECRET = "hunter2-hunter2-hunter2"
MEMBERS = {
    "type",
    "title",
    "status",
    "detail",
    "code",
    "what",
    "why",
    "attempt",
    "message",
    "correlation",
    "errors",
}


@pytest.fixture
def world(tmp_path):
    world = ApiWorld(tmp_path)
    yield world
    world.close()


def refused(answer, status, code):
    """The problem in ``answer``, checked for its shape."""
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    problem = answer.json
    assert set(problem) == MEMBERS
    assert problem["code"] == code
    assert problem["status"] == status
    assert problem["type"] == f"/docs/errors#{code}"
    assert problem["correlation"] == answer.headers["X-Request-Id"]
    assert problem["detail"] == problem["message"]
    assert problem["detail"].startswith(problem["what"])
    return problem


def post(world, data, path="/deployments", **headers):
    sent = world.headers() | {"Content-Type": "application/json"} | headers
    return world.client.post(path, data=data, headers=sent)


@pytest.mark.parametrize("path", ["/deployments", "/plan", "/validate"])
def test_an_unknown_field_is_refused_by_name(world, path):
    answer = world.send("POST", path, submission(tempalte=SECRET))
    problem = refused(answer, 400, "request-invalid")
    assert problem["errors"] == [
        {
            "file": None,
            "line": None,
            "column": None,
            "path": "tempalte",
            "sentence": "There is no field tempalte.",
            "suggestion": "Did you mean `template`?",
        }
    ]
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        {"parameters": {}},
        submission(template=[SECRET]),
        submission(template=None),
        submission(parameters=SECRET),
        submission(parameters=[SECRET]),
        submission(callback=f"http://{SECRET}/"),
        submission(callback=f"https://user:{SECRET}@example.org/"),
        submission(callback=f"javascript:{SECRET}"),
        submission(callback=f"https://[{SECRET}"),
        submission(userGroup=SECRET * 20),
        submission(userGroup=7),
        submission(timeoutMins=SECRET),
        submission(timeoutMins=-1),
        submission(keepLastAttempt=SECRET),
        submission(user_group="cms"),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_and_not_repeated(world, body):
    answer = world.send("POST", "/deployments", body)
    problem = refused(answer, 400, "request-invalid")
    assert problem["errors"]
    assert all(error["path"] for error in problem["errors"])
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"template": NaN}',
        b'{"template": "a", "template": "b"}',
        b'{"template": "\xff"}',
        b'{"template": "a", "parameters": {"x": "\\ud800"}}',
        b'{"template": "a", "parameters": {"x\\u0000": 1}}',
        b'{"template": "a", "parameters": {"x": ' + b"9" * 5000 + b"}}",
        b'{"template": ' + b"[" * 60_000,
    ],
)
def test_what_is_not_a_json_object_is_refused(world, data):
    refused(post(world, data), 400, "json-invalid")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_of_another_media_type_is_refused(world, kind):
    data = json.dumps(submission()).encode()
    refused(post(world, data, **{"Content-Type": kind}), 415, "media-type")


@pytest.mark.parametrize("path", ["/deployments", "/plan", "/validate"])
def test_a_template_of_ten_megabytes_is_not_read(world, path):
    data = json.dumps(submission(template="#" * 10_000_000)).encode()
    problem = refused(post(world, data, path), 413, "too-large")
    assert "100000 bytes" in problem["why"]


def test_a_body_that_does_not_say_how_long_it_is_is_not_read_to_its_end(world):
    class Endless(io.RawIOBase):
        given = 0

        def readable(self):
            return True

        def readinto(self, buffer):
            self.given += len(buffer)
            assert self.given < 1_000_000
            buffer[:] = b" " * len(buffer)
            return len(buffer)

    answer = world.client.post(
        "/validate",
        headers=world.headers() | {"Content-Type": "application/json"},
        environ_overrides={
            "wsgi.input": io.BufferedReader(Endless()),
            "wsgi.input_terminated": True,
        },
    )
    refused(answer, 413, "too-large")


def test_a_template_just_above_the_limit_is_refused_as_well(world):
    limit = world.settings.limits.template_bytes
    refused(world.send("POST", "/validate", submission(template="ä" * limit)), 413, "too-large")
    fits = TEMPLATE + "#" * (limit - len(TEMPLATE))
    assert world.send("POST", "/validate", submission(template=fits)).status_code == 200


def test_a_body_is_not_looked_at_without_a_token(world):
    data = b"{" * 10_000_000
    answer = world.client.post("/deployments", data=data)
    refused(answer, 401, "token-missing")


def test_an_expired_token_is_told_apart(world):
    settings = Settings(data_directory=world.settings.data_directory, development_issuer=True)
    earlier = development.build(settings, lambda: time.time() - 7200)
    token = earlier.mint("alice", 3600)
    answer = world.client.get("/deployments", headers={"Authorization": f"Bearer {token}"})
    refused(answer, 401, "token-expired")
    assert "invalid_token" in answer.headers["WWW-Authenticate"]
    assert token not in answer.text


def test_a_token_of_somewhere_else_is_not_accepted(world, tmp_path):
    other = Settings(data_directory=tmp_path / "other", development_issuer=True)
    token = development.build(other).mint("alice")
    answer = world.client.get("/deployments", headers={"Authorization": f"Bearer {token}"})
    refused(answer, 401, "token-invalid")


def test_a_template_that_is_not_a_mapping_is_told_with_its_place(world):
    answer = world.send("POST", "/deployments", submission(template="- a\n- b\n"))
    problem = refused(answer, 400, "template-invalid")
    (error,) = problem["errors"]
    assert (error["line"], error["column"]) == (1, 1)
    assert error["sentence"] == "The template is not a mapping."
    assert error["suggestion"] == "Start again."
    assert world.get("/deployments").json["page"]["totalElements"] == 0


def test_a_type_that_does_not_exist_comes_with_a_suggestion(tmp_path):
    compiler = Compiler(Limits())
    world = ApiWorld(tmp_path, compiler)
    lines = [
        "tosca_definitions_version: tosca_simple_yaml_1_3",
        "imports: [vacuo/types.yaml]",
        "topology_template:",
        "  node_templates:",
        "    proxy:",
        "      type: vacuo.nodes.Squidd",
    ]
    answer = world.send("POST", "/validate", submission(template="\n".join(lines)))
    compiler.close()
    world.close()
    problem = refused(answer, 400, "template-invalid")
    error = next(entry for entry in problem["errors"] if "Squidd" in entry["sentence"])
    assert (error["file"], error["line"], error["column"]) == ("template.yaml", 6, 13)
    assert error["path"] == "topology_template.node_templates.proxy.type"
    assert "`vacuo.nodes.Squid`" in error["suggestion"]


@pytest.mark.parametrize(
    "query",
    [
        "forec=true",
        "page=-1",
        "size=0",
        "size=1001",
        "page=x",
        "sort=name",
        "sort=creationTime,up",
        "status=WELL",
        f"status={SECRET}",
        f"{SECRET}",
    ],
)
def test_a_query_parameter_that_is_not_understood_is_refused(world, query):
    answer = world.get(f"/deployments?{query}")
    problem = refused(answer, 400, "request-invalid")
    assert problem["errors"][0]["path"] == query.partition("=")[0]
    if "=" in query:
        assert SECRET not in answer.text


def test_force_is_not_taken_from_a_misspelt_parameter(world):
    id = world.create()["uuid"]
    answer = world.send("DELETE", f"/deployments/{id}?forced=true")
    refused(answer, 400, "request-invalid")
    assert world.get(f"/deployments/{id}").json["status"] == "CREATE_IN_PROGRESS"


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_an_idempotency_key_that_cannot_be_kept_is_refused(world, key):
    answer = world.send("POST", "/deployments", **{"Idempotency-Key": key})
    problem = refused(answer, 400, "request-invalid")
    assert problem["errors"][0]["path"] == "Idempotency-Key"


def test_an_unknown_path_and_a_wrong_method_are_problems_too(world):
    refused(world.get("/nowhere"), 404, "not-found")
    answer = world.send("PATCH", "/deployments")
    refused(answer, 405, "method-not-allowed")
    assert "POST" in answer.headers["Allow"]


def test_a_fault_of_ours_says_nothing_of_its_inside(world, monkeypatch, caplog):
    def fail(*_args):
        raise ValueError(SECRET)

    monkeypatch.setattr(world.orchestrator, "validate", fail)
    answer = world.send("POST", "/validate")
    refused(answer, 500, "internal")
    assert SECRET not in answer.text
    assert "Traceback" not in answer.text
    assert SECRET in caplog.text  # the log has it, for those who run the server


def test_a_store_that_cannot_write_is_said_to_be_so(world, monkeypatch):
    def fail(*_args, **_fields):
        raise StoreUnavailable("database or disk is full", after=7)

    monkeypatch.setattr(world.repository, "create", fail)
    answer = world.send("POST", "/deployments")
    refused(answer, 503, "unavailable")
    assert answer.headers["Retry-After"] == "7"


def test_a_site_that_fails_a_request_is_told_as_such(world, monkeypatch):
    def fail(*_args, **_fields):
        raise OutcomeUnknown("site answered 500")

    monkeypatch.setattr(world.orchestrator, "preview", fail)
    problem = refused(world.send("POST", "/plan"), 502, "site-failed")
    assert problem["why"] == "site answered 500."
