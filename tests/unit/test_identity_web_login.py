"""Signing in by browser against issuers that answer what they should not."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hostile_tokens import AUDIENCE, B_KEY, HOUR, NOW, RSA_KEY, A, B, Web, claims, good, signed

from orchestrator.errors import UserError
from orchestrator.identity.endpoints import IssuerAway, IssuerRejects
from orchestrator.identity.tokens import IssuerUnavailable, TokenValidator, Unauthenticated
from orchestrator.identity.web_login import LOGIN_SECONDS, LoginFailed, WebLogin, own_path
from orchestrator.settings import Issuer

REDIRECT = f"{AUDIENCE}/login/callback"
SECRET = "a-secret-of-the-client"


class Issuers(Web):
    """Two issuers at which one can sign in; ``answer`` makes what A's token endpoint says."""

    def __init__(self) -> None:
        super().__init__()
        for name in (A, B):
            document = self.documents[f"{name}/.well-known/openid-configuration"]
            assert isinstance(document, dict)
            document |= {
                "authorization_endpoint": f"{name}/authorize",
                "token_endpoint": f"{name}/token",
                "revocation_endpoint": f"{name}/revoke",
            }
        self.forms: list[tuple[str, str | None, dict[str, str]]] = []
        self.codes: set[str] = set()
        self.answer: Callable[[dict[str, str]], dict[str, Any]] = self.tokens
        self.nonce = ""

    def __call__(
        self,
        url: str,
        authorization: str | None = None,
        form: Mapping[str, str] | None = None,
    ) -> bytes:
        if form is None:
            return super().__call__(url, authorization)
        if any(url.startswith(name) for name in self.away):
            raise IssuerAway("ConnectError")
        self.forms.append((url, authorization, dict(form)))
        if url.endswith("/revoke"):
            return b""
        if form["code"] in self.codes:
            raise IssuerRejects("400")
        self.codes.add(form["code"])
        return json.dumps(self.answer(dict(form))).encode()

    def tokens(self, form: dict[str, str], **changes: Any) -> dict[str, Any]:
        return {
            "access_token": good(),
            "token_type": "Bearer",
            "expires_in": 3600,
            "id_token": self.id_token(),
        } | changes

    def id_token(self, key: Any = RSA_KEY, kid: str = "rsa", **changes: Any) -> str:
        found = {"iss": A, "sub": "alice", "aud": "web", "iat": NOW, "exp": NOW + 600}
        found |= {"nonce": self.nonce} | changes
        alg = "ES256" if key is B_KEY else "RS256"
        return signed(
            {"alg": alg, "kid": kid}, {k: v for k, v in found.items() if v is not ...}, key
        )


class World:
    def __init__(self, **issuer: Any) -> None:
        self.now = NOW
        self.web = Issuers()
        a = {"name": "a", "issuer": A, "audiences": (AUDIENCE,), "web_client_id": "web"} | issuer
        self.issuers = [
            Issuer.model_validate(a),
            Issuer(name="b", issuer=B, audiences=(AUDIENCE,), web_client_id="web-b"),
            Issuer(name="c", issuer="https://c.example", audiences=(AUDIENCE,)),
        ]
        self.validator = TokenValidator(self.issuers, lambda: self.now, self.web)
        self.login = self.started()

    def started(self) -> WebLogin:
        """The server's side of logins, as it is after a start."""
        return WebLogin(self.issuers, self.validator, REDIRECT, self.web, lambda: self.now)

    def begin(self, name: str = "a", next: str = "/account") -> tuple[str, dict[str, str]]:
        """The cookie of a login that was begun, and what the issuer's page was asked with."""
        begun = self.login.begin(name, next)
        asked = {key: value for key, (value,) in parse_qs(urlsplit(begun.page).query).items()}
        self.web.nonce = asked["nonce"]
        return begun.cookie, asked

    def finish(self, cookie: str | None, **answer: str) -> tuple[Any, str]:
        return self.login.finish(cookie, {name: [value] for name, value in answer.items()})

    def sign_in(self) -> tuple[Any, str]:
        cookie, asked = self.begin()
        return self.finish(cookie, state=asked["state"], code="c1")


@pytest.fixture
def world() -> World:
    return World()


def test_a_login_ends_with_the_caller_whom_the_token_stands_for(world: World) -> None:
    cookie, asked = world.begin(next="/deployments?page=2")
    caller, next = world.finish(cookie, state=asked["state"], code="c1", session_state="x")
    assert (caller.principal.issuer, caller.principal.subject) == (A, "alice")
    assert caller.expires_at == NOW + HOUR
    assert next == "/deployments?page=2"


