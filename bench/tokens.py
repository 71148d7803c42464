"""What a request's token costs: validations a second of one core, and fetches.

Reference: PyJWT's own ``jwt.decode`` of the same token with the key at hand, which checks the
signature, the times, the audience and the issuer, and nothing of the rest.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from bench.figures import Figure
from orchestrator.errors import UserError
from orchestrator.identity.tokens import TokenValidator
from orchestrator.settings import Issuer

ISSUER, AUDIENCE = "https://issuer.example", "https://vacuo.example"
ROUNDS = 5
VALIDATIONS = 3000
GOAL = 5000
UNKNOWN_KEYS = 500


def run() -> Sequence[Figure]:
    keys: dict[str, Any] = {
        "RS256": rsa.generate_private_key(65537, 2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
    }
    web = _Web(keys)
    validator = TokenValidator([Issuer(name="x", issuer=ISSUER, audiences=(AUDIENCE,))], ask=web)
    figures = [_throughput(validator, keys, algorithm) for algorithm in keys]
    asked = len(web.asked)
    for number in range(UNKNOWN_KEYS):
        _refused(validator, _token(keys["RS256"], "RS256", kid=f"unknown{number}"))
    fetched = sum(url.endswith("/jwk") for url in web.asked[asked:])
    asked = len(web.asked)
    for number in range(UNKNOWN_KEYS):
        token = _token(keys["RS256"], "RS256", issuer=f"https://evil{number}.example")
        _refused(validator, token)
    strange = len(web.asked) - asked
    return [
        *figures,
        _count(f"fetches for {UNKNOWN_KEYS} unknown keys", fetched, 2),
        _count(f"fetches for {UNKNOWN_KEYS} untrusted issuers", strange, 0),
    ]


def _count(what: str, found: int, most: int) -> Figure:
    return Figure(what, found, "", goal=f"at most {most}", holds=found <= most)


def _throughput(validator: TokenValidator, keys: dict[str, Any], algorithm: str) -> Figure:
    token = _token(keys[algorithm], algorithm)
    public = keys[algorithm].public_key()

    def plain() -> None:
        jwt.decode(token, public, algorithms=[algorithm], audience=AUDIENCE, issuer=ISSUER)

    # In turns, so that a busy moment of the machine hits both; the best round of each counts.
    pairs = [
        (_rate(lambda: validator.validate(f"Bearer {token}")), _rate(plain)) for _ in range(ROUNDS)
    ]
    ours, theirs = (max(rates) for rates in zip(*pairs, strict=True))
    return Figure(
        f"{algorithm} validations, one core",
        ours,
        "/s",
        "jwt.decode alone",
        theirs,
        f"at least {GOAL}",
        ours >= GOAL,
    )


def _rate(work: Callable[[], object]) -> float:
    work()
    before = time.process_time()
    for _ in range(VALIDATIONS):
        work()
    return VALIDATIONS / (time.process_time() - before)


def _token(key: Any, algorithm: str, kid: str = "", issuer: str = ISSUER) -> str:
    now = int(time.time())
    claims = {
        "iss": issuer,
        "sub": "alice",
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 3600,
        "jti": "j",
        "scope": "openid profile",
    }
    return jwt.encode(claims, key, algorithm, headers={"kid": kid or algorithm})


def _refused(validator: TokenValidator, token: str) -> None:
    try:
        validator.validate(f"Bearer {token}")
    except UserError:
        return
    raise AssertionError("a token that must be refused was accepted")


class _Web:
    """The issuer's documents, and what was asked for."""

    def __init__(self, keys: dict[str, Any]) -> None:
        jwks = [
            {
                **(RSAAlgorithm if name == "RS256" else ECAlgorithm).to_jwk(
                    key.public_key(), as_dict=True
                ),
                "kid": name,
            }
            for name, key in keys.items()
        ]
        self.asked: list[str] = []
        self._documents: dict[str, object] = {
            f"{ISSUER}/jwk": {"keys": jwks},
            f"{ISSUER}/.well-known/openid-configuration": {
                "issuer": ISSUER,
                "jwks_uri": f"{ISSUER}/jwk",
            },
        }

    def __call__(self, url: str, authorization: str | None = None, form: object = None) -> bytes:
        self.asked.append(url)
        return json.dumps(self._documents[url]).encode()
