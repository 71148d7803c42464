"""Hostile tokens are refused, good ones accepted, and neither costs the network more than due."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import UserError
from orchestrator.identity.endpoints import is_safe_url
from orchestrator.identity.keys import RemoteKeys, read_key_set
from orchestrator.identity.profiles import PROFILES
from orchestrator.identity.tokens import IssuerUnavailable, TokenValidator, Unauthenticated
from orchestrator.model import Principal
from orchestrator.settings import Issuer
from tests.unit.hostile_tokens import (
    AUDIENCE,
    B_KEY,
    ES,
    HOUR,
    NOW,
    OTHER_RSA_KEY,
    REFUSED,
    RSA_KEY,
    A,
    B,
    Web,
    World,
    good,
    headed,
    jwk,
)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("case", REFUSED)
def test_hostile_token_is_refused(case: str, profile: str) -> None:
    world = World(profile)
    with pytest.raises(Unauthenticated) as refused:
        world.validate(REFUSED[case]())
    assert refused.value.status == 401
    assert refused.value.www_authenticate.startswith('Bearer realm="vacuo"')
    assert refused.value.detail


@pytest.mark.parametrize(
    ("token", "subject"),
    [
        (lambda: good(), "alice"),
        (lambda: good(**ES), "alice"),
        (lambda: good("b", B_KEY, "ES256", iss=B), "alice"),
        (lambda: good(iss=f"{A}/"), "alice"),
        (lambda: good(aud=["https://other.example", AUDIENCE]), "alice"),
        (lambda: good(scope=..., jti=..., client_id=...), "alice"),
        (lambda: good(nbf=NOW + 30, iat=NOW + 30), "alice"),
        (lambda: good(wlcg__ver="1.2", wlcg__groups=["/cms/uscms"]), "alice"),
        (lambda: headed(typ="at+jwt"), "alice"),
        (lambda: headed(typ="JWT", x5t="thumb"), "alice"),
        (lambda: good(sub="Ünïcode person"), "Ünïcode person"),
    ],
)
def test_good_token_is_accepted(world: World, token: Callable[[], str], subject: str) -> None:
    assert world.validate(token()).principal.subject == subject


def test_caller_is_what_the_claims_say(world: World) -> None:
    caller = world.validate(good(groups=["cms", "cms/uscms"]))
    assert caller.principal == Principal(A, "alice")
    assert caller.scopes == {"openid", "profile"}
    assert caller.groups == {"/cms", "/cms/uscms"}
    assert (caller.expires_at, caller.token_id, caller.client_id) == (NOW + HOUR, "j1", "cli")


def test_alias_of_an_issuer_is_the_same_principal(world: World) -> None:
    assert world.validate(good(iss=f"{A}/")).principal == world.validate(good()).principal


def test_same_subject_of_two_issuers_is_two_principals(world: World) -> None:
    of_b = world.validate(good("b", B_KEY, "ES256", iss=B))
    assert of_b.principal != world.validate(good()).principal


@pytest.mark.parametrize("header", [None, "", "Basic YTpi", "Token x"])
def test_request_without_a_token_is_told_so(world: World, header: str | None) -> None:
    with pytest.raises(Unauthenticated) as refused:
        world.validator.validate(header)
    assert refused.value.code == "token-missing"
    assert refused.value.www_authenticate == 'Bearer realm="vacuo"'


def test_scheme_is_case_insensitive(world: World) -> None:
    assert world.validator.validate(f"bearer {good()}").principal.subject == "alice"


def test_expired_token_is_told_apart(world: World) -> None:
    with pytest.raises(Unauthenticated) as refused:
        world.validate(good(exp=NOW - 1))
    assert refused.value.code == "token-expired"
    assert 'error="invalid_token"' in refused.value.www_authenticate


@pytest.mark.parametrize("iss", ["https://evil.example", f"{A}/x", "file:///x", "http://127.0.0.1"])
def test_untrusted_issuer_costs_no_network(world: World, iss: str) -> None:
    with pytest.raises(Unauthenticated):
        world.validate(good(iss=iss))
    assert world.web.asked == []


def test_malformed_token_of_a_trusted_issuer_costs_no_network(world: World) -> None:
    for token in (good(...), good(1), headed(jku="https://evil.example"), good()[:-1] + "=x"):
        with pytest.raises(Unauthenticated):
            world.validate(token)
    assert world.web.asked == []


def test_refusal_holds_nothing_of_the_token(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = good(key=OTHER_RSA_KEY)
    with pytest.raises(Unauthenticated) as refused:
        world.validate(token)
    said = f"{refused.value} {refused.value!r} {refused.value.detail} {caplog.text}"
    assert not any(part[:12] in said for part in token.split("."))
    assert "InvalidSignatureError" in caplog.text


def test_names_from_a_token_cannot_forge_a_log_line(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(Unauthenticated):
        world.validate(good(iss=f"x\nINFO alice is root{'y' * 500}"))
    assert len(caplog.messages) == 1
    assert "\n" not in caplog.messages[0]
    assert len(caplog.messages[0]) < 200


# --- the keys of issuers -------------------------------------------------------------------------


def test_keys_are_fetched_once_and_kept(world: World) -> None:
    for _ in range(50):
        world.validate(good())
    assert world.web.key_fetches() == 1


def test_500_unknown_keys_cost_at_most_two_fetches(world: World) -> None:
    for number in range(500):
        with pytest.raises(Unauthenticated):
            world.validate(good(f"unknown-{number}"))
    assert world.web.key_fetches() <= 2
    world.validate(good())


def test_rotated_key_is_found_and_a_withdrawn_one_is_not(world: World) -> None:
    world.validate(good())
    new = ec.generate_private_key(ec.SECP256R1())
    world.web.documents[f"{A}/jwk"] = {"keys": [jwk(new, "new")]}
    assert world.validate(good("new", new, "ES256")).principal.subject == "alice"
    with pytest.raises(Unauthenticated):
        world.validate(good())


@pytest.mark.parametrize(("hours", "accepted"), [(40, True), (49, False)])
def test_known_keys_serve_for_two_days_without_the_issuer(
    world: World, hours: int, accepted: bool
) -> None:
    world.validate(good())
    world.web.away.add(A)
    world.now += hours * HOUR
    token = good(iat=world.now, exp=world.now + HOUR)
    if accepted:
        assert world.validate(token).principal.subject == "alice"
    else:
        with pytest.raises(IssuerUnavailable) as away:
            world.validate(token)
        assert away.value.status == 503


def test_unknown_key_of_an_issuer_that_is_away_is_503_not_401(world: World) -> None:
    world.validate(good())
    world.web.away.add(A)
    with pytest.raises(IssuerUnavailable):
        world.validate(good("perhaps-new"))


def test_issuer_that_is_away_is_asked_once_a_minute(world: World) -> None:
    world.web.away.add(A)
    for _ in range(100):
        with pytest.raises(IssuerUnavailable):
            world.validate(good())
    assert len(world.web.asked) == 1
    world.web.away.clear()
    world.now += 61
    assert world.validate(good()).principal.subject == "alice"


def test_one_issuer_away_does_not_hurt_another(world: World) -> None:
    world.web.away.add(A)
    with pytest.raises(IssuerUnavailable):
        world.validate(good())
    assert world.validate(good("b", B_KEY, "ES256", iss=B)).principal.issuer == B


@pytest.mark.parametrize(
    "discovery",
    [
        {"issuer": B, "jwks_uri": f"{A}/jwk"},
        {"issuer": A, "jwks_uri": "file:///etc/passwd"},
        {"issuer": A, "jwks_uri": "http://169.254.169.254/jwk"},
        {"issuer": A, "jwks_uri": ["x"]},
        {"issuer": A},
        [],
    ],
)
def test_discovery_that_lies_is_not_followed(world: World, discovery: object) -> None:
    world.web.documents[f"{A}/.well-known/openid-configuration"] = discovery
    with pytest.raises(IssuerUnavailable):
        world.validate(good())
    assert len(world.web.asked) == 1


@pytest.mark.parametrize("document", [{}, {"keys": "x"}, [], None, {"keys": [{}] * 101}])
def test_key_set_that_is_none_is_issuer_trouble(world: World, document: object) -> None:
    world.web.documents[f"{A}/jwk"] = document
    with pytest.raises(IssuerUnavailable):
        world.validate(good())


@pytest.mark.parametrize(
    "entry",
    [
        {"kid": "x"},
        {"kid": "x", "kty": ["RSA"]},
        {"kid": "x", "kty": "RSA", "n": "", "e": ""},
        {"kid": "x", "kty": "RSA", "n": 1, "e": 2},
        {"kid": "x", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        jwk(RSA_KEY, "x", alg="RS512"),
        jwk(RSA_KEY, "x", alg="HS256"),
        jwk(RSA_KEY, "x", key_ops=["encrypt"]),
        jwk(ec.generate_private_key(ec.SECP384R1()), "x"),
        "x",
    ],
)
def test_unusable_key_is_left_out(entry: Any) -> None:
    assert read_key_set({"keys": [entry]}, ("RS256", "ES256")) == {}


def test_many_threads_share_one_fetch() -> None:
    web, started, release = Web(), threading.Event(), threading.Event()

    def slow(url: str, *_: object) -> bytes:
        started.set()
        assert release.wait(30)
        return web(url)

    issuer = Issuer(name="a", issuer=A, audiences=("x",), jwks_uri=f"{A}/jwk")
    keys = RemoteKeys(issuer, lambda: NOW, slow)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(keys.find("rsa"))) for _ in range(20)]
    for thread in threads:
        thread.start()
    assert started.wait(30)
    release.set()
    for thread in threads:
        thread.join(30)
    assert len(found) == 20
    assert all(found)
    assert web.key_fetches() == 1


def test_known_key_is_served_while_a_refresh_hangs() -> None:
    web, release, now = Web(), threading.Event(), [NOW]
    hang = threading.Event()
    fetching = threading.Event()

    def ask(url: str, *_: object) -> bytes:
        if hang.is_set():
            fetching.set()
            assert release.wait(30)
        return web(url)

    issuer = Issuer(name="a", issuer=A, audiences=("x",), jwks_uri=f"{A}/jwk")
    keys = RemoteKeys(issuer, lambda: now[0], ask)
    assert keys.find("rsa")
    hang.set()
    now[0] += 7 * HOUR
    refresher = threading.Thread(target=keys.find, args=("rsa",))
    refresher.start()
    assert fetching.wait(30)
    assert keys.find("rsa")
    release.set()
    refresher.join(30)


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://iam.example", True),
        ("https://iam.example:8443/realm", True),
        ("http://127.0.0.1:8420/issuer", True),
        ("http://[::1]:8420/issuer", True),
        ("http://localhost:8420", True),
        ("http://iam.example", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://localhost@evil.example", False),
        ("https://user:secret@iam.example", False),
        ("https://", False),
        ("file:///etc/passwd", False),
        ("https://iam.example/\n", False),
        ("https://[::1", False),
        ("https://iam.example:port", False),
    ],
)
def test_only_https_or_this_machine_is_spoken_to(url: str, safe: bool) -> None:
    assert is_safe_url(url) is safe


def test_issuers_that_cannot_be_told_apart_stop_the_start() -> None:
    one = Issuer(name="one", issuer=A, audiences=("x",))
    two = Issuer(name="two", issuer=B, aliases=(A,), audiences=("x",))
    with pytest.raises(UserError, match="also a name of another issuer"):
        TokenValidator([one, two])


def test_issuer_over_plain_http_stops_the_start() -> None:
    with pytest.raises(UserError, match="not an https address"):
        TokenValidator([Issuer(name="one", issuer="http://a.example", audiences=("x",))])


GOOD = good()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.characters(codec="ascii"))
def test_token_with_one_character_changed_is_refused(position: int, character: str) -> None:
    mutated = GOOD[:position] + character + GOOD[position + 1 :]
    if mutated == GOOD:
        return
    with pytest.raises(Unauthenticated):
        World().validate(mutated)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_header_at_all_is_refused_in_order(header: str) -> None:
    with pytest.raises(Unauthenticated):
        World().validator.validate(header)
