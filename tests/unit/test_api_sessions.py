"""People with browsers: signing in and out, what their cookie opens, and what it does not.

The issuer is the real development issuer; the browser is Flask's, with its jar of cookies.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from api_world import ApiWorld, submission

from orchestrator.api.browser import CSRF_HEADER
from orchestrator.api.requests import Services
from orchestrator.identity.rate import Pace
from orchestrator.identity.tokens import TokenValidator
from orchestrator.identity.web_sessions import IDLE_SECONDS, MAXIMUM_SESSIONS, csrf_of

COOKIE = "vacuo-session"
ORIGIN = "http://127.0.0.1:8420"
EVIL = "https://evil.example"


class Browser:
    """One browser: it follows nothing by itself, and says where its requests come from."""

    def __init__(self, world: ApiWorld) -> None:
        self.world = world
        self.client = world.app.test_client()

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path.removeprefix(ORIGIN), base_url=ORIGIN, headers=headers)

    def post(self, path: str, form: dict[str, str], **headers: str) -> Any:
        return self.client.post(path, base_url=ORIGIN, data=form, headers=headers)

    def consent(self, next: str = "/account", user: str = "alice") -> str:
        """Begin to sign in and approve; where the issuer sends the browser back to."""
        begun = self.get(f"/login?{urlencode({'next': next})}")
        assert begun.status_code == 303, begun.text
        page = self.get(begun.headers["Location"])
        fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.text))
        answer = self.post(
            "/issuer/authorize", fields | {"user": user, "answer": "approve"}, Origin=ORIGIN
        )
        assert answer.status_code == 302, answer.text
        return str(answer.headers["Location"])

    def sign_in(self, user: str = "alice", next: str = "/account") -> Any:
        answer = self.get(self.consent(next, user))
        assert answer.status_code == 303, answer.text
        return answer

    @property
    def cookie(self) -> str:
        found = self.client.get_cookie(COOKIE, domain="127.0.0.1")
        return found.value if found else ""

    def show(self, cookie: str) -> None:
        self.client.set_cookie(COOKIE, cookie, domain="127.0.0.1")

    @property
    def csrf(self) -> str:
        return str(self.get("/session").json["csrfToken"])

    def create(self, **headers: str) -> Any:
        return self.client.post(
            "/deployments", base_url=ORIGIN, json=submission(), headers=dict(headers)
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ApiWorld]:
    found = ApiWorld(tmp_path)
    yield found
    found.close()


@pytest.fixture
def browser(world: ApiWorld) -> Browser:
    return Browser(world)


# --- signing in ----------------------------------------------------------------------------------


def test_a_person_signs_in_sees_who_they_are_and_signs_out(browser: Browser) -> None:
    assert "not signed in" in browser.get("/account").text
    answer = browser.sign_in(next="/session")
    assert answer.headers["Location"] == f"{ORIGIN}/session"
    found = browser.get("/session").json
    assert (found["subject"], found["issuerName"]) == ("alice", "development")
    assert 0 < found["secondsLeft"] <= 3600
    page = browser.get("/account").text
    assert "<strong>alice</strong>" in page
    form = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))
    out = browser.post("/logout", form, Origin=ORIGIN)
    assert (out.status_code, out.headers["Location"]) == (303, f"{ORIGIN}/account")
    assert "not signed in" in browser.get("/account").text


def test_a_session_is_the_same_principal_as_a_token(world: ApiWorld, browser: Browser) -> None:
    browser.sign_in()
    made = browser.create(**{CSRF_HEADER: browser.csrf})
    assert made.status_code == 201, made.text
    assert world.get(f"/deployments/{made.json['uuid']}").status_code == 200
    assert browser.get(f"/deployments/{made.json['uuid']}").status_code == 200
    theirs = world.create("mallory")["uuid"]
    assert browser.get(f"/deployments/{theirs}").status_code == 404
    assert browser.get("/whoami").json["roles"] == world.get("/whoami").json["roles"]


def test_the_cookie_is_kept_from_scripts_other_sites_and_other_hosts(browser: Browser) -> None:
    set_cookie = browser.sign_in().headers.getlist("Set-Cookie")
    session = next(one for one in set_cookie if one.startswith(f"{COOKIE}="))
    for part in ("HttpOnly", "SameSite=Lax", "Path=/"):
        assert part in session
    assert "Domain" not in session
    assert re.match(rf"{COOKIE}=[A-Za-z0-9_-]{{43}};", session)


def test_by_https_cookies_are_for_this_host_and_https_alone(
    world: ApiWorld, browser: Browser
) -> None:
    services = Services.of(world.app)
    services.browsers = dataclasses.replace(services.browsers, url="https://vacuo.example")
    begun = browser.get("/login")
    assert begun.status_code == 303
    (cookie,) = begun.headers.getlist("Set-Cookie")
    assert cookie.startswith("__Host-vacuo-login=")
    for part in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert part in cookie
    assert "Domain" not in cookie
    assert services.browsers.session_cookie == "__Host-vacuo-session"


def test_the_store_has_the_hash_of_the_cookie_and_no_token(
    world: ApiWorld, browser: Browser
) -> None:
    browser.sign_in()
    csrf = browser.csrf
    directory = world.settings.data_directory
    stored = b"".join(path.read_bytes() for path in directory.glob("vacuo.db*"))
    assert b"alice" in stored
    assert browser.cookie.encode() not in stored
    assert csrf.encode() not in stored
    assert b"eyJ" not in stored


def test_a_login_without_the_cookie_of_its_browser_signs_nobody_in(world: ApiWorld) -> None:
    mallory, victim = Browser(world), Browser(world)
    link = mallory.consent(user="mallory")  # a victim is made to open it
    answer = victim.get(link)
    assert answer.status_code == 400
    assert "No login is under way" in answer.text
    assert victim.cookie == ""
    victim.consent()  # not even if they began one themselves
    assert victim.get(link).status_code == 400
    assert victim.cookie == ""


def test_a_code_is_good_once(browser: Browser) -> None:
    link = browser.consent()
    assert browser.get(link).status_code == 303
    first = browser.cookie
    assert browser.get(link).status_code == 400
    assert browser.cookie == first


def test_a_session_that_was_planted_is_not_the_one_that_is_signed_in(world: ApiWorld) -> None:
    attacker, victim = Browser(world), Browser(world)
    for planted in ("A" * 43, "known-to-the-attacker"):
        victim.show(planted)
        victim.sign_in()
        assert victim.cookie != planted
        attacker.show(planted)
        assert attacker.get("/session").status_code == 401
    attacker.sign_in("mallory")
    own = attacker.cookie
    victim.show(own)
    victim.sign_in()
    assert victim.cookie != own
    assert attacker.get("/session").status_code == 401  # signing in ended what was there before


@pytest.mark.parametrize(
    "next", ["//evil.example", EVIL, "/\\evil.example", "\\\\evil.example", "javascript:alert(1)"]
)
def test_a_login_leads_nowhere_else(browser: Browser, next: str) -> None:
    answer = browser.get(f"/login?{urlencode({'next': next})}")
    assert answer.status_code == 400
    assert "Location" not in answer.headers
    assert answer.headers.getlist("Set-Cookie") == []


def test_where_one_is_sent_does_not_follow_the_host_of_the_request(browser: Browser) -> None:
    answer = browser.client.get("/login", base_url="http://evil.example")
    assert "evil" not in answer.headers["Location"]
    answer = browser.client.post("/logout", base_url="http://evil.example")
    assert answer.headers["Location"] == f"{ORIGIN}/account"


def test_under_another_name_of_this_machine_one_is_led_to_the_one_that_is_set(
    browser: Browser,
) -> None:
    answer = browser.client.get("/login?next=/whoami", base_url="http://localhost:8420")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"{ORIGIN}/login?next=/whoami")
    assert answer.headers.getlist("Set-Cookie") == []


def test_a_person_who_denies_is_told_so_on_a_page(browser: Browser) -> None:
    begun = browser.get("/login")
    page = browser.get(begun.headers["Location"])
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.text))
    back = browser.post("/issuer/authorize", fields | {"user": "alice", "answer": "deny"})
    answer = browser.get(back.headers["Location"])
    assert answer.status_code == 400
    assert "denied" in answer.text
    assert browser.cookie == ""


def test_logins_are_bounded_for_each_address(world: ApiWorld, browser: Browser) -> None:
    services = Services.of(world.app)
    services.browsers = dataclasses.replace(services.browsers, pace=Pace(lambda: 0.0))
    answers = [browser.get("/login") for _ in range(world.settings.limits.logins_per_minute + 1)]
    assert [answer.status_code for answer in answers[:-1]] == [303] * (len(answers) - 1)
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["Retry-After"]) >= 1
    other = browser.client.get("/login", environ_base={"REMOTE_ADDR": "127.0.0.2"})
    assert other.status_code == 303


def test_the_sessions_of_one_person_are_bounded_and_the_others_stay(world: ApiWorld) -> None:
    sessions = Services.of(world.app).browsers.sessions
    validator = TokenValidator((), own=world.issuer)
    caller = validator.validate(world.headers()["Authorization"])
    other = sessions.begin(validator.validate(world.headers("bob")["Authorization"]))
    made = [sessions.begin(caller) for _ in range(MAXIMUM_SESSIONS + 5)]
    in_force = [cookie for cookie in made if sessions.find(cookie)]
    assert len(in_force) == MAXIMUM_SESSIONS
    assert made[-1] in in_force
    assert sessions.find(other)


# --- without a configuration ---------------------------------------------------------------------


def test_without_an_address_that_is_safe_login_says_what_to_configure(
    world: ApiWorld, browser: Browser
) -> None:
    services = Services.of(world.app)
    services.browsers = dataclasses.replace(services.browsers, url="http://vacuo.example")
    answer = browser.get("/login")
    assert answer.status_code == 400
    assert "public_url" in answer.text
    services.browsers = dataclasses.replace(services.browsers, url=ORIGIN, issuers=())
    answer = browser.get("/login")
    assert answer.status_code == 400
    assert "web_client_id" in answer.text
    assert "web_client_id" in browser.get("/account").text


# --- what a cookie opens -------------------------------------------------------------------------


def test_what_changes_something_needs_the_token_of_the_session(browser: Browser) -> None:
    browser.sign_in()
    for headers in ({}, {CSRF_HEADER: ""}, {CSRF_HEADER: "x"}, {CSRF_HEADER: browser.cookie}):
        answer = browser.create(**headers)
        assert (answer.status_code, answer.json["code"]) == (403, "cross-site"), headers
    assert browser.get("/deployments").json["content"] == []
    assert browser.create(**{CSRF_HEADER: browser.csrf}).status_code == 201


def test_the_token_of_another_session_is_not_good(world: ApiWorld, browser: Browser) -> None:
    other = Browser(world)
    browser.sign_in()
    other.sign_in()
    assert other.csrf != browser.csrf
    assert browser.create(**{CSRF_HEADER: other.csrf}).status_code == 403
    before = browser.csrf
    browser.sign_in()
    assert browser.create(**{CSRF_HEADER: before}).status_code == 403


def test_a_request_of_another_site_is_refused_even_with_the_token(browser: Browser) -> None:
    browser.sign_in()
    token = browser.csrf
    for elsewhere in (
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8421"},
        {"Origin": f"{ORIGIN}.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ):
        assert browser.create(**{CSRF_HEADER: token}, **elsewhere).status_code == 403, elsewhere
    own = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}
    assert browser.create(**{CSRF_HEADER: token}, **own).status_code == 201


def test_every_route_that_changes_something_refuses_a_cookie_alone(
    world: ApiWorld, browser: Browser
) -> None:
    browser.sign_in()
    made = browser.create(**{CSRF_HEADER: browser.csrf}).json["uuid"]
    world.passes(made, 6)
    node = world.repository.nodes(made)[0].name
    asked = 0
    for rule in world.app.url_map.iter_rules():
        path = rule.rule.replace("<id>", made).replace("<rid>", node).replace("<name>", "mine")
        if path.startswith(("/issuer/", "/pull/")) or path == "/logout":
            continue
        for method in (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}:
            answer: Any = browser.client.open(path, method=method, base_url=ORIGIN, json={})
            assert (answer.status_code, answer.json["code"]) == (403, "cross-site"), path
            asked += 1
    assert asked >= 6
    assert browser.get(f"/deployments/{made}").json["status"].startswith("CREATE_")


def test_a_page_elsewhere_cannot_load_us_into_itself(browser: Browser) -> None:
    browser.sign_in()
    embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert browser.get("/deployments", **embedded).status_code == 403
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert browser.get("/deployments", **followed).status_code == 200


def test_signing_out_cannot_be_done_by_another_page(browser: Browser) -> None:
    browser.sign_in()
    form = {"csrf": browser.csrf}
    assert browser.post("/logout", {}, Origin=ORIGIN).status_code == 403
    assert browser.post("/logout", form, Origin=EVIL).status_code == 403
    assert browser.post("/logout", form, **{"Sec-Fetch-Site": "same-site"}).status_code == 403
    assert browser.get("/session").status_code == 200
    assert browser.post("/logout", form, Origin=ORIGIN).status_code == 303


def test_where_a_token_is_shown_the_cookie_is_not_looked_at(
    world: ApiWorld, browser: Browser
) -> None:
    browser.sign_in()
    bob = world.headers("bob")
    found = browser.get("/session", **bob).json
    assert (found["subject"], found["csrfToken"]) == ("bob", None)
    assert browser.create(**bob, Origin=EVIL).status_code == 201  # no cookie: nothing to forge
    for bad in ("Bearer x", "", "Basic YTpi"):
        assert browser.get("/session", Authorization=bad).status_code == 401


def test_two_cookies_of_one_name_are_none(browser: Browser) -> None:
    browser.sign_in()
    good = browser.cookie
    for jar in (
        f"{COOKIE}={good}; {COOKIE}=tossed",
        f"{COOKIE}=tossed; {COOKIE}={good}",
        f"{COOKIE}={good}; {COOKIE}={good}",
        f"{COOKIE}={good},{COOKIE}=tossed",
        f'{COOKIE}="{good}',
        f"{COOKIE.upper()}={good}",
        f"x{COOKIE}={good}",
    ):
        client = browser.world.app.test_client(use_cookies=False)
        answer = client.get("/session", base_url=ORIGIN, headers={"Cookie": jar})
        assert answer.status_code == 401, jar
    assert browser.get("/session").status_code == 200


@pytest.mark.parametrize("shown", ["", "x", "A" * 43, "A" * 44, "..", "A" * 3000, '";--'])
def test_a_cookie_that_was_guessed_opens_nothing(browser: Browser, shown: str) -> None:
    browser.show(shown)
    answer = browser.get("/deployments")
    assert answer.status_code == 401
    assert answer.json["code"] in ("session-ended", "token-missing")
    assert browser.get("/account").status_code == 200


# --- how a session ends --------------------------------------------------------------------------


def test_after_signing_out_the_cookie_opens_nothing(browser: Browser) -> None:
    browser.sign_in()
    kept, csrf = browser.cookie, browser.csrf
    browser.post("/logout", {"csrf": csrf}, Origin=ORIGIN)
    assert browser.cookie == ""
    browser.show(kept)
    assert browser.get("/deployments").json["code"] == "session-ended"
    assert browser.create(**{CSRF_HEADER: csrf}).status_code == 401


def test_a_session_ends_when_nobody_uses_it(world: ApiWorld, browser: Browser) -> None:
    browser.sign_in()
    began = time.time()
    for passed in (0.9 * IDLE_SECONDS, 1.8 * IDLE_SECONDS - 10):
        world.browser_now = lambda passed=passed: began + passed  # type: ignore[misc]
        assert browser.get("/session").status_code == 200
    world.browser_now = lambda: began + 1.8 * IDLE_SECONDS + IDLE_SECONDS + 100
    assert browser.get("/session").status_code == 401
    world.browser_now = time.time  # it is gone for good
    assert browser.get("/session").status_code == 401


def test_a_session_ends_with_the_token_it_began_with_however_it_is_used(
    world: ApiWorld, browser: Browser
) -> None:
    browser.sign_in()
    began = time.time()
    for minutes in range(0, 60, 20):
        world.browser_now = lambda minutes=minutes: began + 60 * minutes  # type: ignore[misc]
        assert browser.get("/session").status_code == 200
    world.browser_now = lambda: began + 3601
    assert browser.get("/session").status_code == 401


def test_a_session_of_an_issuer_that_is_no_longer_trusted_opens_nothing(
    world: ApiWorld, browser: Browser
) -> None:
    browser.sign_in()
    Services.of(world.app).browsers.sessions._trusted = frozenset({"https://another.example"})
    assert browser.get("/session").status_code == 401


def test_a_stream_of_events_ends_when_its_person_signs_out(
    world: ApiWorld, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.api.events.SESSION_SECONDS", 0.0)
    monkeypatch.setattr("orchestrator.api.events.POLL_SECONDS", 0.01)
    browser.sign_in()
    csrf = browser.csrf
    stream = browser.client.get(
        "/events", base_url=ORIGIN, headers={"Accept": "text/event-stream"}, buffered=False
    )
    chunks = stream.response
    assert "retry" in str(next(iter(chunks)))
    browser.post("/logout", {"csrf": csrf}, Origin=ORIGIN)
    assert b"".join(bytes(str(chunk), "utf-8") for chunk in chunks).count(b"signed out") <= 1
    stream.close()


def test_sessions_that_have_ended_are_forgotten(world: ApiWorld, browser: Browser) -> None:
    browser.sign_in()
    rows = world.repository.sessions
    digest = hashlib.sha256(browser.cookie.encode()).hexdigest()
    assert rows.get(digest)
    world.repository.prune(time.time() + 3601, 10**9)
    assert rows.get(digest) is None


# --- what is written down ------------------------------------------------------------------------


def test_signing_in_and_out_are_audits(world: ApiWorld, browser: Browser) -> None:
    browser.sign_in()
    browser.post("/logout", {"csrf": browser.csrf}, Origin=ORIGIN)
    audits = [e for e in world.repository.events() if e.kind.value == "audit"]
    assert [event.message for event in audits] == ["signed in with a browser", "signed out"]
    assert all("alice" in event.actor and event.correlation for event in audits)


def test_pages_have_no_script_and_no_markup_of_others(browser: Browser) -> None:
    browser.sign_in()
    for path in ("/account", "/login?next=//<script>alert(1)</script>", "/login?issuer=<b>x"):
        answer = browser.get(path)
        assert answer.mimetype == "text/html"
        assert "<script" not in answer.text
        assert "<b>" not in answer.text
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; form-action 'self'; frame-ancestors 'none'")
        assert answer.headers["Cache-Control"] == "no-store"
        assert '<html lang="en">' in answer.text
        assert "<main>" in answer.text


def test_the_token_of_a_session_does_not_tell_its_cookie() -> None:
    cookie = "A" * 43
    assert csrf_of(cookie) == csrf_of(cookie)
    assert csrf_of(cookie) != csrf_of("B" + cookie[1:])
    assert cookie not in csrf_of(cookie)
