"""Conversations with an issuer: how to log in (authorisation code, device flow, client
credentials), refresh, revocation.

Authlib builds the requests; what it is given and what comes back is checked here.  A login never
shows its tokens in a representation.
"""

from __future__ import annotations

import json
import secrets
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from orchestrator.errors import UserError
from orchestrator.identity.endpoints import DIRECT, is_safe_url
from orchestrator.identity.files import read_private
from orchestrator.identity.loopback import Loopback

SCOPE = "offline_access"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_HTTP_SECONDS = 15.0
_ASSUMED_LIFETIME = 3600
_SLOWER_SECONDS = 5  # RFC 8628, 3.5
_SLOWEST_SECONDS = 60.0


@dataclass(frozen=True)
class LoginTarget:
    """An issuer that a server trusts, and what to ask it for.  From ``GET /info``.

    ``delegation_scope`` is for a login that the server is to keep; None where it keeps none.
    """

    name: str
    issuer: str
    client_id: str
    audience: str
    scope: str = SCOPE
    delegation_scope: str | None = None


@dataclass(frozen=True)
class DeviceCode:
    """What a person needs to approve a login elsewhere.  ``expires_in`` is in seconds."""

    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    expires_in: float


@dataclass(frozen=True)
class Login:
    """Tokens of one issuer for one server; ``expires_at`` is that of the access token.

    ``client_file`` is where the secret of a client lives that gets a new token by itself.
    """

    target: LoginTarget
    access_token: str = field(repr=False)
    expires_at: float
    refresh_token: str | None = field(default=None, repr=False)
    client_file: str | None = None

    @property
    def renewable(self) -> bool:
        return self.refresh_token is not None or self.client_file is not None


class LoginEnded(UserError):
    """The issuer does not renew the login: the person must log in again."""

    def __init__(self, why: str) -> None:
        super().__init__("Your login has ended.", why, "vacuo login", "login-ended", 401)


class IssuerSilent(UserError):
    """The issuer could not be reached, or did not answer as an issuer does."""

    def __init__(self, issuer: str, why: str) -> None:
        super().__init__(
            f"The issuer {issuer} cannot be reached.",
            why,
            "try again in a minute",
            "issuer-unreachable",
            503,
        )


