"""Nodes that configure themselves: enrolment, bundle, report.

They are no users: each route takes a credential of its own kind, which the guard looks up before
one byte of the body is read.  ``orchestrator.control.pulling`` says what each is worth.
"""

from __future__ import annotations

import logging
import re
import time

from flask import Blueprint, g, request

from orchestrator.api import models
from orchestrator.api.requests import orchestrator
from orchestrator.api.specification import operation
from orchestrator.configure.base import TaskEvent, TaskStatus
from orchestrator.control.pulling import NotYet, Pulling
from orchestrator.errors import NodeRefused
from orchestrator.identity.policy import Access
from orchestrator.model import IntentId

log = logging.getLogger(__name__)
blueprint = Blueprint("pull", __name__)

_CREDENTIAL = re.compile(r"Bearer ([A-Za-z0-9_-]{43})", re.ASCII)


def admit(rule: Access) -> None:
    """Find whom the credential of this request stands for, or refuse it: ``g.node_is``."""
    match = _CREDENTIAL.fullmatch(request.headers.get("Authorization", ""))
    found: object = None
    if match:
        known = {
            Access.NODE_CREDENTIAL: _pulling().known,
            Access.NODE: _pulling().node_of,
            Access.NODE_RUN: _pulling().run_of,
        }
        found = known[rule](match[1])
    if not match or not found:
        log.warning("a credential of a node was refused at %s", request.url_rule)
        raise NodeRefused()
    g.node_shows, g.node_is = match[1], found


def _pulling() -> Pulling:
    return orchestrator().pulling


@operation(
    blueprint, "POST", "/pull/enrolment", Access.NODE_CREDENTIAL, answers={200: models.Enrolled}
)
def enrol(json: models.EnrolmentBody, query: models.NoQuery) -> models.Enrolled:
    """Trade the one-time credential of a node for the secret that the node made up."""
    found = _pulling().enrol(g.node_shows, json.secret_sha256)
    if found is None:
        raise NodeRefused()
    return models.Enrolled(node=found.node)


@operation(
    blueprint,
    "GET",
    "/pull/bundle",
    Access.NODE,
    answers={200: models.Bundle, 202: models.NotYet},
)
def get_bundle(
    query: models.NoQuery,
) -> tuple[models.Bundle, int] | tuple[models.NotYet, int, dict[str, str]]:
    """What the node is to become, once there is a run for it and all its values are known."""
    found = _pulling().bundle(g.node_is)
    if isinstance(found, NotYet):
        later = {"Retry-After": f"{found.after:g}"}
        return _not_yet(found), 202, later
    answer = models.Bundle(
        run=found.run,
        reporter=found.reporter,
        archive=found.archive,
        sha256=found.sha256,
        seconds=found.seconds,
    )
    return answer, 200


def _not_yet(found: NotYet) -> models.NotYet:
    new = found.credential
    return models.NotYet(
        reason=found.reason.sentence,
        credential=models.RenewedCredential(id=new.id, file=new.file, content=new.content)
        if new
        else None,
    )


@operation(blueprint, "POST", "/pull/credential", Access.NODE, answers={200: models.Taken})
def take_credential(json: models.TakenBody, query: models.NoQuery) -> models.Taken:
    """The node has its new credential for its pool in place."""
    return models.Taken(known=_pulling().took_credential(g.node_is, IntentId(json.id)))


@operation(
    blueprint,
    "POST",
    "/pull/report",
    Access.NODE_RUN,
    answers={200: models.Reported},
    errors=(409,),
)
def report(json: models.ReportBody, query: models.NoQuery) -> models.Reported:
    """What happens in a run on the node, and how it ended."""
    now = time.time()  # a node's own clock may say anything
    tasks = [
        TaskEvent(
            g.node_is.node,
            now,
            task.role,
            _plain(task.task),
            TaskStatus(task.status),
            _plain(task.message),
            task.seconds,
        )
        for task in json.events
    ]
    _pulling().report(g.node_is, json.first, tasks, json.host_keys)
    return models.Reported(known=json.first + len(tasks))


def _plain(text: str) -> str:
    """Without what could play tricks on a terminal or forge a line of a log."""
    return "".join(c if c.isprintable() else "\n" if c == "\n" else " " for c in text)
