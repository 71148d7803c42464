"""What a browser may do with the API: nothing, unless its own page asks.

``test_api_sessions.py`` is about those who are signed in.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from api_world import ApiWorld

from orchestrator.identity.policy import Access, access_of

HOSTILE = "https://evil.example"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiWorld]:
    made = ApiWorld(tmp_path_factory.mktemp("world"))
    yield made
    made.close()


def routes(api: ApiWorld) -> list[tuple[str, str]]:
    found = []
    for rule in api.app.url_map.iter_rules():
        if access_of(api.app.view_functions[rule.endpoint]) is Access.THIS_MACHINE:
            continue  # the development issuer's, which refuses other origins altogether
        path = rule.rule.replace("<", "").replace(">", "")
        found += [(method, path) for method in sorted(rule.methods or ()) if method != "OPTIONS"]
    return found


def test_no_other_origin_is_let_in_by_any_route(api: ApiWorld) -> None:
    for method, path in routes(api):
        for origin in (HOSTILE, "null", "http://localhost:8420"):
            asked = {
                "Origin": origin,
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": "authorization",
            }
            preflight = api.client.options(path, headers=asked)
            answer = api.client.open(path, method=method, headers={"Origin": origin})
            for found in (preflight, answer):
                named = [name for name, _ in found.headers if name.lower().startswith("access-")]
                assert named == [], (method, path, origin)


def test_only_signing_in_and_out_sets_a_cookie_and_no_other_cookie_is_looked_at(
    api: ApiWorld,
) -> None:
    token = api.issuer.mint("alice")
    for method, path in routes(api):
        answer = api.client.open(path, method=method, headers={"Cookie": f"session={token}"})
        if path not in ("/login", "/logout"):
            assert "Set-Cookie" not in answer.headers, (method, path)
    for name in ("Authorization", "session", "vacuo-session", "__Host-vacuo-session"):
        for value in (f"Bearer {token}", token):
            answer = api.client.get("/deployments", headers={"Cookie": f"{name}={value}"})
            assert answer.status_code == 401, name


def test_a_token_in_the_address_is_not_taken(api: ApiWorld) -> None:
    token = api.issuer.mint("alice")
    for name in ("access_token", "token", "authorization"):
        assert api.client.get(f"/deployments?{name}={token}").status_code == 401


def test_answers_are_kept_by_no_cache_and_shown_in_no_frame(api: ApiWorld) -> None:
    made = api.create()["uuid"]
    for path in (f"/deployments/{made}", f"/deployments/{made}/template", "/deployments", "/none"):
        headers = api.get(path).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_pages_for_people_run_no_script_and_are_in_no_frame(api: ApiWorld) -> None:
    for path in ("/issuer/device", "/account"):
        page = api.client.get(path, environ_base={"REMOTE_ADDR": "127.0.0.1"})
        assert page.mimetype == "text/html"
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert "frame-ancestors 'none'" in policy
        assert page.headers["X-Content-Type-Options"] == "nosniff"


def test_https_is_insisted_on_where_the_server_is_reached_by_it(api: ApiWorld) -> None:
    assert "Strict-Transport-Security" not in api.get("/healthz").headers
    api.orchestrator.settings = api.settings.model_copy(update={"public_url": "https://v.example"})
    assert "max-age=31536000" in api.get("/healthz").headers["Strict-Transport-Security"]
    assert "Strict-Transport-Security" in api.client.get("/none").headers
    api.orchestrator.settings = api.settings
