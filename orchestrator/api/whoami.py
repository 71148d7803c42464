"""What the caller is here, so that a person understands a 403; and until when."""

from __future__ import annotations

import time
from dataclasses import asdict

from flask import Blueprint, g

from orchestrator.api import models, present
from orchestrator.api.requests import caller, orchestrator, services, standing
from orchestrator.api.specification import operation
from orchestrator.identity.access import Together
from orchestrator.identity.limits import group_limits
from orchestrator.identity.policy import Access, Standing, grants, is_in
from orchestrator.model import Account

blueprint = Blueprint("whoami", __name__)


@operation(blueprint, "GET", "/whoami", Access.IDENTIFIED, answers={200: models.Whoami})
def whoami(query: models.NoQuery) -> models.Whoami:
    """Who the caller is here, and what they may do."""
    who = standing()
    caller = who.caller
    names = {issuer.issuer: issuer.name for issuer in services().issuers}
    may = grants(who)
    return models.Whoami(
        issuer=caller.principal.issuer,
        issuer_name=names[caller.principal.issuer],
        subject=caller.principal.subject,
        client_id=caller.client_id,
        groups=sorted(caller.groups),
        scopes=sorted(caller.scopes),
        roles=sorted(who.roles),
        rights=models.Rights(
            own=sorted(may.own), shared=sorted(may.shared), others=sorted(may.others)
        ),
        limits=_limits(who),
        requests_per_minute=who.each.requests_per_minute,
        token_ends_at=present.time(caller.expires_at),
        seconds_left=max(0.0, caller.expires_at - time.time()),
    )


@operation(blueprint, "GET", "/session", Access.IDENTIFIED, answers={200: models.Session})
def get_session(query: models.NoQuery) -> models.Session:
    """Who asks, until when, and what the pages of a session show when they change something."""
    who = caller()
    names = {issuer.issuer: issuer.name for issuer in services().issuers}
    return models.Session(
        issuer=who.principal.issuer,
        issuer_name=names[who.principal.issuer],
        subject=who.principal.subject,
        ends_at=present.time(who.expires_at),
        seconds_left=max(0.0, who.expires_at - time.time()),
        csrf_token=g.get("csrf"),
    )


def _limits(who: Standing) -> list[models.Limited]:
    """The person's own, which may be none, and those of their groups."""
    mine = who.caller.principal
    limits: list[tuple[Account, Together]] = [(Account(mine.issuer, mine.subject), who.each)]
    limits += [
        (account, found)
        for account, found in group_limits(who)
        if account.group is not None and is_in(who.caller.groups, account.group)
    ]
    return [
        models.Limited(
            group=account.group,
            limits=models.Amounts(**found.model_dump(include=set(models.Amounts.model_fields))),
            used=models.Amounts(**asdict(orchestrator().repository.in_use(account))),
        )
        for account, found in limits
    ]
