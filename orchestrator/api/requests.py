"""What belongs to the request at hand: its correlation id, its caller, its body, its services."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, current_app, g, request
from flask.wrappers import Request
from werkzeug.exceptions import RequestEntityTooLarge

from orchestrator.api.refused_tokens import RefusedTokens
from orchestrator.control.service import Orchestrator
from orchestrator.errors import UserError
from orchestrator.identity.access_file import AccessFile
from orchestrator.identity.claims import Caller
from orchestrator.identity.policy import Standing
from orchestrator.identity.rate import Pace
from orchestrator.identity.signing import Signer
from orchestrator.identity.tokens import TokenValidator
from orchestrator.identity.web import Browsers
from orchestrator.model import Deployment, Event, Principal
from orchestrator.settings import Issuer

_EXTENSION = "vacuo"
_CORRELATION = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass
class Services:
    """What the views work with, one for each application.

    ``closing`` ends every event stream when it is set; ``streams`` counts the places for them;
    ``issuers`` are all that tokens are taken of, the built-in one too; ``signer`` signs callbacks;
    ``access`` has the rules of the access file, and ``pace`` holds people to their requests per
    minute; ``refused_tokens`` counts tokens that were refused; ``browsers`` is for those who
    have one.
    """

    orchestrator: Orchestrator
    validator: TokenValidator
    streams: threading.BoundedSemaphore
    issuers: tuple[Issuer, ...]
    signer: Signer
    access: AccessFile
    refused_tokens: RefusedTokens
    browsers: Browsers
    pace: Pace = field(default_factory=Pace)
    closing: threading.Event = field(default_factory=threading.Event)

    def attach(self, app: Flask) -> None:
        app.extensions[_EXTENSION] = self

    @staticmethod
    def of(app: Flask) -> Services:
        found: Services = app.extensions[_EXTENSION]
        return found


def services() -> Services:
    return Services.of(current_app)


def orchestrator() -> Orchestrator:
    return services().orchestrator


def caller() -> Caller:
    """Who asks; only in views whose policy needs a token."""
    found: Caller = g.caller
    return found


def audit(who: Principal, what: str) -> None:
    """Record that ``who`` did ``what`` by the request at hand, which is about no deployment."""
    event = Event.audit(time.time(), who, what, correlation=correlation())
    orchestrator().repository.append([event])


def standing() -> Standing:
    """What the caller is here; only in views whose policy needs a token."""
    found: Standing = g.standing
    return found


def deployment() -> Deployment:
    """The deployment that the path names; only in views whose policy is about one."""
    found: Deployment = g.deployment
    return found


def start_correlation() -> str:
    """Take ``X-Request-Id`` where it is fit to be written to a log, else make one up."""
    sent = request.headers.get("X-Request-Id", "")
    g.correlation = sent if _CORRELATION.fullmatch(sent) else secrets.token_hex(8)
    return correlation()


def correlation() -> str:
    found: str = g.get("correlation", "")
    return found


class StrictRequest(Request):
    """Reads bodies as JSON objects only: no field twice, no NaN, and no input in an error."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body.  ``silent`` is not heeded: a body that cannot be read is always an error."""
        if "body" not in g:
            g.body = _read(self)
        return g.body


def _read(incoming: Request) -> dict[str, Any]:
    if incoming.mimetype != "application/json":
        raise UserError(
            "The body is not JSON.",
            "Its Content-Type is something else.",
            "send Content-Type: application/json",
            "media-type",
            415,
        )
    try:
        sent = incoming.get_data(cache=False)
        # Without a Content-Length the server's stream just ends at the limit.
        if len(sent) >= current_app.config["MAX_CONTENT_LENGTH"]:
            raise too_large()
        text = sent.decode("utf-8")
        body = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except RequestEntityTooLarge:
        raise too_large() from None
    except UnicodeDecodeError:
        raise _not_json("It is not UTF-8.") from None
    except RecursionError:
        raise _not_json("It is nested too deeply.") from None
    except json.JSONDecodeError as error:
        raise _not_json(f"Line {error.lineno}, column {error.colno}: {error.msg}.") from None
    except ValueError:
        raise _not_json("It has a number that is too long.") from None
    if not isinstance(body, dict):
        raise _not_json("It is JSON, but not an object.")
    for string in _strings(body):
        # Neither can be stored; PostgreSQL has no NUL, and UTF-8 has no half of a pair.
        if "\0" in string or any("\ud800" <= character <= "\udfff" for character in string):
            raise _not_json("It has a NUL or half of a surrogate pair in a string.")
    return body


def _strings(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, list):
            waiting += item


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _not_json("A field is given twice.")
    return found


def _no_constant(name: str) -> Any:
    raise _not_json(f"{name} is not JSON.")


def _not_json(why: str) -> UserError:
    return UserError(
        "The body is not a JSON object.", why, "see docs/user/api.md", "json-invalid", 400
    )


def too_large() -> UserError:
    """The one answer to a template above the limit, whether it was read or not."""
    limit = orchestrator().settings.limits.template_bytes
    return UserError(
        "The template is too large.",
        f"This server reads templates of at most {limit} bytes.",
        "leave out what is not part of the template",
        "too-large",
        413,
    )
