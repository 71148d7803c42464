"""Signing in with a browser: authorisation code with PKCE, at any of the configured issuers.

What is under way is in the browser, in a sealed cookie, and not here: however many logins are
begun, nothing is kept of them, and an answer is good only in the browser that asked for it.
Authlib builds the requests.  The access token that comes back is validated as every bearer token
is; the ID token has to be of the same person, for this client, and in answer to this login.
Neither is kept: both are given back to the issuer at once where it takes them.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import logging
import os
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.errors import UserError
from orchestrator.identity import endpoints
from orchestrator.identity.claims import Caller
from orchestrator.identity.endpoints import (
    Ask,
    IssuerAway,
    IssuerRefuses,
    IssuerRejects,
    client_authorization,
    discovery,
    json_at,
    safe,
)
from orchestrator.identity.keys import PAUSE_SECONDS, REFRESH_SECONDS
from orchestrator.identity.tokens import IssuerUnavailable, TokenValidator, Unauthenticated
from orchestrator.settings import Issuer

log = logging.getLogger(__name__)

LOGIN_SECONDS = 600.0
LONGEST_NEXT = 512
_LONGEST_ANSWER = 4096
_REMEMBERED = 10_000
_SEALED_FOR = b"vacuo login"
# A path of ours: no authority, no backslash (which browsers take for a slash), nothing invisible.
_OWN_PATH = re.compile(r"/(?!/)[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*", re.ASCII)


class LoginFailed(UserError):
    """400: nobody is signed in."""

    def __init__(self, why: str) -> None:
        super().__init__("You are not signed in.", why, "sign in again", "login-failed", 400)


@dataclass(frozen=True)
class Begun:
    """A login that was begun: the issuer's ``page``, and the cookie that has to come back."""

    page: str
    cookie: str = field(repr=False)


@dataclass(frozen=True)
class _Asked:
    """What the cookie of a login has in it, sealed."""

    issuer: str
    state: str
    nonce: str
    verifier: str
    next: str
    until: float


def own_path(next: str) -> str:
    """``next``, if it is a path of this server and can be nothing else."""
    if len(next) <= LONGEST_NEXT and _OWN_PATH.fullmatch(next):
        return next
    raise UserError(
        "The address to go on to is not one of this server.",
        "It has to be a path, such as /account.",
        "sign in at /account",
        "request-invalid",
        400,
    )


