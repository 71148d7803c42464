"""All that people with browsers need of a server: where it is, its logins, its sessions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from orchestrator.identity import endpoints
from orchestrator.identity.endpoints import Ask
from orchestrator.identity.issuer_web import CALLBACK
from orchestrator.identity.rate import Pace
from orchestrator.identity.tokens import TokenValidator
from orchestrator.identity.web_login import WebLogin
from orchestrator.identity.web_sessions import Sessions, SessionStore
from orchestrator.outbound import is_loopback
from orchestrator.settings import Issuer, Settings


@dataclass(frozen=True)
class Browsers:
    """``url`` is where people reach the server, ``issuers`` are those at which they may sign in."""

    url: str
    issuers: tuple[Issuer, ...]
    sessions: Sessions
    login: WebLogin
    per_minute: int
    pace: Pace

    @classmethod
    def of(
        cls,
        settings: Settings,
        issuers: Sequence[Issuer],
        validator: TokenValidator,
        store: SessionStore,
        ask: Ask = endpoints.ask,
        now: Callable[[], float] = time.time,
    ) -> Browsers:
        """Those of a server; ``issuers`` are all that it trusts, ``ask`` is how they are asked."""
        url = settings.url.rstrip("/")
        return cls(
            url,
            tuple(issuer for issuer in issuers if issuer.web_client_id),
            Sessions(store, {issuer.issuer for issuer in issuers}, now),
            WebLogin(issuers, validator, url + CALLBACK, ask, now),
            settings.limits.logins_per_minute,
            Pace(),
        )

    @property
    def https(self) -> bool:
        return self.url.startswith("https:")

    @property
    def safe(self) -> bool:
        """Whether a cookie can be kept from others on the way: https, or this machine alone."""
        return self.https or is_loopback(urlsplit(self.url).hostname)

    @property
    def origin(self) -> str:
        """As browsers say it of our own pages."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def session_cookie(self) -> str:
        return self._cookie("vacuo-session")

    @property
    def login_cookie(self) -> str:
        return self._cookie("vacuo-login")

    def _cookie(self, name: str) -> str:
        # With this prefix a browser takes it from this very host by https alone, for all paths.
        return f"__Host-{name}" if self.https else name
