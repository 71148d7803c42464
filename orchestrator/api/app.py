"""The application: every request is named, admitted and measured before a view sees it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from flask import Flask, Response, current_app, g, request

from orchestrator import logs
from orchestrator.api import (
    about,
    browser,
    credentials,
    deployments,
    events,
    logins,
    pages,
    plans,
    problems,
    pull,
    resources,
    whoami,
)
from orchestrator.api.refusals import Refusals
from orchestrator.api.refused_tokens import RefusedTokens
from orchestrator.api.requests import (
    Services,
    StrictRequest,
    correlation,
    services,
    start_correlation,
)
from orchestrator.control.service import Orchestrator
from orchestrator.errors import NodeRefused, NotFound, StoreUnavailable, UserError
from orchestrator.identity.access_file import AccessFile
from orchestrator.identity.claims import Caller, Fault
from orchestrator.identity.issuer import DevelopmentIssuer
from orchestrator.identity.policy import Access, access_of, admit, allowed, standing, without_policy
from orchestrator.identity.signing import Signer
from orchestrator.identity.tokens import TokenValidator, Unauthenticated
from orchestrator.identity.web import Browsers
from orchestrator.model import Deployment, DeploymentId, Event
from orchestrator.settings import Issuer, Settings

log = logging.getLogger(__name__)

# A JSON string may need two bytes for one of the template, and the parameters come on top.
_BODY_SLACK = 64 * 1024
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class _App(Flask):
    request_class = StrictRequest


def create_app(
    orchestrator: Orchestrator,
    validator: TokenValidator,
    issuer: DevelopmentIssuer | None = None,
    *,
    streams: int = 16,
    browsers: Browsers | None = None,
) -> Flask:
    """The WSGI application.

    ``streams`` is how many event streams may be open at a time; each keeps a thread of the server
    busy, so it has to be below their number.  Set ``Services.of(app).closing`` to end them all.
    ``browsers`` is for those who want another clock or network for them.
    Raises :class:`RuntimeError` for a route without a rule of access, and :class:`UserError` for an
    access file that cannot be used.
    """
    settings = orchestrator.settings
    app = _App("vacuo", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = 2 * settings.limits.template_bytes + _BODY_SLACK
    issuers = trusted(settings, issuer)
    refused = RefusedTokens(orchestrator.repository)
    Services(
        orchestrator,
        validator,
        threading.BoundedSemaphore(streams),
        issuers,
        Signer.of(settings),
        AccessFile(settings.access_file, issuers, _tells(orchestrator)),
        refused,
        browsers or Browsers.of(settings, issuers, validator, orchestrator.repository.sessions),
    ).attach(app)
    problems.register(app)
    app.before_request(_begin)
    app.before_request(_admit)
    app.after_request(_finish)
    app.after_request(Refusals(orchestrator.repository))
    app.teardown_request(_end)
    people = (whoami, credentials, logins, pages)
    for part in (deployments, resources, plans, events, pull, about, *people):
        app.register_blueprint(part.blueprint)
    if issuer is not None:
        app.register_blueprint(issuer.blueprint)
    open_routes = without_policy(app.url_map.iter_rules(), app.view_functions)
    if open_routes:
        raise RuntimeError(f"routes without a rule of access: {', '.join(open_routes)}")
    return app


def trusted(settings: Settings, issuer: DevelopmentIssuer | None) -> tuple[Issuer, ...]:
    """All issuers that tokens are taken of, the built-in one too."""
    return (*settings.issuers, *((issuer.issuer,) if issuer else ()))


def _tells(orchestrator: Orchestrator) -> Callable[[str, bool], None]:
    """Makes an audit of what became of the access file."""

    def tell(what: str, failed: bool) -> None:
        try:
            orchestrator.repository.append([Event.audit(time.time(), "vacuo", what, denied=failed)])
        except StoreUnavailable as error:
            log.warning("a change of the access file could not be stored: %s", error)

    return tell


def _begin() -> None:
    g.started = time.monotonic()
    g.bound = ExitStack()
    g.bound.enter_context(logs.bound(correlation=start_correlation()))


def _admit() -> None:
    """Who, may they, and is there a body they can read; in this order."""
    if request.url_rule is None:
        return  # no such path or method: Flask's own answer
    rule = access_of(_view())
    if rule is None:
        raise NotFound("There is nothing at this path.")
    if rule.is_a_nodes:
        with _counted():
            pull.admit(rule)
        return
    if not rule.needs_token:
        return
    _authorise(rule)
    if request.method in ("POST", "PUT"):
        request.get_json()


def _authorise(rule: Access) -> None:
    with _counted():
        g.caller = _caller()
    g.rules = services().access.rules
    g.standing = standing(g.caller, g.rules)
    services().pace.take(g.caller.principal, g.standing.each.requests_per_minute)
    if rule.right is None:
        return
    admit(g.standing, rule.right)
    if rule.of_deployment:
        id = (request.view_args or {})["id"]
        g.deployment = allowed(g.standing, _deployment(id), id, rule.right)
        g.bound.enter_context(logs.bound(deployment=g.deployment.id))


@contextmanager
def _counted() -> Iterator[None]:
    """Count what is refused; who sends no token at all has tried nothing."""
    try:
        yield
    except Unauthenticated as error:
        if error.fault is not Fault.MISSING:
            known = error.issuer and f"said to be of {error.issuer}"
            _count(known or "of no issuer that is trusted here", error)
        raise
    except NodeRefused as error:
        _count("shown as a node's", error)
        raise


def _count(origin: str, refusal: UserError) -> None:
    address = request.remote_addr or "an address that is not known"
    services().refused_tokens.count(origin, refusal.code, address, correlation())


def _caller() -> Caller:
    """Who shows a token; else who is signed in with the browser that asks."""
    shown = request.headers.get("Authorization")
    found = browser.caller() if shown is None else None
    return found or services().validator.validate(shown)


def _view() -> Callable[..., Any] | None:
    return current_app.view_functions.get(request.endpoint or "")


def _deployment(id: str) -> Deployment | None:
    try:
        return services().orchestrator.repository.deployment(DeploymentId(id))
    except NotFound:
        return None


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = correlation()
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    if services().orchestrator.settings.url.startswith("https:"):
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    # The rule, not the path: a path is what somebody sent, and may hold anything.
    route = request.url_rule.rule if request.url_rule else "(no such path)"
    milliseconds = 1000 * (time.monotonic() - g.started)
    services().refused_tokens.tell()  # a flood may have ended with the last minute
    log.info("%s %s %d %.0f ms", request.method, route, response.status_code, milliseconds)
    return response


def _end(_error: BaseException | None) -> None:
    bound = g.pop("bound", None)
    if bound is not None:
        bound.close()
