"""All routes at once: who may, what is described, what is written down."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from api_world import ApiWorld

from orchestrator.api import codes, problems
from orchestrator.identity.claims import Fault
from orchestrator.identity.policy import Access, access_of, without_policy

ROOT = Path(__file__).parents[2]
REDIRECTS = ("/login", "/login/callback", "/logout")
PAGES = ("/account", *REDIRECTS)
DOCUMENT = (ROOT / "docs/user/api.md").read_text()


@pytest.fixture
def world(tmp_path):
    world = ApiWorld(tmp_path)
    yield world
    world.close()


def routes(world, *rules):
    """(method, path with ``{name}`` parameters) of the API's own routes."""
    for rule in world.app.url_map.iter_rules():
        wanted = access_of(world.app.view_functions[rule.endpoint])
        if rule.rule.startswith("/issuer/") or (rules and wanted not in rules):
            continue
        for method in sorted(rule.methods - {"HEAD", "OPTIONS"}):
            yield method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)


def filled(path, id):
    return path.replace("{id}", id).replace("{rid}", "workers-1")


def test_every_route_has_a_policy(world):
    rules = list(world.app.url_map.iter_rules())
    assert len(list(routes(world))) >= 23
    assert without_policy(rules, world.app.view_functions) == ()


def test_an_application_with_an_open_route_is_not_built(tmp_path, monkeypatch):
    from flask import Blueprint

    from orchestrator.api import about

    blueprint = Blueprint("open", __name__)
    blueprint.get("/open")(lambda: "")
    monkeypatch.setattr(about, "blueprint", blueprint)
    with pytest.raises(RuntimeError, match="/open"):
        ApiWorld(tmp_path)


def test_without_a_token_only_public_routes_answer(world):
    id = world.create()["uuid"]
    for method, path in routes(world, *(rule for rule in Access if rule.needs_token)):
        answer = world.client.open(filled(path, id), method=method, data=b"{ not read")
        assert answer.status_code == 401, (method, path)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.json["code"] == "token-missing"
    for method, path in routes(world, Access.PUBLIC):
        assert world.client.open(path, method=method).status_code == 200, path


def test_to_another_person_a_deployment_does_not_exist(world):
    id = world.create()["uuid"]
    absent = "00000000-0000-4000-8000-000000000000"
    seen = set()
    for method, path in routes(world, *(rule for rule in Access if rule.of_deployment)):
        theirs = world.send(method, filled(path, id), who="mallory", **{"X-Request-Id": "x"})
        none = world.send(method, filled(path, absent), who="mallory", **{"X-Request-Id": "x"})
        assert theirs.status_code == none.status_code == 404, (method, path)
        assert theirs.text.replace(id, absent) == none.text
        seen.add((method, path))
    assert ("DELETE", "/deployments/{id}") in seen
    assert world.get(f"/deployments/{id}").json["status"] == "CREATE_IN_PROGRESS"


def test_openapi_lists_every_route_with_its_answers(world):
    described = world.client.get("/openapi.json").json
    assert described["openapi"].startswith("3.1")
    listed = {
        (method.upper(), path) for path, methods in described["paths"].items() for method in methods
    }
    assert listed == set(routes(world))
    for method, path in routes(world):
        operation = described["paths"][path][method.lower()]
        assert operation["summary"].endswith((".", "why.")), path
        good = "3" if path in REDIRECTS else "2"
        assert any(status.startswith(good) for status in operation["responses"]), path
        for status, answer in operation["responses"].items():
            if status[0] in "45" and path != "/readyz":
                page = path in PAGES and status != "500"
                media = "text/html; charset=utf-8" if page else problems.MEDIA_TYPE
                assert list(answer["content"]) == [media], (path, status)


def test_openapi_names_the_headers_that_are_read(world):
    described = world.client.get("/openapi.json").json["paths"]

    def headers(method, path):
        parameters = described[path][method]["parameters"]
        return [entry["name"] for entry in parameters if entry["in"] == "header"]

    assert headers("post", "/deployments") == ["Idempotency-Key"]
    assert headers("get", "/deployments/{id}/events") == ["Last-Event-ID"]


@pytest.mark.parametrize("rule", [rule for rule in Access if rule.needs_token])
def test_openapi_says_which_routes_need_a_token(world, rule):
    described = world.client.get("/openapi.json").json
    for method, path in routes(world, rule):
        operation = described["paths"][path][method.lower()]
        assert operation["security"] == [{"bearer": []}, {"session": []}]
        assert {"401", "429"} <= set(operation["responses"])
        assert ("403" in operation["responses"]) == (rule is not Access.IDENTIFIED)
        names_a_thing = rule.of_deployment or (method, path) == ("DELETE", "/credentials/{name}")
        assert ("404" in operation["responses"]) == names_a_thing


def test_every_reference_of_the_description_leads_somewhere(world):
    described = world.client.get("/openapi.json")
    schemas = described.json["components"]["schemas"]
    found = set(re.findall(r'"#/components/schemas/([^"]+)"', described.text))
    assert found <= set(schemas)


def test_statuses_that_come_back_are_described(world):
    described = world.client.get("/openapi.json").json["paths"]
    id = world.create()["uuid"]
    for method, path in routes(world):
        answer = world.send(method, filled(path, id), {"unknown": 1})
        assert str(answer.status_code) in described[path][method.lower()]["responses"], path


def test_the_documentation_has_every_route(world):
    for method, path in routes(world):
        assert f"### `{method} {path}`" in DOCUMENT, (method, path)
    written = set(re.findall(r"^### `([A-Z]+) (/\S*)`$", DOCUMENT, re.M))
    assert written == set(routes(world))


def test_the_documentation_has_every_code_of_an_error(world):
    table = re.search(r"^\| status \| codes \|$(.*?)^$", DOCUMENT, re.M | re.S)[1]
    assert set(re.findall(r"`([a-z-]+)`", table)) == set(codes.CODES)
    page = world.client.get("/docs/errors").text
    for name, code in codes.CODES.items():
        assert f"## {name}\n" in page
        assert re.search(rf"^\| {code.status} \|.*`{name}`", table, re.M), name


def test_every_code_that_a_request_can_meet_is_in_the_registry():
    sources = [*(ROOT / "orchestrator/tosca").glob("*.py"), *(ROOT / "orchestrator").glob("e*.py")]
    sources += [ROOT / "orchestrator/identity/tokens.py", ROOT / "orchestrator/control/service.py"]
    text = "".join(path.read_text() for path in sources)
    found = set(re.findall(r'\bcode="([a-z-]+)"', text)) | {fault.value for fault in Fault}
    assert "template-busy" in found
    assert found - {"configuration-invalid"} <= set(codes.CODES)


def test_the_documentation_has_every_field(world):
    schemas = world.client.get("/openapi.json").json["components"]["schemas"]
    for name, schema in schemas.items():
        for field in schema.get("properties", {}):
            forms = (f'"{field}"', f"`{field}`", f"`?{field}=")
            assert any(form in DOCUMENT for form in forms), (name, field)


def test_every_answer_has_security_headers_and_a_correlation_id(world):
    for path in ("/info", "/nowhere", "/deployments", "/issuer/jwks"):
        answer = world.client.get(path, headers={"X-Request-Id": "my-id.1"})
        assert answer.headers["X-Request-Id"] == "my-id.1"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("sent", ["", "a b", "x" * 65, "ä", "a\tb"])
def test_a_correlation_id_that_is_not_fit_for_a_log_is_replaced(world, sent):
    answer = world.client.get("/info", headers={"X-Request-Id": sent})
    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["X-Request-Id"])
