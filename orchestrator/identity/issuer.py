"""The built-in development issuer: tokens for a demonstration, a test, a laptop.

Anybody on this machine may log in, under any name: so it lives on loopback, refuses to be built
for any other address, and refuses every request that did not start on this machine or that came
through a proxy.  For everything else there is a real issuer (docs/admin/identity.md).
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from orchestrator.errors import UserError
from orchestrator.identity import issuer_codes
from orchestrator.identity.claims import MAXIMUM_LIFETIME
from orchestrator.identity.files import create_private, make_private_directory, write_private
from orchestrator.identity.issuer_grants import (
    ACCESS_SECONDS,
    CONFIDENTIAL_GRANTS,
    PUBLIC_GRANTS,
    SERVER_GRANTS,
    Client,
    Devices,
    authorization_server,
)
from orchestrator.identity.issuer_refresh import RefreshTokens
from orchestrator.identity.issuer_routes import USER_NAME, issuer_routes
from orchestrator.identity.issuer_web import (
    WEB_CLIENT,
    IdTokens,
    SaysWhoItIs,
    web_client,
)
from orchestrator.identity.keys import LocalKeys
from orchestrator.identity.signing import ALGORITHM, signing_key
from orchestrator.outbound import is_loopback
from orchestrator.settings import Issuer, Settings

CLI_CLIENT = "vacuo-cli"
SCRIPT_CLIENT = "vacuo-scripts"
SERVER_CLIENT = "vacuo-server"


@dataclass(frozen=True)
class _Minter:
    """Signs access tokens as RFC 9068 has them."""

    issuer: str
    audience: str
    key: ECKey = field(repr=False)
    kid: str
    clock: Callable[[], float]

    def mint(
        self,
        subject: str,
        client_id: str,
        scope: str,
        lifetime: float = ACCESS_SECONDS,
        groups: Sequence[str] = (),
        *,
        audience: str | None = None,
    ) -> str:
        now = int(self.clock())
        claims = {
            "iss": self.issuer,
            "sub": subject,
            "aud": audience or self.audience,
            "iat": now,
            "exp": now + int(lifetime),
            "jti": secrets.token_urlsafe(16),
            "client_id": client_id,
            "scope": scope,
            **({"groups": list(groups)} if groups else {}),
        }
        return jwt.encode({"alg": ALGORITHM, "typ": "at+jwt", "kid": self.kid}, claims, self.key)

    def claims(self, token: str) -> Mapping[str, Any] | None:
        """Those of a token made here, for this server, that has not ended; else None."""
        try:
            claims: dict[str, Any] = jwt.decode(token, self.key, algorithms=[ALGORITHM]).claims
        except (JoseError, ValueError):
            return None
        own = claims.get("iss") == self.issuer and claims.get("aud") == self.audience
        return claims if own and claims["exp"] > self.clock() else None


@dataclass(frozen=True)
class DevelopmentIssuer:
    """A running development issuer.

    ``issuer`` and ``keys`` are for the validator: ``TokenValidator(settings.issuers, own=this)``.
    ``client_file`` holds the client id and secret that scripts on this machine use.
    """

    issuer: Issuer
    keys: LocalKeys
    client_file: Path
    blueprint: Blueprint = field(repr=False)
    _minter: _Minter = field(repr=False)

    def mint(
        self,
        subject: str,
        lifetime: float = ACCESS_SECONDS,
        *,
        groups: Sequence[str] = (),
        scope: str = "",
    ) -> str:
        """An access token for ``subject`` that ends in ``lifetime`` seconds (at most 6 h)."""
        if lifetime > MAXIMUM_LIFETIME:
            raise UserError(
                f"A token cannot live for {lifetime:.0f} s.",
                f"The server accepts tokens of at most {MAXIMUM_LIFETIME} s.",
                code="lifetime",
            )
        return self._minter.mint(_checked_user(subject), CLI_CLIENT, scope, lifetime, groups)


def build(settings: Settings, clock: Callable[[], float] = time.time) -> DevelopmentIssuer:
    """The development issuer of this server, with the keys of its data directory.

    Raises :class:`UserError` unless the server listens on loopback alone.
    """
    _require_loopback(settings)
    directory = settings.data_directory / "issuer"
    make_private_directory(directory)
    base = settings.url.rstrip("/")
    issuer = Issuer(
        name="development",
        issuer=f"{base}/issuer",
        audiences=(base,),
        algorithms=(ALGORITHM,),
        jwks_uri=f"{base}/issuer/jwks",
        client_id=CLI_CLIENT,
        web_client_id=WEB_CLIENT,
        delegation="exchange",
        delegation_client_id=SERVER_CLIENT,
        delegation_secret_file=directory.absolute() / "server-secret",
    )
    key = signing_key(directory / "key.json", "all who are logged in log in again")
    kid = key.thumbprint()
    public = {"keys": [{**key.as_dict(private=False), "kid": kid}]}
    minter = _Minter(issuer.issuer, base, key, kid, clock)
    client_file = directory / "client.json"
    server_secret = create_private(directory / "server-secret", secrets.token_urlsafe(32))
    clients = (
        Client(CLI_CLIENT, PUBLIC_GRANTS),
        Client(SERVER_CLIENT, SERVER_GRANTS, server_secret),
        web_client(base),
        _script_client(client_file, issuer.issuer),
    )
    devices = Devices(clock)
    server = authorization_server(
        {client.client_id: client for client in clients},
        devices,
        RefreshTokens(directory / "refresh.json", clock),
        minter,
        f"{issuer.issuer}/device",
    )
    id_tokens = IdTokens(issuer.issuer, key, kid, clock)
    code_grant = issuer_codes.code_grant(issuer_codes.Codes(clock))
    server.register_grant(code_grant, [issuer_codes.S256(), id_tokens])
    server.register_extension(SaysWhoItIs(issuer.issuer))
    return DevelopmentIssuer(
        issuer,
        LocalKeys.of(public, issuer.algorithms),
        client_file,
        issuer_routes(issuer, public, server, devices),
        minter,
    )


def _require_loopback(settings: Settings) -> None:
    listen = settings.listen.rpartition(":")[0]
    public = urlsplit(settings.url).hostname
    for name, host in (("listen", listen), ("public_url", public)):
        if not is_loopback(host):
            raise UserError(
                "The development issuer does not start.",
                f"It lets anybody log in, and {name} is {host or 'empty'}, not a loopback address.",
                "set listen to 127.0.0.1:8420, or development_issuer to false and configure a "
                "real issuer (docs/admin/identity.md)",
                code="configuration-invalid",
            )


def _script_client(path: Path, issuer: str) -> Client:
    """The confidential client for scripts, whose secret is made at the first start."""

    def text(secret: str) -> str:
        entry = {
            "issuer": issuer,
            "token_endpoint": f"{issuer}/token",
            "client_id": SCRIPT_CLIENT,
            "client_secret": secret,
        }
        return json.dumps(entry, indent=1) + "\n"

    found = create_private(path, text(secrets.token_urlsafe(32)))
    try:
        secret = json.loads(found)["client_secret"]
    except (ValueError, KeyError, TypeError):
        secret = None
    if not isinstance(secret, str) or len(secret) < 32:
        raise UserError(
            f"The client file {path} cannot be read.",
            attempt="remove it: a new one is made at the next start",
            code="secret-file",
        )
    if found != text(secret):
        write_private(path, text(secret))  # the server's address has changed
    return Client(SCRIPT_CLIENT, CONFIDENTIAL_GRANTS, secret)


def _checked_user(name: str) -> str:
    if USER_NAME.fullmatch(name):
        return name
    raise UserError(
        "That is not a name of a development user.",
        "It has 1 to 64 letters, digits or . _ @ - in it, and starts with a letter or digit.",
        code="user-name",
    )
