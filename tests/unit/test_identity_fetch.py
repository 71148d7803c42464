"""Keys are fetched over real HTTP, from servers that do not behave."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from orchestrator.identity import endpoints
from orchestrator.identity.endpoints import MAXIMUM_BODY, IssuerAway, ask

STOP = threading.Event()


class Handler(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        getattr(self, f"_{self.path.strip('/')}")()

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _good(self) -> None:
        self._send(200, b'{"keys": []}')

    def _missing(self) -> None:
        self._send(404)

    def _redirect(self) -> None:
        self._send(302, Location="/good")

    def _huge(self) -> None:
        self._send(200, b" " * (MAXIMUM_BODY + 1))

    def _bomb(self) -> None:
        self._send(200, gzip.compress(b" " * 50_000_000), Content_Encoding="gzip")

    def _slow(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not STOP.wait(0.05):
            self.wfile.write(b" ")
            self.wfile.flush()

    def _silent(self) -> None:
        STOP.wait(30)

    def _cut(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    STOP.clear()
    Handler.asked = []
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    threading.Thread(target=running.serve_forever, daemon=True).start()
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # this machine is not behind a proxy
    yield f"http://127.0.0.1:{running.server_port}"
    STOP.set()
    running.shutdown()
    running.server_close()


def test_document_is_fetched(server: str) -> None:
    assert ask(f"{server}/good") == b'{"keys": []}'


@pytest.mark.parametrize("path", ["missing", "huge", "cut"])
def test_bad_answer_is_refused(server: str, path: str) -> None:
    with pytest.raises(IssuerAway):
        ask(f"{server}/{path}")


def test_redirect_is_not_followed(server: str) -> None:
    with pytest.raises(IssuerAway, match="302"):
        ask(f"{server}/redirect")
    assert Handler.asked == ["/redirect"]


def test_compressed_answer_is_not_unpacked(server: str) -> None:
    assert len(ask(f"{server}/bomb")) < MAXIMUM_BODY


@pytest.mark.parametrize("path", ["slow", "silent"])
def test_slow_answer_is_given_up(server: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "FETCH_SECONDS", 0.5)
    with pytest.raises(IssuerAway):
        ask(f"{server}/{path}")


def test_server_that_is_not_there(server: str) -> None:
    with pytest.raises(IssuerAway, match="ConnectError"):
        ask("http://127.0.0.1:1/")
