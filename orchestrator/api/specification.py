"""Operations: a path, a method, who may, what comes back; and from them OpenAPI 3.1.

One decorator, :func:`operation`, is the only way to make a route of the API, so that no route is
without a policy, a description of its answers, and a check of what it is sent.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from flask import Blueprint, Flask, current_app
from flask import Response as FlaskResponse
from pydantic import BaseModel
from spectree import Response, SecurityScheme, SpecTree
from spectree.model_adapter.pydantic_adapter import PydanticModelAdapter
from spectree.models import InType, SecureType, SecuritySchemeData
from spectree.plugins.flask_plugin import FlaskPlugin
from spectree.plugins.werkzeug_utils import flask_response_unpack

from orchestrator import __version__
from orchestrator.api import models, problems
from orchestrator.identity.policy import Access, access

View = Callable[..., Any]
_EXTRA = "__vacuo_description__"


class _Adapter(PydanticModelAdapter):
    """Tells what is wrong without what was sent; the base class repeats it."""

    def validation_errors(self, err: Any) -> Any:
        return err.errors(include_context=False, include_input=False, include_url=False)


class _Plugin(FlaskPlugin):
    """Leaves finished responses alone: reading the body of a stream would never end."""

    def validate_response(self, resp: Any, *rest: Any) -> Any:
        payload, _, _ = flask_response_unpack(resp)
        if isinstance(payload, FlaskResponse):
            return current_app.make_response(resp), None
        return super().validate_response(resp, *rest)


def _refuse(_request: Any, _answer: Any, error: Any, *_rest: Any) -> None:
    if error is not None:
        raise problems.from_validation(error)


def _ours_was_wrong(_request: Any, _answer: Any, error: Any, *_rest: Any) -> None:
    if error is not None:
        raise RuntimeError("an answer does not fit its own description") from error


_adapter: Any = _Adapter()  # spectree's own protocol does not fit spectree's own adapter
_tree = SpecTree(
    backend=_Plugin,
    model_adapter=_adapter,
    before=_refuse,
    after=_ours_was_wrong,
    validation_error_status=400,
    validation_error_model=models.Problem,
    naming_strategy=lambda model: model.__name__,
    nested_naming_strategy=lambda _parent, child: child,
    title="Vacuo",
    version=__version__,
    description="Turns machines into worker nodes of an HTCondor pool, and makes them vanish "
    "again. See docs/user/api.md.",
    security_schemes=[
        SecurityScheme(
            name="bearer",
            data=SecuritySchemeData(type=SecureType.HTTP, scheme="bearer"),
        ),
        # Its name begins with __Host- where the server is reached by https.
        SecurityScheme(
            name="session",
            data=SecuritySchemeData(
                type=SecureType.API_KEY, name="vacuo-session", field_in=InType.COOKIE
            ),
        ),
    ],
)


def operation(
    blueprint: Blueprint,
    method: str,
    path: str,
    rule: Access,
    *,
    answers: Mapping[int, type[BaseModel] | str | None],
    errors: tuple[int, ...] = (),
    headers: Mapping[str, str] | None = None,
    stream: bool = False,
) -> Callable[[View], View]:
    """Serve the decorated view at ``method`` and ``path`` to those that ``rule`` admits.

    ``answers`` maps statuses to the model of the body, a media type of text, or None for no body;
    ``errors`` are the statuses beyond those that follow from the rule and from what the view takes
    (its parameters ``query`` and ``json``); ``headers`` describes those that it reads; with
    ``stream`` 200 may also be server-sent events.
    """

    def declare(view: View) -> View:
        takes = get_type_hints(view)
        statuses = {500, *errors}
        if rule.needs_token:
            statuses |= {400, 401, 429, 503}
        if rule.right is not None:
            statuses |= {403}
        if rule.is_a_nodes:
            statuses |= {400, 401}
        if rule.of_deployment:
            statuses |= {404}
        if "json" in takes:
            statuses |= {413, 415}
        bodies: dict[str, Any] = {
            f"HTTP_{status}": body if isinstance(body, type) else None
            for status, body in answers.items()
        }
        bodies |= {f"HTTP_{status}": models.Problem for status in statuses - answers.keys()}
        validated = _tree.validate(
            resp=Response(**bodies),
            tags=(blueprint.name,),
            security=_security(rule),
            operation_id=view.__name__,
        )(view)
        media = {s: body for s, body in answers.items() if isinstance(body, str)}
        bodies_of = (media, stream, frozenset(statuses - answers.keys()))
        setattr(validated, _EXTRA, (dict(headers or {}), bodies_of))
        served: View = access(rule)(validated)
        blueprint.route(path, methods=[method], endpoint=view.__name__)(served)
        return served

    return declare


def _security(rule: Access) -> list[dict[str, list[str]]]:
    """A token; or, for people, the cookie of a session."""
    if rule.needs_token:
        return [{"bearer": []}, {"session": []}]
    return [{"bearer": []}] if rule.is_a_nodes else []


def openapi(app: Flask) -> dict[str, Any]:
    """The description of every operation; call it in the context of ``app``."""
    description: dict[str, Any] = copy.deepcopy(_tree.spec)
    views = {getattr(v, "__name__", ""): v for v in app.view_functions.values()}
    for path in list(description["paths"]):
        entries = description["paths"][path]
        for method in list(entries):
            extra = getattr(views.get(entries[method]["operationId"]), _EXTRA, None)
            if extra is None:  # not of the API: the development issuer, static files
                del entries[method]
                continue
            headers, bodies = extra
            entries[method]["parameters"] += [
                {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
                for name, text in headers.items()
            ]
            _describe_bodies(entries[method]["responses"], *bodies)
        if not entries:
            del description["paths"][path]
    return description


def _describe_bodies(
    responses: dict[str, Any], media: Mapping[int, str], stream: bool, errors: frozenset[int]
) -> None:
    for status in list(responses):
        if int(status) not in errors and int(status) == 400 and 400 not in media:
            del responses[status]  # an operation that takes nothing
        elif int(status) in errors:
            schema = responses[status]["content"].pop("application/json")
            responses[status]["content"][problems.MEDIA_TYPE] = schema
    text = {"schema": {"type": "string"}}
    for code, kind in media.items():
        described = {"schema": {"type": "object"}} if kind.endswith("json") else text
        responses[str(code)]["content"] = {kind: described}
    if stream:
        responses["200"]["content"]["text/event-stream"] = text
