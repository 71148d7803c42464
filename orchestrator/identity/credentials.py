"""How the command line finds a token, and where it keeps its own logins.

The order is that of the WLCG bearer token discovery: ``BEARER_TOKEN``, the file that
``BEARER_TOKEN_FILE`` names, ``$XDG_RUNTIME_DIR/bt_u$UID``, ``/tmp/bt_u$UID``; then oidc-agent,
for the account that ``VACUO_OIDC_ACCOUNT`` names; then the user's own login, which renews itself.
Whatever a person named must work; what merely lies around is passed over when it cannot serve.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt

from orchestrator.errors import UserError
from orchestrator.identity.endpoints import DIRECT, is_safe_url
from orchestrator.identity.files import make_private_directory, read_private, write_private
from orchestrator.identity.login import (
    DeviceCode,
    IssuerClient,
    IssuerSilent,
    Login,
    LoginEnded,
    LoginTarget,
)

__all__ = ["Credential", "Credentials", "DeviceCode", "Login", "LoginTarget", "NoCredential"]

# A token that ends within this many seconds is renewed before it is used.
RENEW_SECONDS = 60.0
_MAXIMUM_TOKEN = 16 * 1024
_HTTP_SECONDS = 15.0
_AGENT_SECONDS = 30.0
_TOKEN = re.compile(r"[\x21-\x7e]+")


class NoCredential(UserError):
    """There is no token anywhere."""

    def __init__(self, server: str, why: str = "") -> None:
        super().__init__(
            f"You are not logged in to {server}.", why, "vacuo login", "not-logged-in", 401
        )


@dataclass(frozen=True)
class Credential:
    """A bearer token and where it was found.  ``expires_at`` is None where nobody can tell;
    ``renews`` says that another is had without being asked for when it ends."""

    token: str = field(repr=False)
    source: str
    expires_at: float | None
    renews: bool = False

    def seconds_left(self, now: float) -> float | None:
        """How long the token lasts; negative when it has ended."""
        return None if self.expires_at is None else self.expires_at - now


@dataclass(frozen=True)
class Credentials:
    """The tokens of the user who runs this process.

    ``environment`` is ``os.environ`` unless a test says otherwise; so are the rest.
    """

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    transport: httpx.BaseTransport | None = None
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    shared_directory: Path = Path("/tmp")  # noqa: S108 - the discovery says so

    def find(self, server: str) -> Credential:
        """The token to send to ``server``; a cached login that is about to end is renewed first.

        Raises :class:`NoCredential`, :class:`LoginEnded`, :class:`IssuerSilent`, or
        :class:`UserError` when what the user named cannot be used.
        """
        _require_safe(server)
        return (
            self._named_token()
            or self._named_file()
            or self._file_lying_around()
            or self._from_agent(server)
            or self._own_login(server)
        )

    def targets(self, server: str) -> tuple[LoginTarget, ...]:
        """The issuers that ``server`` trusts, the preferred one first."""
        _require_safe(server)
        try:
            with httpx.Client(
                transport=self.transport,
                mounts=None if self.transport else DIRECT,
                timeout=_HTTP_SECONDS,
            ) as client:
                answer = client.get(f"{server.rstrip('/')}/info")
            entries = answer.raise_for_status().json()["issuers"]
            return tuple(_target(entry) for entry in entries)
        except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
            raise UserError(
                f"The server {server} does not say how to log in.",
                f"GET /info: {type(error).__name__}.",
                "check the address of the server, and that it runs",
                "server-unreachable",
                503,
            ) from None

    def device_login(
        self,
        server: str,
        on_code: Callable[[DeviceCode], None],
        target: LoginTarget | None = None,
    ) -> Credential:
        """Log in by device flow; ``on_code`` shows the code while this waits for the approval.

        ``target`` is the first issuer of the server when it is not given.
        """
        return self._keep(server, self._issuer(server, target).device_flow(on_code))

    def browser_login(
        self, server: str, open_page: Callable[[str], None], target: LoginTarget | None = None
    ) -> Credential:
        """Log in on a page that ``open_page`` shows, in a browser on this machine."""
        return self._keep(server, self._issuer(server, target).browser_flow(open_page))

    def client_login(
        self, server: str, client_file: Path, target: LoginTarget | None = None
    ) -> Credential:
        """Log in as the client whose id and secret are in ``client_file``; it renews itself."""
        path = client_file.absolute()
        return self._keep(server, self._issuer(server, target).client_credentials(path))

    def logout(self, server: str) -> bool:
        """Forget the login for ``server``, here and, where it can be reached, at the issuer.

        False if there was none.
        """
        with self._locked(server):
            login = self._cached(server)
            self._path(server).unlink(missing_ok=True)
        if login is None:
            return False
        with suppress(UserError):
            self._issuer(server, login.target).revoke(login)
        return True

    # --- the places, in their order ---------------------------------------------------------------

    def _named_token(self) -> Credential | None:
        value = self.environment.get("BEARER_TOKEN")
        return self._credential(value, "BEARER_TOKEN") if value and value.strip() else None

    def _named_file(self) -> Credential | None:
        name = self.environment.get("BEARER_TOKEN_FILE")
        if not name:
            return None
        try:
            with open(name, encoding="utf-8") as file:
                return self._credential(
                    file.read(4 * _MAXIMUM_TOKEN), f"BEARER_TOKEN_FILE ({name})"
                )
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"The file {name} that BEARER_TOKEN_FILE names cannot be read.",
                f"{type(error).__name__}.",
                "mend or unset BEARER_TOKEN_FILE",
                "token-file",
            ) from None

    def _file_lying_around(self) -> Credential | None:
        runtime = self.environment.get("XDG_RUNTIME_DIR")
        directories = [*([Path(runtime)] if runtime else []), self.shared_directory]
        for directory in directories:
            path = directory / f"bt_u{os.geteuid()}"
            # Somebody else's file in a directory that all may write to would make us act as them.
            with suppress(OSError, ValueError, UserError):
                found = self._credential(read_private(path), str(path))
                if found.expires_at is None or found.expires_at > self.now():
                    return found
        return None

    def _from_agent(self, server: str) -> Credential | None:
        account = self.environment.get("VACUO_OIDC_ACCOUNT")
        program = shutil.which("oidc-token", path=self.environment.get("PATH"))
        if not account or program is None:
            return None
        targets = self.targets(server)
        audience = [f"--aud={targets[0].audience}"] if targets else []
        try:
            done = subprocess.run(
                [program, *audience, "--", account],
                capture_output=True,
                text=True,
                timeout=_AGENT_SECONDS,
                check=True,
                env=dict(self.environment),
            )
        except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
            raise UserError(
                f"oidc-agent gives no token for the account {account!r}.",
                f"{type(error).__name__}.",
                f"oidc-token {account}",
                "oidc-agent",
            ) from None
        return self._credential(done.stdout, f"oidc-token {account}")

    def _own_login(self, server: str) -> Credential:
        login = self._cached(server)
        if login is None:
            raise NoCredential(server)
        if login.expires_at - self.now() < RENEW_SECONDS and login.renewable:
            login = self._renewed(server)
        if login.expires_at <= self.now():
            raise LoginEnded("Its access token has expired and cannot be renewed.")
        return self._own(server, login)

    def _renewed(self, server: str) -> Login:
        """Renew under a lock: of two commands at once, one asks and both use what it got."""
        with self._locked(server):
            login = self._cached(server)
            if login is None:
                raise NoCredential(server)
            if login.expires_at - self.now() >= RENEW_SECONDS:
                return login
            try:
                renewed = self._issuer(server, login.target).renew(login)
            except IssuerSilent:
                if login.expires_at > self.now():
                    return login
                raise
            self._write(server, renewed)
            return renewed

    # --- the cache --------------------------------------------------------------------------------

    def _issuer(self, server: str, target: LoginTarget | None) -> IssuerClient:
        _require_safe(server)
        if target is None:
            targets = self.targets(server)
            if not targets:
                raise UserError(
                    f"Nobody can log in to {server}.",
                    "It trusts no issuer.",
                    "ask its administrator (docs/admin/identity.md)",
                    "no-issuer",
                )
            target = targets[0]
        return IssuerClient(target, self.transport, self.now, self.sleep)

    def _directory(self) -> Path:
        state = self.environment.get("XDG_STATE_HOME")
        home = self.environment.get("HOME") or str(Path.home())
        return (Path(state) if state else Path(home) / ".local" / "state") / "vacuo" / "logins"

    def _path(self, server: str) -> Path:
        name = hashlib.sha256(server.rstrip("/").lower().encode()).hexdigest()
        return self._directory() / f"{name[:32]}.json"

    @contextmanager
    def _locked(self, server: str) -> Iterator[None]:
        make_private_directory(self._directory())
        path = self._path(server).with_suffix(".lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _cached(self, server: str) -> Login | None:
        try:
            entry = json.loads(read_private(self._path(server)))
            return Login(**{**entry, "target": LoginTarget(**entry["target"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None  # whatever is wrong with it, logging in replaces it

    def _keep(self, server: str, login: Login) -> Credential:
        with self._locked(server):
            self._write(server, login)
        return self._own(server, login)

    def _write(self, server: str, login: Login) -> None:
        write_private(self._path(server), json.dumps(asdict(login)))

    def _own(self, server: str, login: Login) -> Credential:
        source = f"your login at {server}"
        return Credential(login.access_token, source, login.expires_at, login.renewable)

    def _credential(self, text: str, source: str) -> Credential:
        token = text.strip()
        if not _TOKEN.fullmatch(token) or len(token) > _MAXIMUM_TOKEN:
            raise UserError(
                f"What {source} holds is not a token.",
                f"It is empty, longer than {_MAXIMUM_TOKEN} characters, or has blanks in it.",
                code="token-file",
            )
        return Credential(token, source, _expiry(token))


def _require_safe(server: str) -> None:
    if not is_safe_url(server):
        raise UserError(
            f"No token is sent to {server}.",
            "Its address is not https, so anybody on the way could read the token.",
            "use the https address of the server",
            "server-insecure",
        )


def _target(entry: Mapping[str, Any]) -> LoginTarget:
    name, issuer, client_id = (str(entry[key]) for key in ("name", "issuer", "clientId"))
    scope = entry.get("delegationScope")
    return LoginTarget(
        name,
        issuer,
        client_id,
        str(entry["audiences"][0]),
        delegation_scope=scope if isinstance(scope, str) else None,
    )


def _expiry(token: str) -> float | None:
    """When a JWT says that it ends; only the server can tell whether that is true."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        return float(claims["exp"])
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        return None
