"""Addresses that users give are asked for over real TLS, from servers that do not behave."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestrator.outbound import Guard, Outbound, OutboundError, OutboundRefused

HOST = "files.example.org"
STOP = threading.Event()


class Handler(BaseHTTPRequestHandler):
    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.asked.append((self.headers["Host"], self.path))
        getattr(self, f"_{self.path.strip('/').partition('?')[0]}")()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._send(202, body, X_Kind=self.headers["Content-Type"])

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _good(self) -> None:
        self._send(200, b"types")

    def _missing(self) -> None:
        self._send(404)

    def _redirect(self) -> None:
        self._send(302, Location="/good")

    def _huge(self) -> None:
        self._send(200, b" " * 20_000)

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not STOP.is_set():
            self.wfile.write(b" " * 1000)

    def _compressed(self) -> None:
        self._send(200, b"\x1f\x8b", Content_Encoding="gzip")

    def _drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not STOP.wait(0.02):
            self.wfile.write(b" ")

    def _headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not STOP.wait(0.02):
            self.wfile.write(b"X: y\r\n")

    def _silent(self) -> None:
        STOP.wait(30)

    def _cut(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"half")

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that turn away are the point of these tests."""


def _certificate(directory: Path, name: str) -> Path:
    """A certificate for ``name`` that vouches for itself, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@dataclass
class World:
    port: int
    context: ssl.SSLContext
    guard: Guard

    def client(self, *addresses: str, **changes: object) -> Outbound:
        """One for whom every name has ``addresses``."""
        guard = replace(self.guard, **changes)  # type: ignore[arg-type]
        return Outbound(guard, lambda host, port: addresses or ("127.0.0.1",), self.context)

    def url(self, path: str, host: str = HOST) -> str:
        return f"https://{host}:{self.port}/{path}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _certificate(tmp_path_factory.mktemp("tls"), HOST)


@pytest.fixture
def world(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    STOP.clear()
    Handler.asked = []
    server = Server(("127.0.0.1", 0), Handler)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(certificate)
    server.socket = theirs.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    at = f"{HOST}:{server.server_port}"
    guard = Guard(hosts=(at,), private_hosts=(at,), maximum_bytes=10_000, seconds=20.0)
    ours = ssl.create_default_context(cafile=str(certificate))
    yield World(server.server_port, ours, guard)
    STOP.set()
    server.shutdown()
    server.server_close()


def test_a_listed_host_is_asked_by_its_name(world: World) -> None:
    assert world.client().get(world.url("good?x=1")) == b"types"
    assert Handler.asked == [(f"{HOST}:{world.port}", "/good?x=1")]


def test_a_body_can_be_sent(world: World) -> None:
    answer = world.client().request("POST", world.url("hook"), b"{}", {"Content-Type": "a/b"})
    assert (answer.status, answer.body, answer.headers["x-kind"]) == (202, b"{}", "a/b")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("missing", "answered 404"),
        ("redirect", "302: redirects are not followed"),
        ("huge", "more than 10000 bytes"),
        ("endless", "more than 10000 bytes"),
        ("compressed", "is compressed"),
        ("cut", "cannot be reached"),
    ],
)
def test_a_bad_answer_is_no_answer(world: World, path: str, says: str) -> None:
    with pytest.raises(OutboundError, match=says):
        world.client().get(world.url(path))
    assert [asked for _, asked in Handler.asked] == [f"/{path}"]


@pytest.mark.parametrize("path", ["drip", "headers", "silent"])
def test_a_slow_answer_is_given_up(world: World, path: str) -> None:
    with pytest.raises(OutboundError, match=r"took longer than 0\.5 s"):
        world.client(seconds=0.5).get(world.url(path))


def test_a_server_that_never_shakes_hands_is_given_up(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        at = f"{HOST}:{mute.getsockname()[1]}"
        client = world.client(seconds=0.5, hosts=(at,), private_hosts=(at,))
        with pytest.raises(OutboundError, match="took longer"):
            client.get(f"https://{at}/")


def test_a_name_that_is_not_resolved_in_time_is_given_up(world: World) -> None:
    def never(host: str, port: int) -> list[str]:
        STOP.wait(30)
        return []

    with pytest.raises(OutboundError, match="not resolved in time"):
        Outbound(replace(world.guard, seconds=0.3), never, world.context).get(world.url("good"))


def test_a_certificate_for_another_name_is_refused(world: World) -> None:
    at = f"other.example.org:{world.port}"
    with pytest.raises(OutboundError, match="certificate"):
        world.client(hosts=(at,), private_hosts=(at,)).get(f"https://{at}/good")
    assert Handler.asked == []


def test_a_certificate_that_nobody_vouches_for_is_refused(world: World) -> None:
    client = Outbound(world.guard, lambda host, port: ("127.0.0.1",))
    with pytest.raises(OutboundError, match="certificate"):
        client.get(world.url("good"))


def test_a_name_is_resolved_once_and_that_address_is_asked(world: World) -> None:
    answers = [("127.0.0.1",), ("127.0.0.2",)]
    resolved: list[str] = []

    def rebinding(host: str, port: int) -> tuple[str, ...]:
        resolved.append(host)
        return answers[min(len(resolved), 2) - 1]

    assert Outbound(world.guard, rebinding, world.context).get(world.url("good")) == b"types"
    assert resolved == [HOST]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "::", "::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "fe80::1", "fe80::1%eth0",
        "fd00::1", "fec0::1", "ff02::1", "2002:7f00:1::", "64:ff9b::7f00:1", "2001:db8::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2", "not an address",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_not_asked(world: World, address: str) -> None:
    for addresses in ((address,), ("93.184.215.14", address)):
        with pytest.raises(OutboundRefused, match="not public"):
            world.client(*addresses, private_hosts=()).get(world.url("good"))
    assert Handler.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://files.example.org/x", "gopher://files.example.org/",
        "//files.example.org/x", "files.example.org/x", "https:///x", "https://", "",
        "https://user@files.example.org/", "https://user:word@files.example.org/",
        "https://files.example.org@127.0.0.1/", "https://@files.example.org/",
        "https://files.example.org:99999/", "https://files.example.org:22/",
        "https://files.example.org\\@127.0.0.1/", "https://files.example.org /",
        "https://files.example.org/\r\nHost: x", "https://127.0.0.1/", "https://[::1]/",
        "https://[::ffff:127.0.0.1]/", "https://2130706433/", "https://0x7f.1/",
        "https://localhost/", "https://example.org/", "https://xfiles.example.org/",
        "https://files.example.org.evil.test/", "http://files.example.org/",
        "https://файлы.example.org/", "https://[files.example.org/",
    ],
)  # fmt: skip
def test_an_address_that_is_not_listed_is_not_even_resolved(world: World, url: str) -> None:
    def never(host: str, port: int) -> list[str]:
        raise AssertionError(f"{host} was resolved")

    guard = replace(world.guard, hosts=(HOST,), private_hosts=(HOST,))
    with pytest.raises(OutboundRefused):
        Outbound(guard, never, world.context).request("GET", url)


def test_hosts_are_listed_by_name_by_domain_or_all() -> None:
    def allowed(pattern: str, url: str) -> bool:
        try:
            Outbound(Guard(hosts=(pattern,))).check(url)
        except OutboundRefused:
            return False
        return True

    assert allowed("*.example.org", "https://a.b.example.org/x")
    assert not allowed("*.example.org", "https://example.org/x")
    assert not allowed("*.example.org", "https://badexample.org/x")
    assert allowed("*", "https://anything.test/")
    assert not allowed("*", "https://anything.test:22/")
    assert allowed("example.org:8443", "https://example.org:8443/")
    assert not allowed("example.org", "https://example.org:8443/")
    assert allowed("example.org", "https://EXAMPLE.org:443/")


def test_http_is_spoken_to_this_machine_only_and_only_when_told(certificate: Path) -> None:
    Handler.asked = []
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    at = f"localhost:{server.server_port}"
    guard = Guard(hosts=(at,), private_hosts=(at,), plain_loopback=True)
    try:
        assert Outbound(guard).get(f"http://{at}/good") == b"types"
        with pytest.raises(OutboundRefused, match="by http"):
            Outbound(replace(guard, plain_loopback=False)).get(f"http://{at}/good")
        with pytest.raises(OutboundRefused, match="not this machine"):
            Outbound(guard, lambda host, port: ("10.0.0.1",)).get(f"http://{at}/good")
    finally:
        server.shutdown()
        server.server_close()
