"""Pages for people, without a script: signing in and out, and who one is.

What goes wrong is a page too.  Nothing here takes an address from the request: where a person is
sent is made of the server's own address and a path of ours.
"""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from flask import Blueprint, Response, make_response, render_template_string, request

from orchestrator.api import models, present
from orchestrator.api.browser import (
    browsers,
    check_csrf,
    cookie,
    drop,
    keep,
    refuse_other_pages,
    session,
)
from orchestrator.api.requests import audit
from orchestrator.api.specification import operation
from orchestrator.errors import UserError
from orchestrator.identity.pages import PAGE_HEADERS
from orchestrator.identity.policy import Access
from orchestrator.identity.rate import TooManyRequests
from orchestrator.identity.web_login import LOGIN_SECONDS
from orchestrator.identity.web_sessions import Session, SessionEnded
from orchestrator.outbound import is_loopback

blueprint = Blueprint("pages", __name__)

HTML = "text/html; charset=utf-8"
HOME = "/account"
_MAXIMUM_FORM = 4096
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }} - Vacuo</title></head><body><main>
<h1>{{ title }}</h1>
{% for line in lines %}<p{% if failed %} role="alert"{% endif %}>{{ line }}</p>
{% endfor %}{% if user %}<p>You are signed in as <strong>{{ user }}</strong> of {{ issuer }}.</p>
<p>This ends at <time datetime="{{ ends }}">{{ ends }}</time>, or when nobody has used it for half
an hour.</p>
<form method="post" action="{{ base }}/logout">
<input type="hidden" name="csrf" value="{{ csrf }}">
<p><button>Sign out</button></p>
</form>
{% endif %}{% if issuers %}<p>Sign in at:</p>
<ul>
{% for name in issuers %}<li><a href="{{ base }}/login?{{ {"issuer": name} | urlencode }}">
{{ name }}</a></li>
{% endfor %}</ul>
{% endif %}{% if failed %}<p><a href="{{ base }}/account">Back to your account</a></p>
{% endif %}</main></body></html>
"""
_SECURE = "The administrator has to set public_url in vacuo.yaml to an https address."
_NO_ISSUER = "The administrator has to set web_client_id of an issuer in vacuo.yaml."


@operation(blueprint, "GET", HOME, Access.PAGE, answers={200: HTML, 400: HTML})
def account(query: models.NoQuery) -> Response:
    """Who is signed in, and how to sign in or out."""
    try:
        found = session()
    except SessionEnded as error:
        return _page("Your account", [error.why], issuers=_names())
    if found is not None:
        return _page("Your account", [], **_person(found))
    lines = ["You are not signed in.", *filter(None, [_missing()])]
    return _page("Your account", lines, issuers=_names())


@operation(
    blueprint,
    "GET",
    "/login",
    Access.PAGE,
    answers={303: None, 400: HTML, 429: HTML, 503: HTML},
)
def login(query: models.LoginQuery) -> Response:
    """Go to an issuer to sign in; ``next`` is where to go on to."""
    _not_too_often()
    missing = _missing()
    if missing:
        raise UserError(
            "Nobody can sign in by browser here.",
            missing,
            "vacuo login, or see docs/admin/identity.md",
            "login-not-configured",
            400,
        )
    if not _at_home():
        return _to(request.full_path)
    names = _names()
    if query.issuer is None and len(names) > 1:
        return _to(HOME)
    begun = browsers().login.begin(query.issuer or names[0], query.next)
    answer = Response(status=303, headers={"Location": begun.page})
    keep(answer, browsers().login_cookie, begun.cookie, LOGIN_SECONDS)
    return answer


@operation(
    blueprint,
    "GET",
    "/login/callback",
    Access.PAGE,
    answers={303: None, 400: HTML, 429: HTML, 503: HTML},
)
def login_callback(query: models.CallbackQuery) -> Response:
    """Where an issuer sends people back to."""
    _not_too_often()
    here = browsers()
    sealed = cookie(here.login_cookie)
    caller, next = here.login.finish(sealed, dict(request.args.lists()))
    _end_earlier_session()
    made = here.sessions.begin(caller)
    audit(caller.principal, "signed in with a browser")
    answer = _to(next)
    keep(answer, here.session_cookie, made, caller.expires_at - time.time())
    drop(answer, here.login_cookie)
    return answer


@operation(
    blueprint,
    "POST",
    "/logout",
    Access.PAGE,
    answers={303: None, 403: HTML},
)
def logout() -> Response:
    """Sign out: the session is forgotten, here and in the browser."""
    try:
        found = session()
    except SessionEnded:
        found = None
    if found is not None:
        refuse_other_pages()
        request.max_content_length = _MAXIMUM_FORM
        check_csrf(found, request.headers.get("X-CSRF-Token") or request.form.get("csrf"))
        browsers().sessions.end(cookie(browsers().session_cookie) or "")
        audit(found.caller.principal, "signed out")
    answer = _to(HOME)
    drop(answer, browsers().session_cookie)
    return answer


@blueprint.context_processor
def _base() -> dict[str, str]:
    return {"base": browsers().url}


@blueprint.errorhandler(UserError)
def _failed(error: UserError) -> Response:
    """What went wrong, as a page; what was begun is over."""
    lines = [line for line in (error.what, error.why, _try(error)) if line]
    answer = _page("This did not work", lines, failed=True)
    answer.status_code = error.status if error.status in (400, 403, 429, 503) else 400
    if isinstance(error, TooManyRequests):
        answer.headers["Retry-After"] = str(int(error.after) + 1)
    return answer


def _try(error: UserError) -> str:
    return f"Try: {error.attempt}." if error.attempt else ""


def _page(title: str, lines: list[str], **fields: object) -> Response:
    text = render_template_string(_PAGE, title=title, lines=lines, **fields)
    answer = make_response(text)
    answer.headers.update(PAGE_HEADERS)
    return answer


def _person(found: Session) -> dict[str, object]:
    principal = found.caller.principal
    names = {issuer.issuer: issuer.name for issuer in browsers().issuers}
    return {
        "user": principal.subject,
        "issuer": names.get(principal.issuer, principal.issuer),
        "ends": present.time(found.ends_at),
        "csrf": found.csrf,
    }


def _names() -> list[str]:
    return [issuer.name for issuer in browsers().issuers] if browsers().safe else []


def _missing() -> str:
    """What the administrator has to do before anybody can sign in by browser."""
    if not browsers().safe:
        return _SECURE
    return "" if browsers().issuers else _NO_ISSUER


def _to(path: str) -> Response:
    return Response(status=303, headers={"Location": browsers().url + path})


def _at_home() -> bool:
    """Cookies are of one name of a host: on this machine, which has several, go on under ours."""
    asked = urlsplit(f"//{request.host}")
    try:
        name, port = asked.hostname, asked.port
    except ValueError:
        return True
    own = urlsplit(browsers().url)
    elsewhere = is_loopback(name) and is_loopback(own.hostname) and port == own.port
    return not elsewhere or name == own.hostname


def _end_earlier_session() -> None:
    try:
        earlier = cookie(browsers().session_cookie)
    except SessionEnded:
        return
    if earlier:
        browsers().sessions.end(earlier)


def _not_too_often() -> None:
    browsers().pace.take(request.remote_addr, browsers().per_minute)
