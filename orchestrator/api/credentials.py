"""Credentials for clouds and hosts, of a person or a group: added, listed, removed; never shown."""

from __future__ import annotations

import json as text
import re
import time

from flask import Blueprint, Response

from orchestrator.api import logins, models, present
from orchestrator.api.requests import audit, caller, orchestrator, standing
from orchestrator.api.specification import operation
from orchestrator.errors import NotFound, UserError
from orchestrator.identity.cloud_credentials import check
from orchestrator.identity.policy import Access, share
from orchestrator.model import SecretEntry, SecretPlace

blueprint = Blueprint("credentials", __name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
_PREFIX = "credential "


@operation(
    blueprint, "GET", "/credentials", Access.AUTHENTICATED, answers={200: models.Credentials}
)
def list_credentials(query: models.NoQuery) -> models.Credentials:
    """The caller's credentials and those of their groups: what they are, never what they hold."""
    me = caller()
    entries = orchestrator().secrets.entries(
        me.principal.issuer, me.principal.subject, tuple(me.groups)
    )
    shown = [_shown(entry) for entry in entries if entry.place.name.startswith(_PREFIX)]
    return models.Credentials(content=shown, logins=logins.shown())


@operation(
    blueprint,
    "PUT",
    "/credentials/<name>",
    Access.CREATE,
    answers={200: models.Credential},
    errors=(502,),
)
def put_credential(
    name: str, json: models.CredentialBody, query: models.NoQuery
) -> models.Credential:
    """Add a credential, or put another in its place."""
    if not _NAME.fullmatch(name):
        raise UserError(
            "This cannot be the name of a credential.",
            "It is letters, digits, dots, dashes and underscores, at most 63.",
            code="credential-unusable",
        )
    place = _place(name, json.user_group)
    content = text.dumps(check(json.kind, json.secrets), sort_keys=True).encode()
    entry = orchestrator().secrets.put(place, content, json.kind, time.time())
    audit(caller().principal, f"{_told(place)} was put")
    return _shown(entry)


@operation(
    blueprint,
    "DELETE",
    "/credentials/<name>",
    Access.CREATE,
    answers={204: None},
    errors=(404, 502),
)
def delete_credential(name: str, query: models.GroupQuery) -> tuple[Response, int]:
    """Forget a credential."""
    place = _place(name, query.user_group)
    if not orchestrator().secrets.delete(place):
        raise NotFound("There is no credential of this name.", "vacuo credentials list")
    audit(caller().principal, f"{_told(place)} was removed")
    return Response(), 204


def _told(place: SecretPlace) -> str:
    return f"{place.name} of {place.group}" if place.group else place.name


def _place(name: str, group: str | None) -> SecretPlace:
    me = caller().principal
    shared = share(standing(), group)
    if shared:
        return SecretPlace(me.issuer, _PREFIX + name, group=shared)
    return SecretPlace.of(me, _PREFIX + name)


def _shown(entry: SecretEntry) -> models.Credential:
    return models.Credential(
        name=entry.place.name.removeprefix(_PREFIX),
        kind=entry.kind,
        fingerprint=entry.fingerprint,
        user_group=entry.place.group or None,
        creation_time=present.time(entry.created_at),
        last_use=None if entry.used_at is None else present.time(entry.used_at),
    )
