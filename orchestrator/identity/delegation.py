"""Logins that the server keeps of people, so that their deployments outlast their tokens.

A login is one refresh token per person (issuer and subject), sealed among the secrets.  It comes
from the person, who logs in once more for the server, or by token exchange; it is proved before it
is kept.  Access tokens that are got by it are in memory alone, for the audience and the scopes that
are asked for.

The issuer is the only one who knows whether a login is good.  What it says is believed where the
token that it gives is the person's own; else that is the end of the login, and an alarm.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from orchestrator.errors import LoginUnusable, Retryable, StoreUnavailable
from orchestrator.identity.endpoints import IssuerAway
from orchestrator.identity.secrets import SecretStore, SecretUnreadable
from orchestrator.identity.token_endpoint import (
    Grant,
    GrantEnded,
    GrantRefused,
    TokenEndpoint,
    Tokens,
)
from orchestrator.identity.tokens import IssuerUnavailable, TokenValidator, Unauthenticated
from orchestrator.model import KeptLogin, LoginState, Principal, SecretPlace, TokenWanted

log = logging.getLogger(__name__)

# Who is given a token keeps it for a while: that much of its life is left, at least.
SHARE_LEFT = 0.75
# A turn ends by itself when its server dies; an issuer is asked for at most ten seconds.
TURN_SECONDS = 60.0
AWAY_SECONDS = 30.0
REFUSED_SECONDS = 300.0
# A login that is older is replaced when its person comes by with a token.
EXCHANGE_AGAIN_SECONDS = 86400.0
KIND = "login"


class Rows(Protocol):
    """Where logins are kept: :class:`orchestrator.store.logins.LoginRows`."""

    def get(self, person: Principal) -> KeptLogin | None: ...

    def begin(self, person: Principal, now: float, until: float) -> int | None: ...

    def settle(self, login: KeptLogin, turn: int) -> bool: ...

    def release(self, person: Principal, turn: int) -> None: ...

    def delete(self, person: Principal) -> bool: ...


class SomebodyElse(Exception):
    """The issuer's token is of another person than the login is said to be."""

    def __init__(self) -> None:
        super().__init__("the issuer's token is of somebody else")


@dataclass(frozen=True)
class _Access:
    token: str = field(repr=False)
    got_at: float
    ends_at: float

    def lasts(self, now: float, share: float) -> bool:
        return self.ends_at - now > share * (self.ends_at - self.got_at)


