"""What the development issuer has for people who sign in to this very server by browser: a client
that leads nowhere else, and ID tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from authlib.oauth2.rfc9207 import IssuerParameter
from joserfc import jwt
from joserfc.jwk import ECKey

from orchestrator.identity.issuer_grants import Client
from orchestrator.identity.signing import ALGORITHM

WEB_CLIENT = "vacuo-web"
WEB_SCOPES = frozenset({"openid"})
CALLBACK = "/login/callback"
_ID_SECONDS = 600


def web_client(base: str) -> Client:
    """The public client of the server at ``base``; it goes back there alone."""
    grants = frozenset({"authorization_code"})
    return Client(WEB_CLIENT, grants, scopes=WEB_SCOPES, redirect_uri=base + CALLBACK)


@dataclass(frozen=True)
class IdTokens:
    """An extension of Authlib's grant: beside the access token, who signed in (OpenID Connect)."""

    issuer: str
    key: ECKey = field(repr=False)
    kid: str
    clock: Callable[[], float]

    def __call__(self, grant: Any) -> None:
        grant.register_hook("after_create_token_response", self._add)

    def _add(self, grant: Any, response: tuple[int, dict[str, Any], Any]) -> None:
        token, asked = response[1], grant.request
        if "openid" not in token.get("scope", "").split():
            return
        now = int(self.clock())
        claims = {
            "iss": self.issuer,
            "sub": asked.user.name,
            "aud": asked.client.client_id,
            "iat": now,
            "exp": now + _ID_SECONDS,
            "nonce": asked.authorization_code.nonce,
        }
        token["id_token"] = jwt.encode({"alg": ALGORITHM, "kid": self.kid}, claims, self.key)


class SaysWhoItIs(IssuerParameter):  # type: ignore[misc]
    """Each answer to a browser names its issuer (RFC 9207)."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer

    def get_issuer(self) -> str:
        return self._issuer
