"""The server itself: what it is, whether it works, what it can do, what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response, current_app, jsonify

from orchestrator import __version__
from orchestrator.api import codes, logins, models, present
from orchestrator.api.requests import orchestrator, services
from orchestrator.api.specification import openapi, operation
from orchestrator.control.health import Check
from orchestrator.identity.policy import Access
from orchestrator.reasons import reason

blueprint = Blueprint("about", __name__)

MARKDOWN = "text/markdown; charset=utf-8"
API_VERSION = "1"


@operation(blueprint, "GET", "/info", Access.PUBLIC, answers={200: models.Info})
def info() -> models.Info:
    """Name, version, issuers to log in at, sites and pools by name."""
    settings = orchestrator().settings
    return models.Info(
        name="vacuo",
        version=__version__,
        api=API_VERSION,
        issuers=[
            models.IssuerInfo(
                name=issuer.name,
                issuer=issuer.issuer,
                client_id=issuer.client_id,
                audiences=list(issuer.audiences),
                delegation_scope=logins.scope_of(issuer.issuer),
            )
            for issuer in services().issuers
        ],
        sites=[site.name for site in settings.sites],
        pools=[pool.name for pool in settings.pools],
        limits=models.LimitsInfo(template_bytes=settings.limits.template_bytes),
    )


@operation(blueprint, "GET", "/healthz", Access.PUBLIC, answers={200: models.Health})
def healthz() -> models.Health:
    """Whether the process answers; nothing else is looked at."""
    return models.Health()


@operation(
    blueprint,
    "GET",
    "/readyz",
    Access.PUBLIC,
    answers={200: models.Ready, 503: models.Ready},
)
def readyz() -> tuple[models.Ready, int]:
    """Whether the server can do its work, and if not, why."""
    found = present.ready(orchestrator().health.problems())
    return found, 200 if found.ready else 503


@operation(blueprint, "GET", "/checks", Access.AUTHENTICATED, answers={200: models.Checks})
def checks(query: models.NoQuery) -> models.Checks:
    """Every site and every pool, looked at now."""
    found = [present.check(check) for check in (*_access(), *orchestrator().health.checks())]
    return models.Checks(checks=found)


def _access() -> Iterator[Check]:
    """Nothing of what is in the file: everybody may read this."""
    file = services().access
    if file.rules and file.problem:
        yield Check("access file", False, reason=reason("access-file-unusable"))


@operation(
    blueprint, "GET", "/.well-known/jwks.json", Access.PUBLIC, answers={200: "application/json"}
)
def get_keys() -> Response:
    """The public key of what this server signs: its callbacks."""
    return jsonify(services().signer.public)


@operation(blueprint, "GET", "/openapi.json", Access.PUBLIC, answers={200: "application/json"})
def get_openapi() -> Response:
    """This description."""
    return jsonify(openapi(current_app))


@operation(blueprint, "GET", "/docs/errors", Access.PUBLIC, answers={200: MARKDOWN})
def get_errors() -> Response:
    """What the codes of errors mean."""
    return Response(codes.errors_page(), content_type=MARKDOWN)
