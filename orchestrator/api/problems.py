"""Errors as problem+json (RFC 9457), by the registry of codes; nothing that was sent is in them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Response, json
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from werkzeug.exceptions import HTTPException

from orchestrator.api import models, requests
from orchestrator.api.codes import CODES
from orchestrator.errors import LimitExceeded, PortError, StoreUnavailable, UserError
from orchestrator.identity.policy import InsufficientScope
from orchestrator.identity.rate import TooManyRequests
from orchestrator.identity.tokens import IssuerUnavailable, Unauthenticated
from orchestrator.tosca.problems import TemplateInvalid, did_you_mean

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
ERRORS_PATH = "/docs/errors"
_LONGEST_NAME = 64

_CODE_OF_STATUS = {
    400: "request-invalid",
    401: "token-invalid",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    413: "too-large",
    415: "media-type",
    429: "too-many-requests",
    503: "unavailable",
}


@dataclass
class RequestInvalid(UserError):
    """A request whose fields are wrong; ``errors`` has one entry for each."""

    what: str = "The request cannot be used."
    attempt: str = "see docs/user/api.md or GET /openapi.json"
    code: str = "request-invalid"
    errors: list[dict[str, Any]] = field(default_factory=list)


def entry(
    sentence: str, *, path: str | None = None, suggestion: str = "", **place: Any
) -> dict[str, Any]:
    """One element of ``errors``; ``place`` may have file, line and column."""
    return {
        "file": place.get("file") or None,
        "line": place.get("line") or None,
        "column": place.get("column") or None,
        "path": path or None,
        "sentence": sentence,
        "suggestion": suggestion,
    }


def from_validation(error: ValidationError) -> RequestInvalid:
    """The problems that pydantic found, by name of the field and never with what was sent."""
    known = [field.alias or name for name, field in _fields(error.title).items()]
    errors = []
    for found in error.errors(include_input=False, include_url=False, include_context=False):
        path = ".".join(str(part)[:_LONGEST_NAME] for part in found["loc"]) or None
        if found["type"] == "extra_forbidden":
            meant = did_you_mean(path, known)
            errors.append(entry(f"There is no field {path}.", path=path, suggestion=meant))
        elif found["type"] == "missing":
            errors.append(entry(f"The field {path} is missing.", path=path))
        else:
            message = found["msg"].removeprefix("Value error, ").rstrip(".")
            errors.append(entry(f"{path or 'The request'}: {message}.", path=path))
    return RequestInvalid(why=" ".join(error["sentence"] for error in errors[:3]), errors=errors)


def _fields(model: str) -> Mapping[str, FieldInfo]:
    """The fields of the model that pydantic calls by this name."""
    found = getattr(models, model, None)
    return found.model_fields if found else {}


def document(
    error: UserError, errors: Sequence[Mapping[str, Any]] = (), status: int | None = None
) -> dict[str, Any]:
    """The members of the problem; see ``docs/user/api.md``."""
    known = CODES.get(error.code)
    detail = f"{error.what} {error.why}".strip()
    return {
        "type": f"{ERRORS_PATH}#{error.code}",
        "title": known.title if known else "The request cannot be fulfilled",
        "status": status or error.status,
        "detail": detail,
        "code": error.code,
        "what": error.what,
        "why": error.why,
        "attempt": error.attempt,
        "message": detail,
        "correlation": requests.correlation(),
        "errors": list(errors),
    }


def answer(error: UserError, errors: Sequence[Mapping[str, Any]] = ()) -> Response:
    """The whole answer for ``error``."""
    body = json.dumps(document(error, errors))
    response = Response(body, status=error.status, content_type=MEDIA_TYPE)
    if error.status == 503:
        response.headers["Retry-After"] = "5"
    return response


def register(app: Flask) -> None:
    """Make every error of ``app`` a problem."""
    app.register_error_handler(LimitExceeded, _limit_exceeded)
    app.register_error_handler(InsufficientScope, _insufficient_scope)
    app.register_error_handler(TooManyRequests, _too_many_requests)
    app.register_error_handler(TemplateInvalid, _template_invalid)
    app.register_error_handler(Unauthenticated, _unauthenticated)
    app.register_error_handler(IssuerUnavailable, _issuer_unavailable)
    app.register_error_handler(UserError, _user_error)
    app.register_error_handler(StoreUnavailable, _store_unavailable)
    app.register_error_handler(PortError, _port_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _internal)


def _template_invalid(error: TemplateInvalid) -> Response:
    errors = [
        entry(
            problem.sentence,
            path=problem.path,
            suggestion=problem.suggestion,
            file=problem.file,
            line=problem.line,
            column=problem.column,
        )
        for problem in error.problems
    ]
    return answer(error, errors)


def _unauthenticated(error: Unauthenticated) -> Response:
    response = answer(error)
    response.headers["WWW-Authenticate"] = error.www_authenticate
    return response


def _limit_exceeded(error: LimitExceeded) -> Response:
    limit = {
        "what": error.kind,
        "of": error.of,
        "used": error.used,
        "asked": error.asked,
        "limit": error.limit,
    }
    body = json.dumps(document(error) | {"limit": limit})
    return Response(body, status=error.status, content_type=MEDIA_TYPE)


def _insufficient_scope(error: InsufficientScope) -> Response:
    response = answer(error)
    challenge = f'Bearer realm="vacuo", error="insufficient_scope", scope="{error.scope}"'
    response.headers["WWW-Authenticate"] = challenge
    return response


def _too_many_requests(error: TooManyRequests) -> Response:
    response = answer(error)
    response.headers["Retry-After"] = str(math.ceil(error.after))
    return response


def _issuer_unavailable(error: IssuerUnavailable) -> Response:
    response = answer(error)
    response.headers["Retry-After"] = str(error.retry_after)
    return response


def _store_unavailable(error: StoreUnavailable) -> Response:
    log.error("the store failed a request: %s", error)
    response = answer(
        UserError(
            "The server cannot read or write its database now.",
            "Nothing was half done.",
            "try again; see GET /readyz",
            "unavailable",
            503,
        )
    )
    response.headers["Retry-After"] = str(math.ceil(error.after))
    return response


def _user_error(error: UserError) -> Response:
    return answer(error, error.errors if isinstance(error, RequestInvalid) else ())


def _port_error(error: PortError) -> Response:
    log.warning("a site or pool failed a request: %s", error)
    return answer(
        UserError(
            "A site or a pool did not do what the request needs.",
            f"{error}".rstrip(".") + ".",
            "vacuo doctor",
            "site-failed",
            502,
        )
    )


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    if status < 400:
        return Response(status=status, headers=error.get_headers())
    code = _CODE_OF_STATUS.get(status, "internal" if status >= 500 else "request-invalid")
    sentences = {
        404: "There is nothing at this path.",
        405: "The method does not fit this path.",
        413: "The body is larger than this server reads.",
    }
    what = sentences.get(status, f"{CODES[code].title}.")
    response = answer(UserError(what, code=code, status=status))
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After"):
            response.headers[name] = value
    return response


def _internal(error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return answer(
        UserError(
            "The server failed on this request.",
            attempt="look for the correlation id in the server's log",
            code="internal",
            status=500,
        )
    )