@dataclass
class _Person:
    """What this process knows of a person.  ``unsaved`` is a grant that could not be stored."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    tokens: dict[TokenWanted, _Access] = field(default_factory=dict, repr=False)
    troubles: dict[TokenWanted, tuple[Exception, float]] = field(default_factory=dict)
    since: float = 0.0
    unsaved: Grant | None = field(default=None, repr=False)


class Delegation:
    """The logins of one server.  Safe for use by many threads, and beside other servers.

    ``alarm`` is told what nobody but an attacker should have caused: of whom, and what.
    """

    def __init__(
        self,
        rows: Rows,
        secrets: SecretStore,
        endpoints: Iterable[TokenEndpoint],
        validator: TokenValidator,
        alarm: Callable[[Principal, str], None],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._rows = rows
        self._secrets = secrets
        self._endpoints = {one.issuer.issuer: one for one in endpoints}
        self._validator = validator
        self._alarm = alarm
        self._now = now
        self._people: dict[Principal, _Person] = {}
        self._lock = threading.Lock()

    def kept(self, person: Principal) -> KeptLogin | None:
        """What is known of the person's login; None where none is kept."""
        return self._rows.get(person)

    # --- tokens ---------------------------------------------------------------------------------

    def token(self, person: Principal, wanted: TokenWanted) -> str:
        """An access token with most of its life ahead.

        Raises :class:`LoginUnusable` where waiting does not help, :class:`Retryable` where it may.
        """
        return self._token(person, wanted, SHARE_LEFT).token

    def look(self, person: Principal, wanted: TokenWanted) -> None:
        """Whether :meth:`token` would have one; raises what it would raise.

        The issuer is asked once in a while: while a token of its lasts, nothing is known to be
        wrong.
        """
        self._token(person, wanted, 0.0)

    def _token(self, person: Principal, wanted: TokenWanted, share: float) -> _Access:
        known = self._known(person)
        with known.lock:
            login = self._good(person)
            found = self._cached(login, wanted)
            if found is not None and found.lasts(self._now(), share):
                return found
            error, until = known.troubles.get(wanted, (None, 0.0))
            if error is not None and self._now() < until:
                raise error
            try:
                found = self._got(login, wanted)
            except (LoginUnusable, Retryable) as trouble:
                pause = trouble.after if isinstance(trouble, Retryable) else REFUSED_SECONDS
                known.troubles[wanted] = trouble, self._now() + pause
                raise
            known.troubles.pop(wanted, None)
            known.tokens[wanted] = found
            return found

    def _good(self, person: Principal) -> KeptLogin:
        login = self._rows.get(person)
        if login is None:
            raise LoginUnusable("the server keeps no login of this person", "login-missing")
        if login.state is LoginState.ENDED:
            raise LoginUnusable(login.why, "login-ended")
        return login

    def _cached(self, login: KeptLogin, wanted: TokenWanted) -> _Access | None:
        """A token of this very login: another that was got meanwhile knows of nothing before it."""
        known = self._known(login.person)
        if known.since != login.since:
            known.tokens.clear()
            known.troubles.clear()
            known.unsaved = None
            known.since = login.since
        return known.tokens.get(wanted)

    def _got(self, login: KeptLogin, wanted: TokenWanted) -> _Access:
        person = login.person
        turn = self._turn(person)
        try:
            tokens = self._renewed(login, wanted)
            access = self._checked(person, tokens, wanted.audience)
        except GrantEnded as error:
            raise self._ended(login, turn, str(error)) from None
        except SomebodyElse:
            self._alarm(person, "the issuer renewed the login with a token of somebody else")
            why = "the issuer answered with a token of somebody else"
            raise self._ended(login, turn, why) from None
        except GrantRefused as error:
            log.error("no token of %s for %s: %s", person, wanted.audience, error)
            self._rows.settle(replace(login, state=LoginState.REFUSED, why=str(error)), turn)
            raise LoginUnusable(str(error), "login-refused") from None
        except BaseException:
            self._rows.release(person, turn)
            raise
        good = replace(login, state=LoginState.GOOD, why="", renewed_at=self._now())
        self._rows.settle(replace(good, ends_at=tokens.ends_at or login.ends_at), turn)
        return access

    def _renewed(self, login: KeptLogin, wanted: TokenWanted) -> Tokens:
        person = login.person
        grant = self._grant(person)
        try:
            tokens = self._endpoint(person).refresh(grant, wanted.audience, wanted.scope)
        except IssuerAway as error:
            raise Retryable(f"the issuer cannot be asked: {error}", AWAY_SECONDS) from None
        if tokens.refresh_token not in (None, grant.refresh_token):
            # Before anything is done with the access token: the old one may be worth nothing now.
            self._store(person, Grant(grant.client_id, tokens.refresh_token or ""))
        return tokens

    def _ended(self, login: KeptLogin, turn: int, why: str) -> LoginUnusable:
        log.warning("the login of %s has ended: %s", login.person, why)
        self._known(login.person).unsaved = None
        self._secrets.delete(_place(login.person))
        self._rows.settle(replace(login, state=LoginState.ENDED, why=why), turn)
        return LoginUnusable(why, "login-ended")

    def _checked(self, person: Principal, tokens: Tokens, audience: str) -> _Access:
        """The access token, if it is one of ``person`` that is meant for ``audience``."""
        try:
            caller = self._validator.meant_for(audience).validate(f"Bearer {tokens.access_token}")
        except Unauthenticated as error:
            raise GrantRefused(f"its token is not one for {audience}: {error.detail}") from None
        except IssuerUnavailable as error:
            raise Retryable(f"the issuer's keys cannot be had: {error.detail}") from None
        if caller.principal != person:
            raise SomebodyElse
        return _Access(tokens.access_token, self._now(), caller.expires_at)

    # --- logins come and go ---------------------------------------------------------------------

    def scope(self, issuer: str) -> str | None:
        """What to ask the issuer for when one logs in for the server; None where no logins of its
        people are kept."""
        found = self._endpoints.get(issuer)
        return found.scope if found and found.issuer.delegation != "none" else None

    def keep(self, person: Principal, refresh_token: str) -> KeptLogin:
        """Keep the login whose refresh token the person sent, once the issuer has proved it theirs.

        Raises :class:`SomebodyElse`, :class:`GrantEnded`, :class:`GrantRefused` or
        :class:`Retryable`; the login that was kept before is then as it was.
        """
        endpoint = self._endpoint(person)
        audience = endpoint.issuer.audiences[0]

        def prove() -> tuple[Grant, Tokens]:
            grant = Grant(endpoint.issuer.client_id, refresh_token)
            tokens = endpoint.refresh(grant, audience, "")
            return Grant(grant.client_id, tokens.refresh_token or refresh_token), tokens

        return self._kept(person, prove)

    def exchange(self, person: Principal, bearer: str) -> KeptLogin | None:
        """Get a login for the person whose access token ``bearer`` is, if the issuer's setting
        says so and the one that is kept is not a young one; raises what :meth:`keep` does."""
        endpoint = self._endpoint(person)
        login = self._rows.get(person)
        if endpoint.issuer.delegation != "exchange" or _is_young(login, self._now()):
            return login
        return self._kept(person, lambda: endpoint.exchange(bearer))

    def _kept(self, person: Principal, get: Callable[[], tuple[Grant, Tokens]]) -> KeptLogin:
        known = self._known(person)
        with known.lock:
            turn = self._turn(person)
            try:
                grant, tokens = get()
                self._checked(person, tokens, self._endpoint(person).issuer.audiences[0])
                known.unsaved = None
                self._store(person, grant)
            except SomebodyElse:
                self._rows.release(person, turn)
                self._alarm(person, "the login of somebody else was to be kept as theirs")
                raise
            except IssuerAway as error:
                self._rows.release(person, turn)
                raise Retryable(f"the issuer cannot be asked: {error}", AWAY_SECONDS) from None
            except BaseException:
                self._rows.release(person, turn)
                raise
            now = self._now()
            login = KeptLogin(person, LoginState.GOOD, now, now, tokens.ends_at)
            self._rows.settle(login, turn)
            return login

    def forget(self, person: Principal) -> bool:
        """Forget the login, and have the issuer forget it where it can be asked."""
        with self._known(person).lock:
            try:
                self._endpoint(person).revoke(self._grant(person))
            except (IssuerAway, LoginUnusable, Retryable, SecretUnreadable) as error:
                log.info("the login of %s is not revoked at its issuer: %s", person, error)
            self._known(person).unsaved = None
            self._secrets.delete(_place(person))
            return self._rows.delete(person)

    # --- where they are -------------------------------------------------------------------------

    def _grant(self, person: Principal) -> Grant:
        unsaved = self._known(person).unsaved
        if unsaved is not None:
            self._store(person, unsaved)
            return unsaved
        try:
            content = self._secrets.get(_place(person), self._now())
        except SecretUnreadable as error:
            raise LoginUnusable(str(error), "login-refused") from None
        if content is None:
            raise LoginUnusable("the server keeps no login of this person", "login-missing")
        return Grant(**json.loads(content))

    def _store(self, person: Principal, grant: Grant) -> None:
        known = self._known(person)
        known.unsaved = grant
        content = {"client_id": grant.client_id, "refresh_token": grant.refresh_token}
        try:
            self._secrets.put(_place(person), json.dumps(content).encode(), KIND, self._now())
        except StoreUnavailable as error:
            raise Retryable(f"the login cannot be stored: {error}", error.after) from None
        known.unsaved = None

    def _turn(self, person: Principal) -> int:
        now = self._now()
        turn = self._rows.begin(person, now, now + TURN_SECONDS)
        if turn is None:
            raise Retryable("another server renews the login at this moment", 2.0)
        return turn

    def _endpoint(self, person: Principal) -> TokenEndpoint:
        found = self._endpoints.get(person.issuer)
        if found is None or found.issuer.delegation == "none":
            why = "the server keeps no logins of people of this issuer"
            raise LoginUnusable(why, "login-refused")
        return found

    def _known(self, person: Principal) -> _Person:
        with self._lock:
            return self._people.setdefault(person, _Person())


def _place(person: Principal) -> SecretPlace:
    return SecretPlace.of(person, "login")


def _is_young(login: KeptLogin | None, now: float) -> bool:
    if login is None or login.state is not LoginState.GOOD:
        return False
    over = login.ends_at is not None and login.ends_at <= now
    return now - login.since < EXCHANGE_AGAIN_SECONDS and not over
