"""The one client for addresses that users give: imports, callbacks, webhooks.

What is asked for is checked before a connection is made, and the connection goes to the address
that was checked: a name is resolved once.  https only; no redirect, no proxy, no compression; the
answer is bounded in size and the whole exchange in time.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

# The addresses of a host, as text.  Raises OSError.
Resolve = Callable[[str, int], Sequence[str]]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_CHUNK = 65536
_PORTS = {"https": 443, "http": 80}


class OutboundError(Exception):
    """Nothing was had; the message says why, as half a sentence that begins with the host."""


class OutboundRefused(OutboundError):
    """The address may not be asked for; nothing was sent."""


@dataclass(frozen=True)
class Guard:
    """What may be asked for.

    ``hosts`` are ``name`` (port 443), ``name:port``, ``*.name`` for all below it, or ``*``.
    Those that ``private_hosts`` names may also have addresses that are not public.
    ``plain_loopback`` lets such a host on this very machine be asked without TLS: for development.
    ``seconds`` bound the whole exchange, ``maximum_bytes`` the body.
    """

    hosts: tuple[str, ...] = ()
    private_hosts: tuple[str, ...] = ()
    plain_loopback: bool = False
    maximum_bytes: int = 2_000_000
    seconds: float = 10.0


@dataclass(frozen=True)
class Answer:
    """What a server said, whatever its status; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of ``host`` as this machine knows them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Outbound:
    """Asks within a guard.  May be used from any thread."""

    def __init__(
        self, guard: Guard, resolve: Resolve = resolve, context: ssl.SSLContext | None = None
    ) -> None:
        self._guard = guard
        self._resolve = resolve
        self._context = context or ssl.create_default_context()

    def get(self, url: str) -> bytes:
        """The body at ``url``; anything but 200 is an :class:`OutboundError`."""
        answer = self.request("GET", url)
        if 300 <= answer.status < 400:
            raise OutboundError(
                f"{_host(url)} answered {answer.status}: redirects are not followed"
            )
        if answer.status != 200:
            raise OutboundError(f"{_host(url)} answered {answer.status}")
        return answer.body

    def request(
        self, method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> Answer:
        """Ask once.  Raises :class:`OutboundRefused` before anything is sent, and
        :class:`OutboundError` where there is no whole answer."""
        deadline = time.monotonic() + self._guard.seconds
        parts = self.check(url)
        host = parts.hostname or ""
        port = parts.port or _PORTS[parts.scheme]
        addresses = self._addresses(parts, host, port, deadline)
        exchange = _Exchange(parts, port, deadline, self._context)
        try:
            exchange.connect(addresses)
            return exchange.ask(method, body, headers, self._guard.maximum_bytes)
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            if exchange.late or isinstance(error, TimeoutError):
                seconds = f"{self._guard.seconds:g}"
                raise OutboundError(f"{host} took longer than {seconds} s") from None
            raise OutboundError(f"{host} cannot be reached: {_why(error)}") from None
        finally:
            exchange.close()

    def check(self, url: str) -> SplitResult:
        """The parts of ``url``; raises :class:`OutboundRefused` where it may not be asked for.

        What its name resolves to is looked at only when it is asked for.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise OutboundRefused("this is not an address") from None
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url or not host:
            raise OutboundRefused("this is not an address")
        if parts.username is not None or parts.password is not None or "@" in parts.netloc:
            raise OutboundRefused(f"{host} is asked for with a user or password in the address")
        if parts.scheme == "http":
            if not (self._guard.plain_loopback and _listed(host, port, self._guard.private_hosts)):
                raise OutboundRefused(f"{host} is asked for by http, and only https is spoken")
        elif parts.scheme != "https":
            raise OutboundRefused("only https addresses are asked for")
        if not _listed(host, port, self._guard.hosts):
            raise OutboundRefused(f"{host} is not a host that this server asks")
        return parts

    def _addresses(
        self, parts: SplitResult, host: str, port: int, deadline: float
    ) -> Sequence[str]:
        """The addresses of the host, resolved once; all of them must be allowed."""
        found = _bounded(lambda: self._resolve(host, port), deadline, host)
        private = _listed(host, parts.port, self._guard.private_hosts)
        for text in found:
            address = _address(text)
            if parts.scheme == "http" and not (address and address.is_loopback):
                raise OutboundRefused(f"{host} is asked for by http and is not this machine")
            if not private and (address is None or not _is_public(address)):
                raise OutboundRefused(f"{host} has an address that is not public")
        if not found:
            raise OutboundError(f"{host} has no address")
        return found


class Cut:
    """Ends what goes on over a socket once ``seconds`` are over, and then says that it is ``late``.

    Bytes may come one by one for ever, each in time: somebody must look at the whole.
    """

    def __init__(self, seconds: float) -> None:
        self.late = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(max(0.0, seconds), self._end)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, connection: socket.socket) -> None:
        """This is the socket; one that was watched before is left alone from now on."""
        self._socket = connection
        if self.late:
            self._end()

    def cancel(self) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        self.late = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not the one of SSLSocket, which would say good-bye first.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Exchange:
    """One connection to one of the checked addresses, cut at the deadline."""

    def __init__(
        self, parts: SplitResult, port: int, deadline: float, context: ssl.SSLContext
    ) -> None:
        self._parts = parts
        self._port = port
        self._deadline = deadline
        self._context = context
        self._socket: socket.socket | None = None
        self._cut = Cut(deadline - time.monotonic())

    @property
    def late(self) -> bool:
        return self._cut.late

    def connect(self, addresses: Sequence[str]) -> None:
        error: OSError | None = None
        for address in addresses:
            left = self._deadline - time.monotonic()
            if left <= 0:
                self._cut.late = True
                break
            try:
                self._socket = socket.create_connection((address, self._port), timeout=left)
                break
            except OSError as found:
                self._cut.late = time.monotonic() >= self._deadline
                error = found
        if self._socket is None:
            raise error or TimeoutError("no address answers")
        self._cut.watch(self._socket)
        if self._parts.scheme == "https":
            host = self._parts.hostname or ""
            self._socket = self._context.wrap_socket(
                self._socket, server_hostname=host, do_handshake_on_connect=False
            )
            self._cut.watch(self._socket)
            self._socket.do_handshake()

    def ask(self, method: str, body: bytes | None, headers: Mapping[str, str], most: int) -> Answer:
        connection = http.client.HTTPConnection(self._parts.netloc)
        connection.sock = self._socket
        target = self._parts.path or "/"
        target += f"?{self._parts.query}" if self._parts.query else ""
        sent = {"Accept-Encoding": "identity", "Connection": "close", **headers}
        connection.request(method, target, body, sent)
        with connection.getresponse() as response:
            content = b""
            while chunk := response.read(_CHUNK):
                content += chunk
                if len(content) > most:
                    raise OutboundError(
                        f"{self._parts.hostname} sent more than {most} bytes"
                    ) from None
            if self.late or (response.length or 0) > 0:
                raise ValueError("the answer was cut short")
            found = {name.lower(): value for name, value in response.getheaders()}
            if found.get("content-encoding", "identity") != "identity":
                raise ValueError("the answer is compressed")
            return Answer(response.status, found, content)

    def close(self) -> None:
        self._cut.cancel()
        if self._socket is not None:
            self._socket.close()


def is_loopback(host: str | None) -> bool:
    """Whether ``host``, a name or an address without a port, can only be this machine."""
    if host is None:
        return False
    if host.lower() == "localhost":
        return True
    address = _address(host.strip("[]"))
    return address is not None and address.is_loopback


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_public(address: Address) -> bool:
    """Whether an address is one of the Internet; those that wrap another are judged by it."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and any(address in network for network in _NAT64):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
        if address.teredo is not None or address.is_site_local or int(address) < 1 << 32:
            return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )


def _listed(host: str, port: int | None, patterns: Sequence[str]) -> bool:
    host = f"[{host}]" if ":" in host else host.rstrip(".")
    at = host if port in (None, 443) else f"{host}:{port}"
    for pattern in patterns:
        if pattern in ("*", at):
            return pattern != "*" or port in (None, 443)
        if pattern.startswith("*.") and at.endswith(pattern[1:]):
            return True
    return False


def _bounded(work: Callable[[], Sequence[str]], deadline: float, host: str) -> Sequence[str]:
    """The resolver has no time limit that one could set."""
    found: list[Sequence[str]] = []

    def run() -> None:
        try:
            found.append(work())
        except (OSError, UnicodeError):
            found.append(())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    if not found:
        raise OutboundError(f"{host} was not resolved in time")
    return found[0]


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
