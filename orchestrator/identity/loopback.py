"""Where a browser comes back to after a login: a listener on loopback, for one answer.

RFC 8252, 7.3.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

PATH = "/callback"
WAIT_SECONDS = 300.0
_REQUEST_SECONDS = 5.0
_DONE = (
    b"<!doctype html><title>Vacuo</title><p>You can close this page and go back to the terminal."
)


class Loopback:
    """Listens on a free port of 127.0.0.1 and takes one answer: the first that has the ``state``.

    Whatever else comes is refused and changes nothing: other programs of this machine, and pages
    in its browser, can send requests too.
    """

    def __init__(self, state: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._clock = clock
        self._answer: dict[str, str] | None = None
        self._server = HTTPServer(("127.0.0.1", 0), self._handler())
        self.redirect_uri = f"http://127.0.0.1:{self._server.server_port}{PATH}"

    def __enter__(self) -> Loopback:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.server_close()

    def wait(self, seconds: float = WAIT_SECONDS) -> dict[str, str] | None:
        """The parameters of the answer; None if there was none in time."""
        until = self._clock() + seconds
        while self._answer is None and (left := until - self._clock()) > 0:
            self._server.timeout = min(left, 1.0)
            self._server.handle_request()
        return self._answer

    def _take(self, target: str, host: str) -> bool:
        try:
            parts = urlsplit(target)
            sent = parse_qs(parts.query, strict_parsing=True, max_num_fields=10)
        except ValueError:
            return False
        if parts.path != PATH or host != urlsplit(self.redirect_uri).netloc:
            return False
        if any(len(values) != 1 for values in sent.values()):
            return False
        found = {name: values[0] for name, values in sent.items()}
        if not hmac.compare_digest(found.get("state", "").encode(), self._state.encode()):
            return False
        self._answer = found
        return True

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        take = self._take

        class Handler(BaseHTTPRequestHandler):
            timeout = _REQUEST_SECONDS
            server_version = "vacuo"
            sys_version = ""

            def do_GET(self) -> None:
                good = take(self.path, self.headers.get("Host", ""))
                self.send_response(200 if good else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Security-Policy", "default-src 'none'")
                self.send_header("Referrer-Policy", "no-referrer")
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(_DONE if good else b"")

            def log_message(self, format: str, *args: object) -> None:
                """Its lines would have the code in them."""

            def handle(self) -> None:
                try:
                    super().handle()
                except (TimeoutError, ConnectionError):
                    return

        return Handler
