"""Authorisation codes of the development issuer: PKCE with S256, back to loopback, used once.

The page that asks for consent is protected as the device page is: what is posted from another
origin is refused before it is read (``orchestrator.identity.issuer``).
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import grants
from authlib.oauth2.rfc7636 import CodeChallenge
from flask import Response, make_response, render_template_string, request

from orchestrator.identity.issuer_grants import Client, User
from orchestrator.identity.issuer_refresh import Clock

CODE_SECONDS = 60
_MAXIMUM_CODES = 100
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_ASKED = (
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "audience",
    "nonce",
    "code_challenge",
    "code_challenge_method",
)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Vacuo: log in</title></head><body>
<h1>Log in to Vacuo</h1>
{% if message %}<p role="status">{{ message }}</p>{% endif %}
{% if asked %}<p>This is the development issuer: anybody on this machine may log in, under any name.
Approve only if you have just called vacuo login, or asked to sign in to Vacuo in this browser.</p>
<form method="post" action="{{ action }}">
{% for name, value in asked.items() %}<input type="hidden" name="{{ name }}" value="{{ value }}">
{% endfor %}<p><label>User <input name="user" value="{{ user }}" required autofocus
autocomplete="off"></label></p>
<p><button name="answer" value="approve">Approve</button>
<button name="answer" value="deny">Deny</button></p>
</form>{% endif %}
</body></html>
"""


@dataclass(frozen=True)
class Code:
    """What an authorisation code stands for, as Authlib asks about it."""

    code: str = field(repr=False)
    client_id: str
    user: User
    scope: str
    redirect_uri: str
    code_challenge: str
    nonce: str
    expires_at: float
    code_challenge_method: str = "S256"

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope


class Codes:
    """The codes in force, in memory; at most 100, of which the oldest give way."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._codes: dict[str, Code] = {}
        self._lock = threading.Lock()

    def add(self, code: str, asked: Any) -> None:
        data = asked.payload.data
        made = Code(
            code,
            asked.client.client_id,
            asked.user,
            asked.scope or "",
            asked.payload.redirect_uri,
            data["code_challenge"],
            data.get("nonce", ""),
            self._clock() + CODE_SECONDS,
        )
        with self._lock:
            live = [one for one in self._codes.values() if one.expires_at > self._clock()]
            self._codes = {one.code: one for one in [*live[-(_MAXIMUM_CODES - 1) :], made]}

    def take(self, code: str, client: Client) -> Code | None:
        """The code, once: whoever shows it, rightly or wrongly, uses it up."""
        with self._lock:
            found = self._codes.pop(code, None)
        good = found and found.client_id == client.client_id and found.expires_at > self._clock()
        return found if good else None


class S256(CodeChallenge):  # type: ignore[misc]
    """PKCE that nobody may leave out."""

    DEFAULT_CODE_CHALLENGE_METHOD = "S256"
    SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]  # noqa: RUF012


def code_grant(codes: Codes) -> type[Any]:
    """Authlib's grant, bound to where the codes are."""

    class CodeGrant(grants.AuthorizationCodeGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = ["none"]  # noqa: RUF012

        def save_authorization_code(self, code: str, request: Any) -> None:
            codes.add(code, request)

        def query_authorization_code(self, code: str, client: Client) -> Code | None:
            return codes.take(code, client)

        def delete_authorization_code(self, authorization_code: Code) -> None:
            """It is gone since it was looked up."""

        def authenticate_user(self, authorization_code: Code) -> User:
            return authorization_code.user

    return CodeGrant


def ask(server: Any, default_user: str) -> Response:
    """The page on which a person consents; an error page where the request is not in order."""
    refused = _refusal(server)
    return refused or _page(user=default_user, asked=_asked())


def answer(server: Any, pattern: re.Pattern[str], default_user: str) -> Response:
    """What the person answered: back to the client with a code, or with a refusal."""
    refused = _refusal(server)
    if refused:
        return refused
    name = request.form.get("user", default_user)
    if not pattern.fullmatch(name):
        message = "A user's name has 1 to 64 letters, digits or . _ @ - in it."
        return _page(message, default_user, _asked(), 400)
    verdict = request.form.get("answer", "")
    if verdict not in ("approve", "deny"):
        return _page("Approve or deny.", name, _asked(), 400)
    user = User(name) if verdict == "approve" else None
    back: Response = server.create_authorization_response(
        grant_user=user, grant=server.get_consent_grant(end_user=user)
    )
    return back


def _refusal(server: Any) -> Response | None:
    """An error page: nobody is sent anywhere on the word of a request that is not in order."""
    values = request.values
    good = values.get("code_challenge_method") == "S256" and values.get("state")
    if not good or not _CHALLENGE.fullmatch(values.get("code_challenge", "")):
        return _page(
            "The request is not in order: it needs a state, and PKCE with S256.", status=400
        )
    try:
        server.get_consent_grant()
    except OAuth2Error as error:
        return _page(f"The request is not in order: {error.error}.", status=400)
    return None


def _asked() -> dict[str, str]:
    return {name: request.values[name] for name in _ASKED if name in request.values}


def _page(
    message: str = "", user: str = "", asked: dict[str, str] | None = None, status: int = 200
) -> Response:
    text = render_template_string(
        _PAGE, message=message, user=user, asked=asked, action=request.path
    )
    made = make_response(text, status)
    # The answer to the form leads back to the client, which listens on loopback.
    made.headers["Content-Security-Policy"] = (
        "default-src 'none'; form-action 'self' http://127.0.0.1:*; frame-ancestors 'none'"
    )
    return made