@dataclass(frozen=True)
class IssuerClient:
    """Speaks to the issuer of ``target``.  ``transport`` replaces the network in tests."""

    target: LoginTarget
    transport: httpx.BaseTransport | None = None
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def device_flow(self, on_code: Callable[[DeviceCode], None]) -> Login:
        """Start a device flow, show its code through ``on_code``, wait for the approval."""
        metadata = self._metadata()
        endpoint = self._endpoint(metadata, "device_authorization_endpoint")
        token_endpoint = self._endpoint(metadata, "token_endpoint")
        form = {
            "client_id": self.target.client_id,
            "scope": self.target.scope,
            "audience": self.target.audience,
        }
        with self._speaking() as client:
            answer = client.request("POST", endpoint, data=form, withhold_token=True)
        code, device_code, interval = self._start(answer)
        deadline = self.now() + code.expires_in
        on_code(code)
        while self.now() < deadline:
            self.sleep(interval)
            with self._speaking() as client:
                tokens, interval = self._poll(client, token_endpoint, device_code, interval)
                if tokens is not None:
                    return self._login(tokens)
        raise _refusal("expired_token")

    def browser_flow(self, open_page: Callable[[str], None]) -> Login:
        """Authorisation code with PKCE: ``open_page`` shows the issuer's page to the person, and
        the answer comes to a listener on loopback."""
        metadata = self._metadata()
        endpoint = self._endpoint(metadata, "authorization_endpoint")
        token_endpoint = self._endpoint(metadata, "token_endpoint")
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(32)
        with Loopback(state) as loopback:
            settled = {"redirect_uri": loopback.redirect_uri, "code_verifier": verifier}
            with self._speaking() as client:
                client.code_challenge_method = "S256"
                page, _ = client.create_authorization_url(
                    endpoint,
                    state,
                    scope=self.target.scope,
                    audience=self.target.audience,
                    **settled,
                )
            open_page(page)
            answer = loopback.wait()
        if answer is None:
            raise _refusal("expired_token")
        # RFC 9207: an answer of another issuer is not for this one.
        if "error" in answer or answer.get("iss", metadata["issuer"]) != metadata["issuer"]:
            raise _refusal(answer.get("error", "invalid_issuer"))
        with self._speaking() as client:
            tokens = client.fetch_token(
                token_endpoint,
                grant_type="authorization_code",
                code=answer.get("code", ""),
                audience=self.target.audience,
                **settled,
            )
        return self._login(tokens)

    def client_credentials(self, client_file: Path) -> Login:
        """The token of the client whose id and secret are in ``client_file`` (mode 0600)."""
        client_id, secret = _read_client(client_file)
        endpoint = self._endpoint(self._metadata(), "token_endpoint")
        with self._speaking(client_id, secret) as client:
            tokens = client.fetch_token(
                endpoint, grant_type="client_credentials", audience=self.target.audience
            )
        login = self._login(tokens)
        return replace(login, refresh_token=None, client_file=str(client_file))

    def renew(self, login: Login) -> Login:
        """A login with a new access token.  Raises :class:`LoginEnded` where there is none."""
        if login.client_file is not None:
            return self.client_credentials(Path(login.client_file))
        if login.refresh_token is None:
            raise LoginEnded("It has no refresh token, and its access token has expired.")
        endpoint = self._endpoint(self._metadata(), "token_endpoint")
        with self._speaking() as client:
            tokens = client.refresh_token(
                endpoint, refresh_token=login.refresh_token, audience=self.target.audience
            )
        return self._login(tokens, login.refresh_token)

    def revoke(self, login: Login) -> None:
        """Ask the issuer to forget the refresh token, where it has a way to."""
        metadata = self._metadata()
        if login.refresh_token is None or "revocation_endpoint" not in metadata:
            return
        endpoint = self._endpoint(metadata, "revocation_endpoint")
        with self._speaking() as client:
            client.revoke_token(endpoint, token=login.refresh_token)

    def _poll(
        self, client: Any, endpoint: str, device_code: str, interval: float
    ) -> tuple[Mapping[str, Any] | None, float]:
        from authlib.integrations.base_client import OAuthError

        try:
            tokens = client.fetch_token(
                endpoint,
                grant_type=DEVICE_GRANT,
                device_code=device_code,
                audience=self.target.audience,
            )
        except httpx.TransportError:
            # RFC 8628, 3.5: back off, do not give up.
            return None, min(interval * 2, _SLOWEST_SECONDS)
        except OAuthError as error:
            if error.error == "authorization_pending":
                return None, interval
            if error.error == "slow_down":
                return None, interval + _SLOWER_SECONDS
            raise
        return tokens, interval

    def _login(self, tokens: Mapping[str, Any], refresh_token: str | None = None) -> Login:
        access = tokens.get("access_token")
        lifetime = _between(1.0, tokens.get("expires_in", _ASSUMED_LIFETIME), 86400.0)
        bearer = str(tokens.get("token_type", "")).lower() == "bearer"
        if not isinstance(access, str) or not bearer or lifetime is None:
            raise IssuerSilent(self.target.issuer, "Its answer holds no bearer token.")
        return Login(
            self.target,
            access,
            self.now() + lifetime,
            tokens.get("refresh_token") or refresh_token,
        )

    def _metadata(self) -> Mapping[str, Any]:
        issuer = self.target.issuer
        if not is_safe_url(issuer):
            raise IssuerSilent(issuer, "Its address is not https.")
        url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        with self._speaking() as client:
            answer = client.request("GET", url, withhold_token=True)
        found = self._object(answer)
        if answer.status_code != httpx.codes.OK:
            raise IssuerSilent(issuer, f"Its discovery document answered {answer.status_code}.")
        if str(found.get("issuer")).rstrip("/") != issuer.rstrip("/"):
            raise IssuerSilent(issuer, "Its discovery document names another issuer.")
        return found

    def _endpoint(self, metadata: Mapping[str, Any], name: str) -> str:
        url = metadata.get(name)
        if isinstance(url, str) and is_safe_url(url):
            return url
        raise IssuerSilent(self.target.issuer, f"It offers no {name} with an https address.")

    @contextmanager
    def _speaking(self, client_id: str | None = None, secret: str | None = None) -> Iterator[Any]:
        """An Authlib client; its errors, and those of the network, in our terms."""
        with warnings.catch_warnings():
            # Authlib recommends a successor of httpx to everybody who imports this.
            import authlib.deprecate  # noqa: F401

            warnings.simplefilter("ignore")
            from authlib.integrations.base_client import OAuthError
            from authlib.integrations.httpx_client import OAuth2Client
        client = OAuth2Client(
            client_id or self.target.client_id,
            secret,
            timeout=_HTTP_SECONDS,
            follow_redirects=False,
            transport=self.transport,
            mounts=None if self.transport else DIRECT,
        )
        client.register_compliance_hook("access_token_response", self._token_answer)
        client.register_compliance_hook("refresh_token_response", self._token_answer)
        try:
            with client:
                yield client
        except OAuthError as error:
            raise _refusal(str(error.error)) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise IssuerSilent(self.target.issuer, f"{type(error).__name__}.") from None

    def _object(self, answer: httpx.Response) -> Mapping[str, Any]:
        """The JSON object that ``answer`` holds, whatever its status."""
        try:
            found = answer.json()
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            return found
        why = f"It answered {answer.status_code}, and not as OAuth 2 says."
        raise IssuerSilent(self.target.issuer, why)

    def _token_answer(self, answer: httpx.Response) -> httpx.Response:
        """Refuse what Authlib would stumble over: it takes the shape of the answer on trust."""
        found = self._object(answer)
        for name in ("expires_in", "expires_at"):
            value = found.get(name, 0)
            if not (isinstance(value, int) or (isinstance(value, str) and value.isdecimal())):
                raise IssuerSilent(self.target.issuer, f"Its answer has an odd {name}.")
        return answer

    def _start(self, answer: httpx.Response) -> tuple[DeviceCode, str, float]:
        """What is shown, the device code and the pause between polls, from the first answer."""
        found = self._object(answer)
        if isinstance(found.get("error"), str):
            raise _refusal(found["error"])
        code = _device_code(found)
        secret = found.get("device_code")
        interval = _between(1.0, found.get("interval", 5), _SLOWEST_SECONDS)
        if answer.is_success and code and interval and isinstance(secret, str):
            return code, secret, interval
        why = f"Its device endpoint answered {answer.status_code}, and no code that can be shown."
        raise IssuerSilent(self.target.issuer, why)


