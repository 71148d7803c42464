"""Hostile tokens are refused, good ones accepted, and neither costs the network more than due."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from orchestrator.errors import UserError
from orchestrator.identity.keys import KeysUnavailable, RemoteKeys, is_safe_url, read_key_set
from orchestrator.identity.tokens import IssuerUnavailable, TokenValidator, Unauthenticated
from orchestrator.model import Principal
from orchestrator.settings import Issuer

NOW = 1_700_000_000.0
HOUR = 3600.0
A, B = "https://a.example", "https://b.example"
AUDIENCE = "https://vacuo.example"
RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
SHORT_RSA_KEY = rsa.generate_private_key(65537, 1024)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
B_KEY = ec.generate_private_key(ec.SECP256R1())


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    kind = (
        RSAAlgorithm if hasattr(key, "public_key") and isinstance(key, rsa.RSAPrivateKey) else None
    )
    text = (kind or ECAlgorithm).to_jwk(key.public_key(), as_dict=True)
    return {**text, "kid": kid, **more}


A_KEYS = {
    "keys": [
        jwk(RSA_KEY, "rsa", alg="RS256", use="sig"),
        jwk(EC_KEY, "ec"),
        jwk(SHORT_RSA_KEY, "short"),
        jwk(OTHER_RSA_KEY, "encryption", use="enc"),
        jwk(RSA_KEY, "twice"),
        jwk(OTHER_RSA_KEY, "twice"),
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ", "kid": "oct"},
    ]
}
B_KEYS = {"keys": [jwk(B_KEY, "b")]}


class Web:
    """Two issuers' documents, and a count of what was asked for."""

    def __init__(self) -> None:
        self.documents: dict[str, object] = {}
        for name, keys in ((A, A_KEYS), (B, B_KEYS)):
            self.documents[f"{name}/.well-known/openid-configuration"] = {
                "issuer": name,
                "jwks_uri": f"{name}/jwk",
            }
            self.documents[f"{name}/jwk"] = keys
        self.asked: list[str] = []
        self.away: set[str] = set()

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        if any(url.startswith(name) for name in self.away):
            raise KeysUnavailable("ConnectError")
        return json.dumps(self.documents[url]).encode()

    def key_fetches(self) -> int:
        return sum(url.endswith("/jwk") for url in self.asked)


class World:
    def __init__(self) -> None:
        self.now = NOW
        self.web = Web()
        self.issuers = [
            Issuer(name="a", issuer=A, aliases=(f"{A}/",), audiences=(AUDIENCE,)),
            Issuer(name="b", issuer=B, audiences=(AUDIENCE,)),
        ]
        self.validator = TokenValidator(self.issuers, lambda: self.now, self.web)

    def validate(self, token: str) -> Any:
        return self.validator.validate(f"Bearer {token}")


