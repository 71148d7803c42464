"""Requests of browsers: whom their cookie stands for, and what keeps the pages of others out.

A cookie is sent by the browser whichever page asks; so what changes something needs a token that
only our own pages know, and a request that says it comes from elsewhere is refused.  Who shows an
access token shows it on purpose: then nothing of this applies, and no cookie is looked at.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from flask import Response, g, request

from orchestrator.api.requests import services
from orchestrator.errors import Forbidden
from orchestrator.identity.claims import Caller
from orchestrator.identity.web import Browsers
from orchestrator.identity.web_sessions import Session, SessionEnded

CSRF_HEADER = "X-CSRF-Token"
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class CrossSite(Forbidden):
    """403: the request did not come from a page of this server, or cannot show that it did."""

    def __init__(self, why: str) -> None:
        super().__init__("The request does not come from a page of this server.", why)
        self.code = "cross-site"


def browsers() -> Browsers:
    return services().browsers


def cookie(name: str) -> str | None:
    """The cookie of this name.  Two of them are none: one is not ours, and nobody knows which."""
    found = request.cookies.getlist(name)
    if len(found) > 1:
        raise SessionEnded("The browser shows two cookies of one name; remove both.")
    return found[0] if found else None


def session() -> Session | None:
    """The session that the browser shows; None where it shows none that is in force."""
    shown = cookie(browsers().session_cookie)
    return browsers().sessions.find(shown) if shown else None


def caller() -> Caller | None:
    """Who is signed in with the browser that asks; None where it shows no session at all.

    :class:`SessionEnded` for one that is not in force, :class:`CrossSite` for what another page
    asks for.
    """
    shown = cookie(browsers().session_cookie)
    if not shown:
        return None
    found = browsers().sessions.find(shown)
    if found is None:
        raise SessionEnded()
    if request.method in _READS:
        _refuse_embedding()
    else:
        refuse_other_pages()
        check_csrf(found, request.headers.get(CSRF_HEADER))
    sessions = browsers().sessions
    g.still = lambda: sessions.find(shown, use=False) is not None
    g.csrf = found.csrf
    return found.caller


def still() -> Callable[[], bool]:
    """Asks later, outside of the request, whether its session is still in force; a token has an end
    of its own."""
    found: Callable[[], bool] = g.get("still", lambda: True)
    return found


def refuse_other_pages() -> None:
    """What changes something comes from our own pages; browsers say where from, each in its way."""
    origin = request.headers.get("Origin", browsers().origin)
    if origin != browsers().origin:
        raise CrossSite("Its Origin is another.")
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        raise CrossSite("The browser says that another page sent it (Sec-Fetch-Site).")


def check_csrf(found: Session, shown: str | None) -> None:
    if not hmac.compare_digest((shown or "").encode(), found.csrf.encode()):
        raise CrossSite(f"{CSRF_HEADER} is not that of your session; GET /session tells it.")


def _refuse_embedding() -> None:
    """A link may lead here from anywhere; a page of others may not load us into itself."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site in ("cross-site", "same-site") and request.headers.get("Sec-Fetch-Mode") != "navigate":
        raise CrossSite("The browser says that another page asks for it (Sec-Fetch-Site).")


def keep(answer: Response, name: str, value: str, seconds: float) -> None:
    """Have the browser keep a cookie: from scripts, from other sites, and from plain http."""
    answer.set_cookie(
        name,
        value,
        max_age=max(0, int(seconds)),
        path="/",
        secure=browsers().https,
        httponly=True,
        samesite="Lax",
    )


def drop(answer: Response, name: str) -> None:
    keep(answer, name, "", 0)