def _refusal(code: str) -> UserError:
    if code == "access_denied":
        return UserError("The login was denied.", attempt="vacuo login", code="login-denied")
    if code == "expired_token":
        why = "Nobody approved the code in time."
        return UserError("The login did not happen.", why, "vacuo login", "login-expired")
    if code == "invalid_client":
        return UserError(
            "The issuer does not know this client.",
            "Its id is not registered there, or its secret is another one.",
            "ask the server's administrator (iam/README.md tells how to register it)",
            "login-failed",
        )
    safe = code if code.isidentifier() and code.isascii() else "an unknown error"
    if code == "invalid_grant":
        return LoginEnded(f"The issuer answered {safe}.")
    return UserError(
        "The issuer refused the login.",
        f"It answered {safe}.",
        "ask the server's administrator (iam/README.md tells what the client must be allowed)",
        "login-failed",
    )


def _between(low: float, value: object, high: float) -> float | None:
    """``value``, which an issuer sent, within bounds; None if it is no number."""
    if isinstance(value, str):  # some issuers write numbers so
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    return float(min(max(low, value), high))


def _device_code(found: Mapping[str, Any]) -> DeviceCode | None:
    """The code as shown; an issuer must not be able to write escape sequences to a terminal."""
    user_code, uri = found.get("user_code"), found.get("verification_uri")
    complete = found.get("verification_uri_complete")
    expires_in = _between(1.0, found.get("expires_in"), 3600.0)
    if not isinstance(user_code, str) or not 0 < len(user_code) <= 64 or expires_in is None:
        return None
    if not user_code.isprintable() or not isinstance(uri, str) or not is_safe_url(uri):
        return None
    if complete is not None and not is_safe_url(complete):
        return None
    return DeviceCode(user_code, uri, complete, expires_in)


def _read_client(path: Path) -> tuple[str, str]:
    try:
        entry = json.loads(read_private(path))
        client_id, secret = entry["client_id"], entry["client_secret"]
    except (OSError, ValueError, KeyError, TypeError):
        client_id = secret = None
    if isinstance(client_id, str) and isinstance(secret, str):
        return client_id, secret
    raise UserError(
        f"The client file {path} cannot be read.",
        'It is a JSON object with "client_id" and "client_secret", mode 0600.',
        code="secret-file",
    )
