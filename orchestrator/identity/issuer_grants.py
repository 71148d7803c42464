"""What the development issuer remembers, and the OAuth 2 grants that Authlib runs on it.

Device codes live in memory: they last minutes, and a restart means asking again.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import grants
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc8628 import (
    DEVICE_CODE_GRANT_TYPE,
    DeviceAuthorizationEndpoint,
    DeviceCodeGrant,
)
from flask import request as incoming

from orchestrator.identity.issuer_exchange import EXCHANGE_GRANT, exchange_grant
from orchestrator.identity.issuer_refresh import (
    Clock,
    RefreshTokens,
    refresh_grant,
    remember,
    revocation,
)

ACCESS_SECONDS = 3600
DEVICE_SECONDS = 600
DEVICE_INTERVAL = 1
# Not openid: ID tokens are for those who sign in by browser.  The others are what HTCondor reads
# in a SciToken.
SCOPES = frozenset(
    {"offline_access", "condor:/READ", "condor:/ADVERTISE_STARTD", "condor:/ADVERTISE_MASTER"}
)
_MAXIMUM_DEVICES = 100
_LOOPBACK = re.compile(r"http://127\.0\.0\.1:[0-9]{1,5}/callback")
_AUDIENCE = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True)
class Client:
    """An OAuth client as Authlib asks about it; one without a secret is public.

    Without a ``redirect_uri`` of its own it may be anywhere on loopback.
    """

    client_id: str
    grant_types: frozenset[str]
    secret: str | None = field(default=None, repr=False)
    scopes: frozenset[str] = SCOPES
    redirect_uri: str | None = None

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str | None) -> str:
        """Scopes we do not know are left out, as RFC 6749, 3.3 allows."""
        return " ".join(word for word in (scope or "").split() if word in self.scopes)

    def check_client_secret(self, secret: str) -> bool:
        return self.secret is not None and secrets.compare_digest(
            self.secret.encode(), secret.encode()
        )

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return (method == "none") == (self.secret is None)

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.grant_types

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code" and "authorization_code" in self.grant_types

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Loopback by its address, on any port (RFC 8252, 7.3); or the one of this client."""
        if self.redirect_uri is not None:
            return redirect_uri == self.redirect_uri
        return _LOOPBACK.fullmatch(redirect_uri) is not None

    def get_default_redirect_uri(self) -> None:
        """None: it has to be said."""


@dataclass(frozen=True)
class User:
    """A named development user."""

    name: str

    def get_user_id(self) -> str:
        return self.name


@dataclass
class Device:
    """One device flow under way: what was asked for, and what the person answered."""

    device_code: str = field(repr=False)
    user_code: str
    client_id: str
    scope: str
    expires_at: float
    clock: Clock = field(repr=False)
    answer: tuple[User, bool] | None = None
    polled_at: float | None = None

    def get_client_id(self) -> str:
        return self.client_id

    def get_scope(self) -> str:
        return self.scope

    def get_user_code(self) -> str:
        return self.user_code

    def is_expired(self) -> bool:
        return self.expires_at <= self.clock()


class Devices:
    """The device flows under way; at most 100, of which the oldest give way."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_code: dict[str, Device] = {}
        self._lock = threading.Lock()

    def add(self, client_id: str, scope: str | None, codes: dict[str, Any]) -> None:
        device = Device(
            codes["device_code"],
            codes["user_code"],
            client_id,
            scope or "",
            self._clock() + DEVICE_SECONDS,
            self._clock,
        )
        with self._lock:
            live = [one for one in self._by_code.values() if not one.is_expired()]
            kept = [*live[-(_MAXIMUM_DEVICES - 1) :], device]
            self._by_code = {one.device_code: one for one in kept}

    def by_device_code(self, device_code: str) -> Device | None:
        return self._by_code.get(device_code)

    def waiting(self, user_code: str) -> Device | None:
        """The flow of that short code that nobody has answered yet."""
        letters = "".join(letter for letter in user_code.upper() if letter.isalpha())
        with self._lock:
            for device in self._by_code.values():
                same = device.user_code.replace("-", "") == letters
                if same and device.answer is None and not device.is_expired():
                    return device
        return None

    def answer(self, user_code: str, user: User, approved: bool) -> bool:
        """Record the person's answer; False if there is no such flow (any more)."""
        device = self.waiting(user_code)
        if device is None:
            return False
        device.answer = (user, approved)
        return True

    def take_answer(self, user_code: str) -> tuple[User, bool] | None:
        """The answer to a flow, once: the device code is used up with it."""
        with self._lock:
            for device in list(self._by_code.values()):
                if device.user_code == user_code and device.answer is not None:
                    del self._by_code[device.device_code]
                    return device.answer
        return None

    def polls_too_fast(self, device: Device) -> bool:
        now, before = self._clock(), device.polled_at
        device.polled_at = now
        # Half an interval is forgiven: a client that sleeps exactly it may arrive a little early.
        return before is not None and 0 <= now - before < DEVICE_INTERVAL / 2


