"""Two issuers, good tokens of theirs, and every way in which one could be forged or misshapen."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from orchestrator.identity.endpoints import IssuerAway
from orchestrator.identity.tokens import TokenValidator
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

    def __call__(
        self,
        url: str,
        authorization: str | None = None,
        form: Mapping[str, str] | None = None,
    ) -> bytes:
        self.asked.append(url)
        if any(url.startswith(name) for name in self.away):
            raise IssuerAway("ConnectError")
        return json.dumps(self.documents[url]).encode()

    def key_fetches(self) -> int:
        return sum(url.endswith("/jwk") for url in self.asked)


class World:
    """A server that trusts both; tokens of A follow ``profile``."""

    def __init__(self, profile: str = "oidc", **issuer: Any) -> None:
        self.now = NOW
        self.web = Web()
        self.issuers = [
            Issuer.model_validate(
                {
                    "name": "a",
                    "issuer": A,
                    "aliases": (f"{A}/",),
                    "audiences": (AUDIENCE,),
                    "profile": profile,
                    **issuer,
                }
            ),
            Issuer(name="b", issuer=B, audiences=(AUDIENCE,)),
        ]
        self.validator = TokenValidator(self.issuers, lambda: self.now, self.web)

    def validate(self, token: str) -> Any:
        return self.validator.validate(f"Bearer {token}")


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims; a change to ``...`` leaves the claim out."""
    good = {
        "iss": A,
        "sub": "alice",
        "aud": AUDIENCE,
        "iat": NOW - 60,
        "exp": NOW + HOUR,
        "jti": "j1",
        "wlcg.ver": "1.0",
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
    "username an object": lambda: good(preferred_username={"name": "alice"}),
    "jti an integer": lambda: good(jti=1),
    # WLCG and scope
    "wlcg.ver 2.0": lambda: good(wlcg__ver="2.0"),
    "wlcg.ver a float": lambda: good(wlcg__ver=1.0),
    "wlcg.ver with a newline": lambda: good(wlcg__ver="1.0\n"),
    "scope a list": lambda: good(scope=["openid"]),
    "scope quoted": lambda: good(scope='"openid"'),
    "scope with a tab": lambda: good(scope="openid\tadmin"),
}
