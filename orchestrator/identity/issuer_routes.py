"""What the development issuer answers: discovery, keys, tokens, and the two pages for people.

Only to this machine; see :mod:`orchestrator.identity.issuer`.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, jsonify, make_response, render_template_string, request

from orchestrator.identity import issuer_codes
from orchestrator.identity.issuer_grants import (
    CONFIDENTIAL_GRANTS,
    PUBLIC_GRANTS,
    SCOPES,
    SERVER_GRANTS,
    Devices,
    User,
)
from orchestrator.identity.issuer_web import WEB_SCOPES
from orchestrator.identity.pages import PAGE_HEADERS
from orchestrator.identity.policy import Access, access
from orchestrator.identity.signing import ALGORITHM
from orchestrator.outbound import is_loopback
from orchestrator.settings import Issuer

DEFAULT_USER = "developer"
USER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_MAXIMUM_BODY = 16 * 1024
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


def issuer_routes(
    issuer: Issuer, public: dict[str, Any], server: Any, devices: Devices
) -> Blueprint:
    """The routes of ``issuer``: ``public`` is its key set, ``server`` Authlib's."""
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
        return _as_page(issuer_codes.answer(server, USER_NAME, DEFAULT_USER))

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
    if not USER_NAME.fullmatch(name):
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
