"""A real HTTP server that behaves as it is asked to: the path says how."""

from __future__ import annotations

import datetime
import gzip
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class MisbehavingServer(ThreadingHTTPServer):
    """What it was asked, as (host, path); ``stop`` ends the answers that never end."""

    daemon_threads = True

    def __init__(self, good: bytes, huge: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.good = good
        self.huge = huge
        self.asked: list[tuple[str, str]] = []
        self.stop = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that turn away are the point of these tests."""


@contextmanager
def misbehaving(
    good: bytes, huge: int, tls: ssl.SSLContext | None = None
) -> Iterator[MisbehavingServer]:
    """A server that answers ``/good`` with ``good`` and ``/huge`` with so many bytes."""
    server = MisbehavingServer(good, huge)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        server.shutdown()
        thread.join(10)
        server.server_close()


def self_signed(directory: Path, name: str) -> Path:
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


class _Handler(BaseHTTPRequestHandler):
    server: MisbehavingServer

    def do_GET(self) -> None:
        self.server.asked.append((self.headers["Host"], self.path))
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
        self._send(200, self.server.good)

    def _missing(self) -> None:
        self._send(404)

    def _redirect(self) -> None:
        self._send(302, Location="/good")

    def _huge(self) -> None:
        self._send(200, b" " * self.server.huge)

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.server.stop.is_set():
            self.wfile.write(b" " * 1000)

    def _compressed(self) -> None:
        self._send(200, gzip.compress(b" " * 5_000_000), Content_Encoding="gzip")

    def _drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.server.stop.wait(0.02):
            self.wfile.write(b" ")

    def _headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not self.server.stop.wait(0.02):
            self.wfile.write(b"X: y\r\n")

    def _silent(self) -> None:
        self.server.stop.wait(30)

    def _cut(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"half")

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""
