"""The built-in development issuer: tokens for a demonstration, a test, a laptop.

Anybody on this machine may log in, under any name: so it lives on loopback, refuses to be built
for any other address, and refuses every request that did not start on this machine or that came
through a proxy.  For everything else there is a real issuer (docs/admin/identity.md).
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, jsonify, make_response, render_template_string, request
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
    SCOPES,
    SERVER_GRANTS,
    Client,
    Devices,
    User,
    authorization_server,
)
from orchestrator.identity.issuer_refresh import RefreshTokens
from orchestrator.identity.issuer_web import (
    WEB_CLIENT,
    WEB_SCOPES,
    IdTokens,
    SaysWhoItIs,
    web_client,
)
from orchestrator.identity.keys import LocalKeys
from orchestrator.identity.pages import PAGE_HEADERS
from orchestrator.identity.policy import Access, access
from orchestrator.identity.signing import ALGORITHM, signing_key
from orchestrator.outbound import is_loopback
from orchestrator.settings import Issuer, Settings

CLI_CLIENT = "vacuo-cli"
SCRIPT_CLIENT = "vacuo-scripts"
SERVER_CLIENT = "vacuo-server"
DEFAULT_USER = "developer"
_MAXIMUM_BODY = 16 * 1024
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via")
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Vacuo: log in</title></head><body>
<h1>Log in to Vacuo</h1>
{% if message %}<p role="status">{{ message }}</p>{% endif %}
{% if form %}<p>This is the development issuer: anybody on this machine may log in, under any name.
Approve only a code that you see in your own terminal.</p>
<form method="post" action="{{ action }}">
<p><label>Code <input name="user_code" value="{{ code }}" required autofocus autocomplete="off">
</label></p>
<p><label>User <input name="user" value="{{ user }}" required autocomplete="off"></label></p>
<p><button name="answer" value="approve">Approve</button>
<button name="answer" value="deny">Deny</button></p>
</form>{% endif %}
</body></html>
"""


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
        _blueprint(issuer, public, server, devices),
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


def _blueprint(issuer: Issuer, public: dict[str, Any], server: Any, devices: Devices) -> Blueprint:
    blueprint = Blueprint("issuer", __name__, url_prefix="/issuer")
    blueprint.before_request(_only_this_machine)

    @blueprint.get("/.well-known/openid-configuration")
    @access(Access.THIS_MACHINE)
    def discovery() -> Response:
        return jsonify(_metadata(issuer))

    @blueprint.get("/jwks")
    @access(Access.THIS_MACHINE)
    def key_set() -> Response:
        return jsonify(public)

    @blueprint.post("/token")
    @access(Access.THIS_MACHINE)
    def token() -> Any:
        return server.create_token_response()

    @blueprint.post("/device_authorization")
    @access(Access.THIS_MACHINE)
    def device_authorization() -> Any:
        return server.create_endpoint_response("device_authorization")

    @blueprint.post("/revoke")
    @access(Access.THIS_MACHINE)
    def revoke() -> Any:
        return server.create_endpoint_response("revocation")

    @blueprint.get("/device")
    @access(Access.THIS_MACHINE)
    def ask() -> Response:
        return _page(code=request.args.get("user_code", "")[:20], form=True)

    @blueprint.post("/device")
    @access(Access.THIS_MACHINE)
    def answer() -> Response:
        return _answer(devices)

    @blueprint.get("/authorize")
    @access(Access.THIS_MACHINE)
    def ask_consent() -> Response:
        return _as_page(issuer_codes.ask(server, DEFAULT_USER))

    @blueprint.post("/authorize")
    @access(Access.THIS_MACHINE)
    def answer_consent() -> Response:
        return _as_page(issuer_codes.answer(server, _USER, DEFAULT_USER))

    return blueprint


def _as_page(answer: Response) -> Response:
    for name, value in PAGE_HEADERS.items():
        answer.headers.setdefault(name, value)
    return answer


def _metadata(issuer: Issuer) -> dict[str, Any]:
    base = issuer.issuer
    return {
        "issuer": base,
        "jwks_uri": f"{base}/jwks",
        "token_endpoint": f"{base}/token",
        "authorization_endpoint": f"{base}/authorize",
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "subject_types_supported": ["public"],
        "device_authorization_endpoint": f"{base}/device_authorization",
        "revocation_endpoint": f"{base}/revoke",
        "grant_types_supported": sorted(PUBLIC_GRANTS | CONFIDENTIAL_GRANTS | SERVER_GRANTS),
        "scopes_supported": sorted(SCOPES | WEB_SCOPES),
        "response_types_supported": ["code"],
        "token_endpoint_auth_methods_supported": [
            "none",
            "client_secret_basic",
            "client_secret_post",
        ],
    }


def _only_this_machine() -> Response | None:
    """Refuse what did not start here: another peer, a proxy, another name for this server (a
    page elsewhere whose name was made to resolve to us), a form of another origin."""
    request.max_content_length = _MAXIMUM_BODY
    own_origin = f"{request.scheme}://{request.host}"
    refusal = None
    if not is_loopback(request.remote_addr) or any(h in request.headers for h in _PROXY_HEADERS):
        refusal = "the development issuer serves this machine alone"
    elif not is_loopback(_host_name(request.host)):
        refusal = "the development issuer is addressed by a loopback name alone"
    elif request.headers.get("Origin", own_origin) != own_origin or (
        request.method == "POST"
        and request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
    ):
        refusal = "the request comes from a page of another origin"
    elif request.method == "POST" and request.query_string:
        refusal = "parameters belong into the body: addresses end up in logs"
    if refusal is None:
        return None
    answer = jsonify({"error": "access_denied", "error_description": refusal})
    answer.status_code = 403
    return answer


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _answer(devices: Devices) -> Response:
    code = request.form.get("user_code", "")[:20]
    name = request.form.get("user", DEFAULT_USER)
    if not _USER.fullmatch(name):
        return _page(
            "A user's name has 1 to 64 letters, digits or . _ @ - in it, and starts with one of "
            "the first two.",
            code,
            form=True,
            status=400,
        )
    verdict = request.form.get("answer", "")
    if verdict not in ("approve", "deny"):
        return _page("Approve or deny.", code, form=True, status=400, user=name)
    if not devices.answer(code, User(name), approved=verdict == "approve"):
        message = "This code is unknown, used or older than ten minutes. Run vacuo login again."
        return _page(message, form=True, status=400, user=name)
    if verdict == "deny":
        return _page("Denied. You can close this page.")
    return _page(f"You are logged in as {name}. You can close this page.")


def _page(
    message: str = "",
    code: str = "",
    form: bool = False,
    status: int = 200,
    user: str = DEFAULT_USER,
) -> Response:
    text = render_template_string(
        _PAGE, message=message, code=code, form=form, user=user, action=request.path
    )
    answer = make_response(text, status)
    answer.headers.update(PAGE_HEADERS)
    return answer


def _checked_user(name: str) -> str:
    if _USER.fullmatch(name):
        return name
    raise UserError(
        "That is not a name of a development user.",
        "It has 1 to 64 letters, digits or . _ @ - in it, and starts with a letter or digit.",
        code="user-name",
    )
