"""Logins that the server keeps of people: brought, forgotten, and told of; never shown."""

from __future__ import annotations

from flask import Blueprint, Response, request

from orchestrator.api import models, present
from orchestrator.api.requests import audit, caller, orchestrator
from orchestrator.api.specification import operation
from orchestrator.errors import (
    Forbidden,
    LoginUnusable,
    Retryable,
    UserError,
)
from orchestrator.identity.delegation import Delegation, SomebodyElse
from orchestrator.identity.endpoints import is_safe_url
from orchestrator.identity.policy import Access
from orchestrator.identity.token_endpoint import GrantEnded, GrantRefused, is_token
from orchestrator.model import Deployment, KeptLogin

blueprint = Blueprint("logins", __name__)

_BEARER = "bearer "


@operation(
    blueprint, "PUT", "/delegation", Access.CREATE, answers={200: models.KeptLogin}, errors=(502,)
)
def put_delegation(json: models.LoginBody, query: models.NoQuery) -> models.KeptLogin:
    """Have the server keep a login of the caller, for what their deployments need later."""
    me = caller().principal
    keeper = _keeper()
    if not is_token(json.refresh_token):
        raise _unusable("It is not a token.")
    try:
        login = keeper.keep(me, json.refresh_token)
    except SomebodyElse:
        raise Forbidden(
            "This login is not yours.",
            "The issuer says that it is of somebody else than the access token.",
            "log in as yourself: vacuo credentials renew",
        ) from None
    except (GrantEnded, GrantRefused) as error:
        raise _unusable(f"{str(error).capitalize()}.") from None
    except LoginUnusable as error:
        raise _none_kept(f"{str(error).capitalize()}.") from None
    except Retryable as error:
        raise UserError(
            "The login cannot be checked now.",
            f"{str(error).capitalize()}.",
            "try again in a minute",
            "issuer-unreachable",
            503,
        ) from None
    audit(me, "a login was put")
    return _shown(login)


@operation(blueprint, "DELETE", "/delegation", Access.CREATE, answers={204: None}, errors=(502,))
def delete_delegation(query: models.NoQuery) -> tuple[Response, int]:
    """Forget the caller's login, if there is one, here and at the issuer."""
    keeper = orchestrator().delegation
    if keeper is not None and keeper.forget(caller().principal):
        audit(caller().principal, "a login was removed")
    return Response(), 204


def shown() -> list[models.KeptLogin]:
    """The caller's."""
    keeper = orchestrator().delegation
    login = keeper.kept(caller().principal) if keeper else None
    return [_shown(login)] if login else []


def scope_of(issuer: str) -> str | None:
    """What a person asks the issuer for, to have the server keep a login; None: it keeps none."""
    keeper = orchestrator().delegation
    return keeper.scope(issuer) if keeper else None


def get_one(deployment: Deployment) -> None:
    """Get a login of the caller by their own token, where the deployment is theirs and needs it."""
    authorization = request.headers.get("Authorization", "")
    if caller().principal == deployment.owner and authorization[:7].lower() == _BEARER:
        orchestrator().get_login(deployment, authorization[7:].strip())


def _keeper() -> Delegation:
    found = orchestrator().delegation
    if found is None or found.scope(caller().principal.issuer) is None:
        raise _none_kept("The server keeps no logins of people of your issuer.")
    if not is_safe_url(orchestrator().settings.url):
        raise _none_kept("The server is not reached by https, so anybody on the way could read it.")
    return found


def _none_kept(why: str) -> UserError:
    return UserError(
        "No login of yours is kept.", why, "ask the server's administrator", "login-not-kept"
    )


def _unusable(why: str) -> UserError:
    return UserError(
        "This login is not kept.", why, "log in anew: vacuo credentials renew", "login-unusable"
    )


def _shown(login: KeptLogin) -> models.KeptLogin:
    return models.KeptLogin(
        issuer=login.person.issuer,
        state=login.state.value,
        why=login.why,
        creation_time=present.time(login.since),
        last_renewal=present.time(login.renewed_at),
        ends_at=None if login.ends_at is None else present.time(login.ends_at),
    )