class WebLogin:
    """Logins at ``issuers`` that come back to ``redirect_uri``.  May be used from any thread."""

    def __init__(
        self,
        issuers: Sequence[Issuer],
        validator: TokenValidator,
        redirect_uri: str,
        ask: Ask = endpoints.ask,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._issuers = {issuer.name: _Spoken(issuer, ask, now) for issuer in issuers}
        self._validator = validator
        self._redirect_uri = redirect_uri
        self._now = now
        self._sealer = _Sealer()
        self._used = _Used(now)

    def begin(self, name: str, next: str) -> Begun:
        """Begin a login at the issuer ``name`` that ends at ``next``, a path of this server.

        Raises :class:`UserError` where there is no such issuer, or nobody can sign in there by
        browser, and :class:`IssuerUnavailable`.
        """
        spoken = self._spoken(name)
        issuer = spoken.issuer
        state, nonce = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        verifier = secrets.token_urlsafe(48)
        asked = _Asked(name, state, nonce, verifier, own_path(next), self._now() + LOGIN_SECONDS)
        page = prepare_grant_uri(
            spoken.endpoint("authorization_endpoint"),
            issuer.web_client_id,
            "code",
            self._redirect_uri,
            " ".join(issuer.web_scopes),
            state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
            audience=issuer.audiences[0],
        )
        return Begun(page, self._sealer.seal(asked))

    def finish(self, cookie: str | None, answer: Mapping[str, Sequence[str]]) -> tuple[Caller, str]:
        """Who signed in, and where to go on; ``answer`` are the parameters that came back.

        Raises :class:`LoginFailed`, also for a login that was finished before, and
        :class:`IssuerUnavailable`.  The log learns more.
        """
        sent = _single(answer)
        asked = self._sealer.open(cookie) if cookie else None
        if asked is None or asked.until <= self._now():
            raise LoginFailed("No login is under way in this browser, or it took too long.")
        if not hmac.compare_digest(sent.get("state", "").encode(), asked.state.encode()):
            raise LoginFailed("The answer is not to the login that was begun in this browser.")
        spoken = self._spoken(asked.issuer)
        spoken.check_sender(sent.get("iss"))
        if "error" in sent:
            denied = sent["error"] == "access_denied"
            raise LoginFailed("It was denied." if denied else "The issuer refused it.")
        if not sent.get("code"):
            raise LoginFailed("The issuer's answer has no code.")
        if not self._used.take(asked.state, asked.until):
            raise LoginFailed("This answer was used before.")
        return self._caller(spoken, asked, sent["code"]), asked.next

    def _caller(self, spoken: _Spoken, asked: _Asked, code: str) -> Caller:
        access, id_token = spoken.trade(code, self._redirect_uri, asked.verifier)
        issuer, client = spoken.issuer, spoken.issuer.web_client_id or ""
        try:
            caller = self._validator.validate(f"Bearer {access}")
            subject = self._validator.subject_of(id_token, issuer, client, asked.nonce)
        except Unauthenticated:
            raise LoginFailed("What the issuer answered is not accepted here.") from None
        finally:
            spoken.give_back(access)
        if (caller.principal.issuer, caller.principal.subject) != (issuer.issuer, subject):
            log.warning("a login was refused: its two tokens are not of one person of the issuer")
            raise LoginFailed("What the issuer answered is not accepted here.")
        return caller

    def _spoken(self, name: str) -> _Spoken:
        found = self._issuers.get(name)
        if found is None:
            raise UserError(
                "There is no issuer of this name.",
                attempt="choose one at /account",
                code="request-invalid",
                status=400,
            )
        if found.issuer.web_client_id is None:
            raise UserError(
                f"Nobody can sign in by browser at {name}.",
                "The administrator has to set web_client_id of this issuer in vacuo.yaml.",
                "vacuo login, or see docs/admin/identity.md",
                "login-not-configured",
                400,
            )
        return found


class _Spoken:
    """One issuer as its client speaks to it; its discovery document is kept for a while."""

    def __init__(self, issuer: Issuer, ask: Ask, now: Callable[[], float]) -> None:
        self.issuer = issuer
        self._ask = ask
        self._now = now
        self._lock = threading.Lock()
        self._document: tuple[Mapping[str, Any], float] | None = None
        self._failure: tuple[str, float] | None = None

    def endpoint(self, name: str) -> str:
        try:
            return safe(self._metadata().get(name), name)
        except IssuerAway as error:
            raise self._away(error) from None

    def check_sender(self, sent: str | None) -> None:
        """RFC 9207: an issuer that says who it is has to be the one that was asked."""
        metadata = self._metadata()
        promised = metadata.get("authorization_response_iss_parameter_supported") is True
        if (sent is None and promised) or (sent is not None and sent != metadata["issuer"]):
            log.warning("a login at %s was answered by another issuer", self.issuer.name)
            raise LoginFailed("Another issuer answered than the one that was asked.")

    def trade(self, code: str, redirect_uri: str, verifier: str) -> tuple[str, str]:
        """The access token and the ID token for ``code``."""
        body = prepare_token_request(
            "authorization_code",
            redirect_uri=redirect_uri,
            code=code,
            code_verifier=verifier,
            client_id=self.issuer.web_client_id,
            audience=self.issuer.audiences[0],
        )
        endpoint = self.endpoint("token_endpoint")
        try:
            tokens = json_at(self._ask, endpoint, self._client(), dict(parse_qsl(body)))
        except (IssuerRejects, IssuerRefuses) as error:
            log.warning("a login was refused by %s: %s", self.issuer.name, error)
            raise LoginFailed("The issuer does not accept the code, or not this client.") from None
        except IssuerAway as error:
            raise self._away(error) from None
        found = tokens if isinstance(tokens, dict) else {}
        access, id_token = found.get("access_token"), found.get("id_token")
        bearer = str(found.get("token_type", "")).lower() == "bearer"
        if bearer and isinstance(access, str) and isinstance(id_token, str):
            return access, id_token
        log.warning("a login was refused: %s gave no bearer and ID token", self.issuer.name)
        raise LoginFailed("What the issuer answered is not accepted here.")

    def give_back(self, access: str) -> None:
        """Have the token revoked (RFC 7009), where the issuer does that; it was needed once."""
        try:
            if "revocation_endpoint" in self._metadata():
                form = {"token": access, "token_type_hint": "access_token"}
                form |= {"client_id": self.issuer.web_client_id or ""}
                self._ask(self.endpoint("revocation_endpoint"), self._client(), form)
        except (IssuerAway, IssuerUnavailable) as error:
            log.info("a token was not revoked at %s: %s", self.issuer.name, error)

    def _client(self) -> str | None:
        path = self.issuer.web_client_secret_file
        return client_authorization(self.issuer.web_client_id or "", path) if path else None

    def _metadata(self) -> Mapping[str, Any]:
        with self._lock:
            now = self._now()
            if self._document and now - self._document[1] <= REFRESH_SECONDS:
                return self._document[0]
            if self._failure and now - self._failure[1] < PAUSE_SECONDS:
                raise self._away(IssuerAway(self._failure[0]))
            try:
                found = discovery(self.issuer, self._ask)
            except IssuerAway as error:
                self._failure = str(error), now
                raise self._away(error) from None
            self._document, self._failure = (found, now), None
            return found

    def _away(self, error: IssuerAway) -> IssuerUnavailable:
        log.warning("issuer away: %s: %s", self.issuer.name, error)
        return IssuerUnavailable(self.issuer, str(error))


class _Sealer:
    """Seals what the browser keeps for us, with a key that lives as long as this process."""

    def __init__(self) -> None:
        self._cipher = AESGCM(AESGCM.generate_key(256))

    def seal(self, asked: _Asked) -> str:
        salt = os.urandom(12)
        sealed = self._cipher.encrypt(salt, json.dumps(asdict(asked)).encode(), _SEALED_FOR)
        return base64.urlsafe_b64encode(salt + sealed).decode()

    def open(self, text: str) -> _Asked | None:
        try:
            sealed = base64.b64decode(text, altchars=b"-_", validate=True)
            return _Asked(**json.loads(self._cipher.decrypt(sealed[:12], sealed[12:], _SEALED_FOR)))
        except (binascii.Error, ValueError, InvalidTag):
            return None


class _Used:
    """Answers that were traded, until their logins would have ended: each is good once."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._states: OrderedDict[str, float] = OrderedDict()

    def take(self, state: str, until: float) -> bool:
        with self._lock:
            while self._states and next(iter(self._states.values())) <= self._now():
                self._states.popitem(last=False)
            if state in self._states:
                return False
            self._states[state] = until
            if len(self._states) > _REMEMBERED:
                self._states.popitem(last=False)
            return True


def _single(answer: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Each parameter once; what comes twice may be read differently by two readers."""
    if any(len(values) != 1 or len(values[0]) > _LONGEST_ANSWER for values in answer.values()):
        raise LoginFailed("The issuer's answer is not in order.")
    return {name: values[0] for name, values in answer.items()}