@pytest.fixture
def world() -> World:
    return World()


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims; a change to ``...`` leaves the claim out."""
    good = {
        "iss": A,
        "sub": "alice",
        "aud": AUDIENCE,
        "iat": NOW - 60,
        "exp": NOW + HOUR,
        "jti": "j1",
        "client_id": "cli",
        "scope": "openid profile",
    }
    renamed = {name.replace("__", "."): value for name, value in changes.items()}
    return {k: v for k, v in {**good, **renamed}.items() if v is not ...}


def b64(value: bytes | str | dict[str, Any]) -> str:
    if isinstance(value, dict):
        value = json.dumps(value)
    data = value.encode() if isinstance(value, str) else value
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: str | dict[str, Any], payload: str | dict[str, Any], key: Any = RSA_KEY) -> str:
    """A token over exactly these bytes, whatever they are."""
    text = f"{b64(header)}.{b64(payload)}"
    algorithm = (
        RSAAlgorithm(RSAAlgorithm.SHA256)
        if isinstance(key, rsa.RSAPrivateKey)
        else ECAlgorithm(ECAlgorithm.SHA256, ec.SECP256R1)
    )
    return f"{text}.{b64(algorithm.sign(text.encode(), key))}"


def good(kid: Any = "rsa", key: Any = RSA_KEY, alg: str = "RS256", **changes: Any) -> str:
    header = {"alg": alg, "kid": kid} if kid is not ... else {"alg": alg}
    return signed(header, claims(**changes), key)


def hmac_signed(secret: bytes, kid: str = "rsa") -> str:
    text = f"{b64({'alg': 'HS256', 'kid': kid})}.{b64(claims())}"
    return f"{text}.{b64(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def headed(**header: Any) -> str:
    return signed({"alg": "RS256", "kid": "rsa", **header}, claims())


def unsigned(alg: Any, signature: str = "") -> str:
    header = {"kid": "rsa", **({} if alg is ... else {"alg": alg})}
    return f"{b64(header)}.{b64(claims())}.{signature}"


def public(form: serialization.Encoding) -> bytes:
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return RSA_KEY.public_key().public_bytes(form, kind)


def bit_flipped(position: int) -> str:
    header, payload, signature = good().split(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    raw[position] ^= 1
    return f"{header}.{payload}.{b64(bytes(raw))}"


def payload_changed() -> str:
    header, _, signature = good().split(".")
    return f"{header}.{b64(claims(sub='root'))}.{signature}"


def wrong_algorithm(alg: str) -> str:
    pem = RSA_KEY
    return jwt.encode(claims(), pem, algorithm=alg, headers={"kid": "rsa"})


def der_ecdsa() -> str:
    from cryptography.hazmat.primitives import hashes

    text = f"{b64({'alg': 'ES256', 'kid': 'ec'})}.{b64(claims())}"
    return f"{text}.{b64(EC_KEY.sign(text.encode(), ec.ECDSA(hashes.SHA256())))}"


def duplicate(claim: str) -> str:
    text = json.dumps(claims())
    return f'{text[:-1]}, "{claim}": {json.dumps(claims()[claim])}}}'


ES = {"kid": "ec", "key": EC_KEY, "alg": "ES256"}
REFUSED: dict[str, Callable[[], str]] = {
    # algorithm
    "alg none": lambda: unsigned("none"),
    "alg nOnE": lambda: unsigned("nOnE"),
    "alg none with a signature": lambda: unsigned("none", "c2ln"),
    "alg missing": lambda: unsigned(..., "c2ln"),
    "alg a list": lambda: unsigned(["RS256"], "c2ln"),
    "alg empty": lambda: unsigned("", "c2ln"),
    "HS256 with the PEM": lambda: hmac_signed(public(serialization.Encoding.PEM)),
    "HS256 with the DER": lambda: hmac_signed(public(serialization.Encoding.DER)),
    "HS256 with the JWK": lambda: hmac_signed(json.dumps(A_KEYS["keys"][0]).encode()),
    "HS256 with the empty string": lambda: hmac_signed(b""),
    "HS256 with an oct key of the set": lambda: hmac_signed(
        b"secret-secret-secret-secret-1234", "oct"
    ),
    "PS256": lambda: wrong_algorithm("PS256"),
    "RS512": lambda: wrong_algorithm("RS512"),
    "ES256 in the header, RSA key": lambda: signed({"alg": "ES256", "kid": "rsa"}, claims()),
    "RS256 in the header, EC key": lambda: signed({"alg": "RS256", "kid": "ec"}, claims(), EC_KEY),
    "all-zero ECDSA signature": lambda: f"{good(**ES).rpartition('.')[0]}.{b64(bytes(64))}",
    "DER-encoded ECDSA signature": der_ecdsa,
    # signature
    "signature stripped": lambda: f"{good().rpartition('.')[0]}.",
    "first bit flipped": lambda: bit_flipped(0),
    "last bit flipped": lambda: bit_flipped(-1),
    "payload changed": payload_changed,
    "kid changed": lambda: good("ec"),
    "right kid, wrong key": lambda: good(key=OTHER_RSA_KEY),
    "RSA-1024": lambda: good("short", SHORT_RSA_KEY),
    "an encryption key": lambda: good("encryption", OTHER_RSA_KEY),
    "a duplicated kid": lambda: good("twice"),
    # header
    "kid missing": lambda: good(...),
    "kid an integer": lambda: good(1),
    "kid a path": lambda: good("../../../../dev/null"),
    "kid SQL": lambda: good("x' UNION SELECT 'key' --"),
    "kid a URL": lambda: good("https://evil.example/key"),
    "kid shell": lambda: good("rsa; touch /tmp/x"),
    "kid huge": lambda: good("k" * 1000),
    "kid NUL": lambda: good("rsa\0"),
    "kid of another issuer": lambda: good("b", B_KEY, "ES256"),
    "jku": lambda: headed(jku="https://evil.example/jwk"),
    "x5u": lambda: headed(x5u="https://evil.example/x5u"),
    "jwk": lambda: headed(jwk=jwk(RSA_KEY, "rsa")),
    "x5c": lambda: headed(x5c=["MIIB"]),
    "crit": lambda: headed(crit=["exp"]),
    "b64 false": lambda: headed(b64=False, crit=["b64"]),
    "zip": lambda: headed(zip="DEF"),
    "cty": lambda: headed(cty="JWT"),
    "typ logout+jwt": lambda: headed(typ="logout+jwt"),
    "typ dpop+jwt": lambda: headed(typ="dpop+jwt"),
    "typ secevent+jwt": lambda: headed(typ="secevent+jwt"),
    # structure
    "JWE": lambda: f"{b64({'alg': 'RSA-OAEP', 'enc': 'A256GCM'})}.a.b.c.d",
    "JSON serialisation": lambda: json.dumps({"payload": b64(claims()), "signatures": []}),
    "empty": lambda: "",
    "two parts": lambda: good().rpartition(".")[0],
    "garbage": lambda: "garbage",
    "100 kB": lambda: good(padding="x" * 100_000),
    "a huge header": lambda: headed(x="x" * 4000),
    "non-ASCII": lambda: f"{good()}ü",
    "the +/ alphabet": lambda: good().replace("-", "+").replace("_", "/") + "+",
    "inner whitespace": lambda: good().replace(".", ". ", 1),
    "a newline": lambda: f"{good()}\n",
    "padding": lambda: f"{good()}==",
    "a duplicate claim": lambda: signed({"alg": "RS256", "kid": "rsa"}, duplicate("sub")),
    "a duplicate header": lambda: signed(
        '{"alg":"RS256","kid":"rsa","alg":"RS256"}', json.dumps(claims())
    ),
    "an array payload": lambda: signed({"alg": "RS256", "kid": "rsa"}, json.dumps([claims()])),
    "non-UTF-8": lambda: f"{b64({'alg': 'RS256', 'kid': 'rsa'})}.{b64(bytes([255, 254]))}.c2ln",
    "NaN": lambda: signed({"alg": "RS256", "kid": "rsa"}, json.dumps(claims(exp=float("nan")))),
    "deep nesting": lambda: signed({"alg": "RS256", "kid": "rsa"}, "[" * 5500 + "]" * 5500),
    # issuer
    "iss missing": lambda: good(iss=...),
    "iss untrusted": lambda: good(iss="https://evil.example"),
    "iss a list": lambda: good(iss=[A]),
    "iss @evil": lambda: good(iss=f"{A}@evil.example"),
    "iss in other case": lambda: good(iss=A.upper()),
    "iss a sub-path": lambda: good(iss=f"{A}/realm"),
    "iss a file": lambda: good(iss="file:///etc/passwd"),
    "iss link-local": lambda: good(iss="http://169.254.169.254"),
    "A signed by B": lambda: good("b", B_KEY, "ES256", iss=A),
    "B signed by A": lambda: good(iss=B),
    "iss plain http": lambda: good(iss="http://a.example"),
    # time
    "expired by 1 s": lambda: good(exp=NOW - 1),
    "expires now": lambda: good(exp=NOW),
    "exp missing": lambda: good(exp=...),
    "exp a string": lambda: good(exp=str(NOW + HOUR)),
    "exp a boolean": lambda: good(exp=True),
    "exp negative": lambda: good(exp=-1),
    "exp huge": lambda: good(exp=10**30),
    "exp infinite": lambda: signed(
        {"alg": "RS256", "kid": "rsa"}, json.dumps(claims()).replace(str(NOW + HOUR), "1e999")
    ),
    "iat missing": lambda: good(iat=...),
    "iat in the future": lambda: good(iat=NOW + 120),
    "nbf in the future": lambda: good(nbf=NOW + 120),
    "nbf a string": lambda: good(nbf="soon"),
    "7 h of life": lambda: good(iat=NOW, exp=NOW + 7 * HOUR),
    "a year of life": lambda: good(iat=NOW, exp=NOW + 365 * 24 * HOUR),
    # audience
    "aud missing": lambda: good(aud=...),
    "aud an empty list": lambda: good(aud=[]),
    "aud other": lambda: good(aud="https://other.example"),
    "aud a prefix": lambda: good(aud=AUDIENCE[:-1]),
    "aud longer": lambda: good(aud=f"{AUDIENCE}.evil.example"),
    "aud with a slash": lambda: good(aud=f"{AUDIENCE}/"),
    "aud in other case": lambda: good(aud=AUDIENCE.upper()),
    "aud a dict": lambda: good(aud={AUDIENCE: True}),
    "aud a number in a list": lambda: good(aud=[AUDIENCE, 1]),
    "aud any of WLCG, not opted in": lambda: good(aud="https://wlcg.cern.ch/jwt/v1/any"),
    "aud space-joined": lambda: good(aud=f"{AUDIENCE} https://other.example"),
    # type and identity
    "an ID token": lambda: good(nonce="n"),
    "an ID token by at_hash": lambda: good(at_hash="h"),
    "an ID token by Keycloak": lambda: good(typ="ID"),
    "a refresh token": lambda: good(typ="Refresh"),
    "a logout token": lambda: good(events={}),
    "a bound token": lambda: good(cnf={"jkt": "x"}),
    "sub missing": lambda: good(sub=...),
    "sub empty": lambda: good(sub=""),
    "sub an integer": lambda: good(sub=7),
    "sub of 256 characters": lambda: good(sub="s" * 256),
    "sub with a newline": lambda: good(sub="alice\nroot"),
    "sub half a surrogate": lambda: good(sub="\ud800"),
    "sub with a blank around": lambda: good(sub=" alice"),
    # WLCG and scope
    "wlcg.ver 2.0": lambda: good(wlcg__ver="2.0"),
    "wlcg.ver a float": lambda: good(wlcg__ver=1.0),
    "wlcg.ver with a newline": lambda: good(wlcg__ver="1.0\n"),
    "groups a string": lambda: good(wlcg__groups="/cms"),
    "a group without a slash": lambda: good(wlcg__groups=["cms"]),
    "a group with ..": lambda: good(wlcg__groups=["/cms/../atlas"]),
    "groups integers": lambda: good(wlcg__groups=[1]),
    "600 groups": lambda: good(wlcg__groups=[f"/g{n}" for n in range(600)]),
    "scope a list": lambda: good(scope=["openid"]),
    "scope quoted": lambda: good(scope='"openid"'),
    "scope with a tab": lambda: good(scope="openid\tadmin"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_token_is_refused(world: World, case: str) -> None:
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
    assert caller.groups == {"cms", "cms/uscms"}
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

    def slow(url: str) -> bytes:
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

    def fetch(url: str) -> bytes:
        if hang.is_set():
            fetching.set()
            assert release.wait(30)
        return web(url)

    issuer = Issuer(name="a", issuer=A, audiences=("x",), jwks_uri=f"{A}/jwk")
    keys = RemoteKeys(issuer, lambda: now[0], fetch)
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
