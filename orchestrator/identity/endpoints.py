"""An issuer's documents: asked for over HTTP, and believed only where they name the issuer.

An issuer's address comes from the administrator, who may have it on a private network or behind a
proxy; hence not :mod:`orchestrator.outbound`, which is for addresses that users give.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import httpx

from orchestrator.identity.claims import shown
from orchestrator.outbound import Cut, is_loopback
from orchestrator.settings import Issuer

FETCH_SECONDS = 5.0
MAXIMUM_BODY = 256 * 1024
_CONNECTED = (".connect_tcp.complete", ".start_tls.complete")  # events of httpx that have a socket
# For httpx: a proxy of the environment is for the world outside, not for this machine.
DIRECT: Mapping[str, httpx.BaseTransport | None] = {
    f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")
}


class IssuerAway(Exception):
    """An issuer cannot be asked, or answers nonsense; the message is for the log."""


class IssuerRefuses(IssuerAway):
    """It answered, and does not accept the credential that it was shown (401)."""


class IssuerForbids(IssuerAway):
    """It answered that this credential is not for such questions (403)."""


class IssuerRejects(IssuerAway):
    """It answered that the request itself is not in order (400)."""


_REFUSALS = {400: IssuerRejects, 401: IssuerRefuses, 403: IssuerForbids}


class Ask(Protocol):
    """Asks an issuer: a GET, or a POST of ``form``.  Raises :class:`IssuerAway`."""

    def __call__(
        self,
        url: str,
        authorization: str | None = None,
        form: Mapping[str, str] | None = None,
    ) -> bytes: ...


def ask(url: str, authorization: str | None = None, form: Mapping[str, str] | None = None) -> bytes:
    """The body at ``url``: no redirects, no compression, bounded in size and time."""
    status, body = exchange(url, authorization, form)
    if status in _REFUSALS:
        raise _REFUSALS[status](f"{url} answered {status}")
    if status != 200:
        raise IssuerAway(f"{url} answered {status}")
    return body


def exchange(
    url: str, authorization: str | None = None, form: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """Status and body of any answer of ``url``, within the same bounds."""
    cut = Cut(FETCH_SECONDS)

    def traced(event: str, details: Mapping[str, Any]) -> None:
        if event.endswith(_CONNECTED):
            cut.watch(details["return_value"].get_extra_info("socket"))

    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    headers |= {"Authorization": authorization} if authorization else {}
    method = "GET" if form is None else "POST"
    try:
        with (
            httpx.Client(mounts=DIRECT, timeout=FETCH_SECONDS) as client,
            client.stream(
                method, url, headers=headers, data=form, extensions={"trace": traced}
            ) as answer,
        ):
            body = b""
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) > MAXIMUM_BODY:
                    raise IssuerAway(f"{url} sent more than {MAXIMUM_BODY} bytes")
        if cut.late:  # the end that was seen may be that of our patience
            raise IssuerAway(f"{url} took longer than {FETCH_SECONDS:g} s")
        return answer.status_code, body
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if cut.late or isinstance(error, httpx.TimeoutException):
            raise IssuerAway(f"{url} took longer than {FETCH_SECONDS:g} s") from None
        raise IssuerAway(f"{url}: {type(error).__name__}") from None
    finally:
        cut.cancel()


def is_safe_url(url: object) -> bool:
    """https with a host and without credentials; http only to this machine."""
    if not isinstance(url, str) or not url.isascii() or not url.isprintable():
        return False
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def json_at(
    ask: Ask,
    url: str,
    authorization: str | None = None,
    form: Mapping[str, str] | None = None,
) -> Any:
    """The JSON document at ``url``."""
    try:
        return json.loads(ask(url, authorization, form))
    except (ValueError, RecursionError):
        raise IssuerAway(f"{url} is not JSON") from None


def discovered(issuer: Issuer, ask: Ask, name: str) -> str:
    """The address that the issuer's discovery document has under ``name``."""
    return safe(discovery(issuer, ask).get(name), name)


def discovery(issuer: Issuer, ask: Ask) -> Mapping[str, Any]:
    """The issuer's discovery document.

    It must name the issuer exactly (OpenID Connect Discovery 1.0, section 4.3).
    """
    url = f"{issuer.issuer.rstrip('/')}/.well-known/openid-configuration"
    document = json_at(ask, url)
    found = document if isinstance(document, dict) else {}
    if found.get("issuer") not in (issuer.issuer, *issuer.aliases):
        raise IssuerAway(f"its discovery names another issuer, {shown(found.get('issuer'))}")
    return found


def client_authorization(name: str, secret_file: Path | None) -> str:
    """The ``Authorization`` of a client with a secret, as RFC 6749, section 2.3.1, has it."""
    try:
        secret = Path(secret_file or "").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise IssuerAway(f"the secret of client {name} cannot be read") from None
    pair = f"{quote(name, safe='')}:{quote(secret, safe='')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def safe(url: object, name: str) -> str:
    """``url``, where it may be asked."""
    if not isinstance(url, str) or not is_safe_url(url):
        raise IssuerAway(f"its {name} is at {shown(url)}, which is not https")
    return url