def test_the_issuer_is_asked_with_pkce_state_nonce_and_the_servers_own_address(
    world: World,
) -> None:
    cookie, asked = world.begin()
    world.finish(cookie, state=asked["state"], code="c1")
    url, authorization, form = world.web.forms[0]
    assert asked["redirect_uri"] == form["redirect_uri"] == REDIRECT
    assert (asked["response_type"], asked["scope"], asked["audience"]) == (
        "code",
        "openid",
        AUDIENCE,
    )
    digest = hashlib.sha256(form["code_verifier"].encode()).digest()
    assert asked["code_challenge"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert asked["code_challenge_method"] == "S256"
    assert len({asked["state"], asked["nonce"], form["code_verifier"]}) == 3
    assert (url, authorization, form["client_id"]) == (f"{A}/token", None, "web")
    again = world.begin()[1]
    assert again["state"] != asked["state"]
    assert again["nonce"] != asked["nonce"]


def test_a_client_with_a_secret_shows_it_to_the_token_endpoint_alone(tmp_path: Any) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    world = World(web_client_secret_file=path)
    cookie, asked = world.begin()
    world.finish(cookie, state=asked["state"], code="c1")
    expected = base64.b64encode(f"web:{SECRET}".encode()).decode()
    assert {authorization for _, authorization, _ in world.web.forms} == {f"Basic {expected}"}
    assert SECRET not in json.dumps(asked) + cookie


def test_the_tokens_are_given_back_as_soon_as_they_were_looked_at(world: World) -> None:
    world.sign_in()
    (url, _, form) = world.web.forms[-1]
    assert url == f"{A}/revoke"
    assert form["token"].count(".") == 2
    world.web.answer = lambda form: world.web.tokens(form, id_token=world.web.id_token(nonce="x"))
    cookie, asked = world.begin()
    with pytest.raises(LoginFailed):
        world.finish(cookie, state=asked["state"], code="c2")
    assert world.web.forms[-1][0] == f"{A}/revoke"


def test_a_forged_state_signs_nobody_in(world: World) -> None:
    cookie, asked = world.begin()
    other = world.login.begin("a", "/account")
    for state in ("", "x", asked["state"][:-1], asked["state"] + "x", "\u00e9"):
        with pytest.raises(LoginFailed):
            world.finish(cookie, state=state, code="c1")
    with pytest.raises(LoginFailed):
        world.finish(cookie, code="c1")
    with pytest.raises(LoginFailed):
        world.finish(other.cookie, state=asked["state"], code="c1")
    assert world.web.forms == []


def test_an_answer_without_the_cookie_of_its_login_signs_nobody_in(world: World) -> None:
    cookie, asked = world.begin()
    flipped = cookie[:-6] + ("A" if cookie[-6] != "A" else "B") + cookie[-5:]
    for shown in (None, "", "x", "\u00e9", cookie[:40], flipped, cookie + "A", "A" * 400):
        with pytest.raises(LoginFailed):
            world.finish(shown, state=asked["state"], code="c1")
    assert world.web.forms == []


def test_the_cookie_of_a_login_tells_nothing_and_ends_with_the_server(world: World) -> None:
    cookie, asked = world.begin()
    raw = base64.urlsafe_b64decode(cookie)
    assert asked["state"].encode() not in raw
    assert b"verifier" not in raw
    world.login = world.started()
    with pytest.raises(LoginFailed):
        world.finish(cookie, state=asked["state"], code="c1")


def test_a_replayed_answer_signs_nobody_in(world: World) -> None:
    cookie, asked = world.begin()
    world.finish(cookie, state=asked["state"], code="c1")
    for code in ("c1", "c2"):
        with pytest.raises(LoginFailed):
            world.finish(cookie, state=asked["state"], code=code)
    cookie, asked = world.begin()
    with pytest.raises(LoginFailed):  # the code of another login: the issuer knows it
        world.finish(cookie, state=asked["state"], code="c1")


def test_a_login_that_takes_too_long_is_over(world: World) -> None:
    cookie, asked = world.begin()
    world.now += LOGIN_SECONDS
    with pytest.raises(LoginFailed):
        world.finish(cookie, state=asked["state"], code="c1")


@pytest.mark.parametrize("sender", [B, f"{A}/", "https://evil.example", ""])
def test_an_answer_of_another_issuer_signs_nobody_in(world: World, sender: str) -> None:
    cookie, asked = world.begin()
    with pytest.raises(LoginFailed):
        world.finish(cookie, state=asked["state"], code="c1", iss=sender)
    assert world.web.forms == []


def test_an_issuer_that_promises_to_say_who_it_is_has_to(world: World) -> None:
    document = world.web.documents[f"{A}/.well-known/openid-configuration"]
    assert isinstance(document, dict)
    document["authorization_response_iss_parameter_supported"] = True
    cookie, asked = world.begin()
    with pytest.raises(LoginFailed):
        world.finish(cookie, state=asked["state"], code="c1")
    assert world.finish(cookie, state=asked["state"], code="c1", iss=A)[1] == "/account"


BAD_ID_TOKENS: dict[str, dict[str, Any]] = {
    "another nonce": {"nonce": "another"},
    "no nonce": {"nonce": ...},
    "a nonce that is no text": {"nonce": 7},
    "of another issuer": {"iss": B},
    "signed by another issuer": {"iss": B, "key": B_KEY, "kid": "b"},
    "for another client": {"aud": "cli"},
    "for another client too": {"aud": ["web", "cli"], "azp": "cli"},
    "for nobody": {"aud": ...},
    "of another person": {"sub": "mallory"},
    "of nobody": {"sub": ...},
    "that has ended": {"exp": NOW - 1},
    "that never ends": {"exp": ...},
    "with another's key": {"key": B_KEY},
}


@pytest.mark.parametrize("changes", BAD_ID_TOKENS.values(), ids=list(BAD_ID_TOKENS))
def test_an_id_token_that_does_not_answer_this_login_signs_nobody_in(
    world: World, changes: dict[str, Any]
) -> None:
    world.web.answer = lambda form: world.web.tokens(form, id_token=world.web.id_token(**changes))
    with pytest.raises(LoginFailed):
        world.sign_in()


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": good(aud="https://other.example")},
        {"access_token": good(exp=NOW - 1)},
        {"access_token": signed({"alg": "ES256", "kid": "b"}, claims(iss=B), B_KEY)},
        {"access_token": good(sub="mallory")},
        {"access_token": "opaque"},
        {"access_token": None},
        {"access_token": good(nonce="x")},  # an ID token in its place
        {"token_type": "DPoP"},
        {"token_type": None},
        {"id_token": None},
        {"id_token": "x.y.z"},
        {"id_token": good()},  # an access token in its place
        {"id_token": "a" * 100_000},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_tokens_that_are_not_accepted_sign_nobody_in(world: World, changes: Any) -> None:
    world.web.answer = lambda form: world.web.tokens(form, **changes)
    with pytest.raises(LoginFailed):
        world.sign_in()


def test_an_id_token_is_no_bearer_token(world: World) -> None:
    world.begin()
    with pytest.raises(Unauthenticated):
        world.validator.validate(f"Bearer {world.web.id_token(aud=AUDIENCE)}")


@pytest.mark.parametrize("parameters", [{"code": ["a", "b"]}, {"state": []}, {"iss": [A, B]}])
def test_a_parameter_that_comes_twice_signs_nobody_in(
    world: World, parameters: dict[str, list[str]]
) -> None:
    cookie, asked = world.begin()
    answer = {"state": [asked["state"]], "code": ["c1"]} | parameters
    with pytest.raises(LoginFailed):
        world.login.finish(cookie, answer)
    assert world.web.forms == []


def test_an_issuer_that_is_away_is_said_to_be_and_asked_seldom(world: World) -> None:
    world.web.away = {A}
    before = len(world.web.asked)
    for _ in range(50):
        with pytest.raises(IssuerUnavailable):
            world.login.begin("a", "/account")
    assert len(world.web.asked) == before + 1
    world.login.begin("b", "/account")
    world.web.away = set()
    world.now += 120
    cookie, asked = world.begin()
    world.web.away = {A}
    with pytest.raises(IssuerUnavailable):
        world.finish(cookie, state=asked["state"], code="c1")


def test_a_person_who_denies_is_told_so(world: World) -> None:
    cookie, asked = world.begin()
    with pytest.raises(LoginFailed, match="denied"):
        world.finish(cookie, state=asked["state"], error="access_denied")


@pytest.mark.parametrize(
    ("name", "code"), [("c", "login-not-configured"), ("x", "request-invalid")]
)
def test_an_issuer_without_a_web_client_is_told_apart_from_none(
    world: World, name: str, code: str
) -> None:
    with pytest.raises(UserError) as refused:
        world.login.begin(name, "/account")
    assert refused.value.code == code


ELSEWHERE = (
    "//evil.example",
    "///evil.example",
    "https://evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "javascript:alert(1)",
    "evil.example",
    "",
    "/a\\b",
    "/<script>",
    '/"onload=',
    "/\u00e9",
    " /account",
    "/a b",
    "/" + "a" * 600,
)


@pytest.mark.parametrize("next", ELSEWHERE)
def test_nobody_is_sent_elsewhere_after_a_login(next: str) -> None:
    with pytest.raises(UserError):
        own_path(next)


@pytest.mark.parametrize("next", ["/", "/account", "/a/b?c=d&e=%2F", "/x;y=1"])
def test_a_path_of_ours_is_where_one_may_go_on(next: str) -> None:
    assert own_path(next) == next


def test_however_many_logins_are_begun_nothing_is_kept_of_them(world: World) -> None:
    cookie, asked = world.begin()

    def kept() -> int:
        """Bytes in all that the object holds, but for what it was made with."""
        return sum(
            sys.getsizeof(json.dumps(vars(part), default=repr))
            for part in vars(world.login).values()
            if hasattr(part, "__dict__") and part is not world.validator
        )

    before = kept()
    for _ in range(10_000):
        world.login.begin("a", "/account")
    assert kept() == before
    world.web.nonce = asked["nonce"]
    assert world.finish(cookie, state=asked["state"], code="c1")[1] == "/account"


def test_nothing_of_a_login_is_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world.sign_in()
    world.web.answer = lambda form: world.web.tokens(form, id_token=world.web.id_token(nonce="x"))
    cookie, asked = world.begin()
    with pytest.raises(LoginFailed):
        world.finish(cookie, state=asked["state"], code="the-code")
    for secret in (cookie, asked["state"], asked["nonce"], "the-code", good().split(".")[2]):
        assert secret not in caplog.text
