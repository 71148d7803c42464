"""Deployments: list, make, look at, change, delete; template and log."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from flask import Blueprint, Response, request

from orchestrator.api import logins, models, present
from orchestrator.api.problems import RequestInvalid, entry
from orchestrator.api.requests import (
    caller,
    correlation,
    deployment,
    orchestrator,
    standing,
    too_large,
)
from orchestrator.api.specification import operation
from orchestrator.control.service import Orchestrator, Submission
from orchestrator.identity.limits import allowances
from orchestrator.identity.policy import Access, group_path, share
from orchestrator.model import Deployment, NodeName, Principal

blueprint = Blueprint("deployments", __name__)

TEXT = "text/plain; charset=utf-8"
_LINES = 1000
_IDEMPOTENCY_KEY_LENGTH = 255
_LONGEST_NUMBER = 18
_COLUMNS: dict[str, Literal["created_at", "updated_at", "status"]] = {
    "creationTime": "created_at",
    "updateTime": "updated_at",
    "status": "status",
}


def base() -> str:
    """What links begin with: as configured, never what the request says its host is."""
    return orchestrator().settings.url.rstrip("/")


def submission(body: models.SubmissionBody, key: str | None = None) -> Submission:
    """The body as the control side takes it; a template above the limit is refused."""
    if len(body.template.encode()) > orchestrator().settings.limits.template_bytes:
        raise too_large()
    return Submission(
        template=body.template,
        parameters=body.parameters,
        callback=body.callback,
        user_group=body.user_group,
        idempotency_key=key,
        correlation=correlation(),
    )


def ignored(body: models.SubmissionBody) -> dict[str, str]:
    """The header that names what was given and is not gone by."""
    return {"X-Ignored-Fields": ", ".join(body.ignored)} if body.ignored else {}


def _idempotency_key() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 0 < len(key) <= _IDEMPOTENCY_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        sentence = "Idempotency-Key has to be 1 to 255 printable ASCII characters."
        raise RequestInvalid(why=sentence, errors=[entry(sentence, path="Idempotency-Key")])
    return key


def _tag(found: Deployment) -> dict[str, str]:
    """What ``If-Match`` takes: the number of the wish, which grows with each change."""
    return {"ETag": f'"{found.generation}"'}


def _if_match() -> int | None:
    """The generation that the request is about; None where it is about any."""
    sent = request.headers.get("If-Match", "*").strip()
    if sent == "*":
        return None
    number = sent.removeprefix("W/").strip('"')
    if not (number.isascii() and number.isdigit() and len(number) < _LONGEST_NUMBER):
        sentence = "If-Match has to be the ETag of the deployment, as GET answered it."
        raise RequestInvalid(why=sentence, errors=[entry(sentence, path="If-Match")])
    return int(number)


def _created_by(asked: str | None) -> Principal | None:
    """``me`` or ``subject@issuer``; None is anybody."""
    if asked is None:
        return None
    if asked == "me":
        return caller().principal
    subject, _, issuer = asked.rpartition("@")
    return Principal(issuer, subject)


def _shared(sent: Submission, thing: Deployment | None = None) -> Submission:
    """``sent`` with its group as it is written everywhere, if the caller may share it so."""
    return replace(sent, user_group=share(standing(), sent.user_group, thing))


def _shown(found: Deployment) -> models.Deployment:
    return shown(orchestrator(), found)


def shown(control: Orchestrator, found: Deployment) -> models.Deployment:
    """The deployment as GET answers it, and as callbacks are told of it."""
    nodes = control.repository.nodes(found.id)
    base = control.settings.url.rstrip("/")
    return present.deployment(found, nodes, control.group_states(found.id), base)


@operation(
    blueprint,
    "GET",
    "/deployments",
    Access.AUTHENTICATED,
    answers={200: models.DeploymentList},
)
def list_deployments(query: models.DeploymentsQuery) -> models.DeploymentList:
    """The deployments that one may see, newest first."""
    repository = orchestrator().repository
    field, _, direction = query.sort.partition(",")
    page = repository.deployments(
        _created_by(query.created_by),
        sight=standing().sight,
        page=query.page,
        size=query.size,
        user_group=group_path(query.user_group) if query.user_group is not None else None,
        include_deleted=query.all or query.status is not None,
        status=query.status,
        order=(_COLUMNS[field], direction != "asc"),
    )
    given = query.model_dump(mode="json", exclude={"page", "size"}, exclude_unset=True)
    asked = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in given.items()
    }
    links, info = present.page(f"{base()}/deployments", asked, query.page, query.size, page.total)
    content = [present.listed(entry, repository.nodes(entry.id), base()) for entry in page.items]
    return models.DeploymentList(content=content, links=links, page=info)


@operation(
    blueprint,
    "POST",
    "/deployments",
    Access.CREATE,
    answers={201: models.Deployment},
    errors=(409,),
    headers={"Idempotency-Key": "The same key with the same body makes one deployment."},
)
def create_deployment(
    json: models.SubmissionBody, query: models.NoQuery
) -> tuple[models.Deployment, int, dict[str, str]]:
    """Submit a template."""
    me = caller().principal
    wished = _shared(submission(json, _idempotency_key()))
    limits = allowances(standing(), me, wished.user_group)
    made = orchestrator().submit(me, wished, limits)
    logins.get_one(made)
    location = {"Location": base() + present.path_of(made.id)}
    return _shown(made), 201, location | _tag(made) | ignored(json)


@operation(blueprint, "GET", "/deployments/<id>", Access.SEE, answers={200: models.Deployment})
def get_deployment(id: str, query: models.NoQuery) -> tuple[models.Deployment, int, dict[str, str]]:
    """One deployment."""
    found = deployment()
    return _shown(found), 200, _tag(found)


@operation(
    blueprint,
    "PUT",
    "/deployments/<id>",
    Access.CHANGE,
    answers={202: models.Deployment},
    errors=(409, 412),
    headers={"If-Match": "Only if the deployment still has this ETag."},
)
def update_deployment(
    id: str, json: models.SubmissionBody, query: models.NoQuery
) -> tuple[models.Deployment, int, dict[str, str]]:
    """Give the deployment another template or other parameters."""
    current = deployment()
    wished = _shared(submission(json), current)
    limits = allowances(standing(), current.owner, wished.user_group)
    actor = str(caller().principal)
    changed = orchestrator().update(current.id, wished, actor, _if_match(), limits)
    logins.get_one(changed)
    return _shown(changed), 202, _tag(changed) | ignored(json)


@operation(
    blueprint,
    "DELETE",
    "/deployments/<id>",
    Access.DELETE,
    answers={204: None},
    errors=(409,),
)
def delete_deployment(id: str, query: models.DeletionQuery) -> tuple[Response, int]:
    """Begin the deletion."""
    orchestrator().delete(
        deployment().id,
        forced=query.force,
        actor=str(caller().principal),
        correlation=correlation(),
    )
    return Response(), 204


@operation(
    blueprint,
    "GET",
    "/deployments/<id>/template",
    Access.SEE,
    answers={200: TEXT},
)
def get_template(id: str, query: models.NoQuery) -> Response:
    """The template as it was submitted."""
    return Response(deployment().template, content_type=TEXT)


@operation(
    blueprint,
    "GET",
    "/deployments/<id>/log",
    Access.SEE,
    answers={200: TEXT},
    errors=(409, 502),
)
def get_log(id: str, query: models.LogQuery) -> Response:
    """What happened as text, one line for each event; or the boot console of a node."""
    if query.console is not None:
        return _console(query)
    repository = orchestrator().repository
    here = deployment().id
    node = NodeName(query.node) if query.node is not None else None
    failed = True if query.failed else None
    # Read before the events: what comes in between is in the next answer, and none is skipped.
    newest = max(repository.last_sequence(), query.since or 0)
    limit = query.limit or (_LINES if query.since is None else models.MAXIMUM_LINES)
    if query.since is None:
        events = repository.last_events(
            limit, deployment=here, node=node, failed=failed, phase=query.phase
        )
    else:
        events = repository.events(
            deployment=here,
            since=query.since,
            limit=limit,
            node=node,
            failed=failed,
            phase=query.phase,
        )
    more = query.since is not None and len(events) == limit
    last = max([0 if more else newest, *(event.sequence for event in events[-1:])])
    text = "".join(f"{present.line(event)}\n" for event in events)
    return Response(text, content_type=TEXT, headers={"X-Last-Sequence": str(last)})


def _console(query: models.LogQuery) -> Response:
    if not query.node or query.console is None:
        sentence = "console needs node: the name of the node whose console is wanted."
        raise RequestInvalid(why=sentence, errors=[entry(sentence, path="node")])
    text = orchestrator().console(deployment().id, NodeName(query.node), query.console)
    return Response(text, content_type=TEXT)