class _Answer(dict[str, Any]):
    """A token response; Authlib logs these at debug level, and logs must not hold tokens."""

    def __repr__(self) -> str:
        return "<token response>"


class _Generator(BearerTokenGenerator):  # type: ignore[misc]
    def generate(self, *arguments: Any, **named: Any) -> _Answer:
        return _Answer(super().generate(*arguments, **named))


class Minter(Protocol):
    """Makes access tokens; None as an audience is the issuer's own server."""

    def mint(
        self, subject: str, client_id: str, scope: str, *, audience: str | None = None
    ) -> str: ...

    def claims(self, token: str) -> Mapping[str, Any] | None:
        """Those of a token that it made, for its own server, and that is good; else None."""
        ...


def authorization_server(
    clients: dict[str, Client],
    devices: Devices,
    refresh_tokens: RefreshTokens,
    minter: Minter,
    verification_uri: str,
) -> AuthorizationServer:
    """Authlib's server for device flow, refresh, exchange, client credentials and revocation.

    ``minter`` makes the access tokens, and knows those that it made.
    """

    def access_token(client: Client, grant_type: str, user: User | None, scope: str) -> str:
        # A colon cannot be in a user's name, so nobody can log in as a client.
        subject = user.name if user else f"client:{client.client_id}"
        audience = incoming.form.get("audience", "")
        meant_for = audience if _AUDIENCE.fullmatch(audience) else None
        return minter.mint(subject, client.client_id, scope, audience=meant_for)

    server = AuthorizationServer(
        query_client=clients.get,
        save_token=lambda token, request: remember(refresh_tokens, token, request),
    )
    server.register_token_generator(
        "default",
        _Generator(
            access_token,
            refresh_token_generator=lambda **_: secrets.token_urlsafe(32),
            expires_generator=lambda client, grant_type: ACCESS_SECONDS,
        ),
    )
    server.register_grant(_device_grant(devices))
    server.register_grant(refresh_grant(refresh_tokens, User))
    server.register_grant(exchange_grant(minter.claims, User))
    server.register_grant(_ClientCredentials)
    server.register_endpoint(_device_endpoint(devices, verification_uri))
    server.register_endpoint(revocation(refresh_tokens))
    return server


class _ClientCredentials(grants.ClientCredentialsGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "client_secret_post"]  # noqa: RUF012


# Authlib makes a new grant object for every request from a class, so what a grant works on is
# bound to the class.
def _device_grant(devices: Devices) -> type[Any]:
    class DeviceGrant(DeviceCodeGrant):  # type: ignore[misc]
        def query_device_credential(self, device_code: str) -> Device | None:
            return devices.by_device_code(device_code)

        def query_user_grant(self, user_code: str) -> tuple[User, bool] | None:
            return devices.take_answer(user_code)

        def should_slow_down(self, credential: Device) -> bool:
            return devices.polls_too_fast(credential)

    return DeviceGrant


def _device_endpoint(devices: Devices, uri: str) -> type[Any]:
    class DeviceEndpoint(DeviceAuthorizationEndpoint):  # type: ignore[misc]
        EXPIRES_IN = DEVICE_SECONDS
        INTERVAL = DEVICE_INTERVAL

        def get_verification_uri(self) -> str:
            return uri

        def save_device_credential(
            self, client_id: str, scope: str | None, data: dict[str, Any]
        ) -> None:
            devices.add(client_id, scope, data)

    return DeviceEndpoint


PUBLIC_GRANTS = frozenset({DEVICE_CODE_GRANT_TYPE, "authorization_code", "refresh_token"})
CONFIDENTIAL_GRANTS = frozenset({"client_credentials"})
SERVER_GRANTS = frozenset({EXCHANGE_GRANT, "refresh_token"})
