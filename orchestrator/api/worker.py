"""gunicorn's threaded worker, for clients that are slow on purpose.

As it ships, a thread waits for the bytes of a request, and the one loop waits for each client to
close: a few dozen idle connections keep everybody else from being served.  Here the loop gathers
a request as its bytes come, head and body, in bounded memory; a thread is given to it when it is
whole.  Without what may be a credential the body is not waited for: it will not be read.  Whatever
a thread still has to read is bounded in time, as sending the answer is, and a connection that is
answered is closed without waiting.  Each connection is one request.

It depends on the inside of gunicorn's worker, hence on its major version (``pyproject.toml``);
``tests/conformance/test_slow_clients.py`` runs it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import selectors
import socket
import time
from collections import deque
from typing import Any

from gunicorn import http
from gunicorn.http import errors
from gunicorn.workers.gthread import TConn, ThreadWorker

from orchestrator.api.app import SECURITY_HEADERS
from orchestrator.api.bodies import Body, awaited

log = logging.getLogger(__name__)

HEAD_SECONDS = 10.0
HEAD_BYTES = 64 * 1024
BODY_SECONDS = 30.0
SEND_SECONDS = 30.0
LINGER_SECONDS = 2.0
BODIES_BYTES = 64 * 1024 * 1024  # of all that are gathered at a time
CONNECTIONS = 512  # with the database and all else below the usual 1024 open files
_READ = 64 * 1024
_END = b"\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_SLOW_BODY = "The body of the request came too slowly."


class _Reader:
    """Receives from a socket until a moment, and not beyond, however slowly bytes come."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._socket = connection
        self._deadline = deadline

    def recv(self, most: int) -> bytes:
        left = self._deadline - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            return self._socket.recv(most)
        except TimeoutError:
            raise ConnectionResetError(errno.ECONNRESET, "the client is too slow") from None
        finally:
            with contextlib.suppress(OSError):
                self._socket.settimeout(SEND_SECONDS)


class _Connection(TConn):
    """One request; ``read`` is what has come of it, ``body`` what is waited for."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.read = bytearray()
        self.body: Body | None = None
        self.taken = 0  # bytes read after the answer, and thrown away
        self.data_ready = True
        self.until = 0.0

    def init(self) -> None:
        """Called by a thread, with what it needs of the request there."""
        self.initialized = True
        self.sock.settimeout(SEND_SECONDS)
        parser: Any = http.get_parser(self.cfg, self.sock, self.client)
        parser.unreader.unread(bytes(self.read))
        self.read.clear()
        parser.unreader.sock = _Reader(self.sock, time.monotonic() + BODY_SECONDS)
        self.parser = parser


class Worker(ThreadWorker):
    """Use it with ``keepalive`` 0."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        # Each is in the order of its connections' deadlines.
        self._heads: deque[_Connection] = deque()
        self._bodies: deque[_Connection] = deque()
        self._held = 0  # bytes of those
        self._lingering: deque[_Connection] = deque()

    def accept(self, listener: socket.socket) -> None:
        """Take a connection, at the expense of the one that has been slow for longest."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                return
            raise
        self.nr_conns += 1
        connection = _Connection(self.cfg, client, address, listener.getsockname())
        self._wait(connection, self._heads, HEAD_SECONDS, self._gather)
        if self.nr_conns >= self.worker_connections:
            for waiting in (self._lingering, self._heads, self._bodies):
                if waiting:
                    self._drop(waiting[0], waiting)
                    break

    def _wait(
        self, connection: _Connection, among: deque[_Connection], seconds: float, then: Any
    ) -> None:
        connection.sock.setblocking(False)
        connection.until = time.monotonic() + seconds
        among.append(connection)
        self.poller.register(
            connection.sock, selectors.EVENT_READ, lambda _socket: then(connection)
        )

    def _leave(self, connection: _Connection, among: deque[_Connection]) -> None:
        among.remove(connection)
        if among is self._bodies:
            self._held -= len(connection.read)
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.poller.unregister(connection.sock)

    def _drop(self, connection: _Connection, among: deque[_Connection]) -> None:
        self._leave(connection, among)
        self.nr_conns -= 1
        connection.close()

    def _gather(self, connection: _Connection) -> None:
        """More of a head has come, or the client is gone."""
        read = self._receive(connection, self._heads)
        if not read:
            return
        before = max(0, len(connection.read) - len(_END))
        connection.read += read
        end = connection.read.find(_END, before)
        if end >= 0:
            self._leave(connection, self._heads)
            self._with_head(connection, end)
        elif len(connection.read) > HEAD_BYTES:
            self._refuse(connection, self._heads, 431, "The head of the request is too large.")

    def _with_head(self, connection: _Connection, end: int) -> None:
        """The head is whole: wait for the body, where one is to be read that has not come."""
        app: Any = self.wsgi
        body = awaited(bytes(connection.read), end, app.config["MAX_CONTENT_LENGTH"])
        if body is None or body.whole(connection.read):
            self.enqueue_req(connection)
            return
        connection.body = body
        self._held += len(connection.read)
        self._wait(connection, self._bodies, BODY_SECONDS, self._gather_body)
        if body.continues:
            with contextlib.suppress(OSError):
                connection.sock.send(_CONTINUE)

    def _gather_body(self, connection: _Connection) -> None:
        """More of a body has come, or the client is gone."""
        read = self._receive(connection, self._bodies)
        if not read or connection.body is None:
            return
        connection.read += read
        self._held += len(read)
        if connection.body.whole(connection.read):
            self._leave(connection, self._bodies)
            self.enqueue_req(connection)
        while self._held > BODIES_BYTES:
            self._refuse(self._bodies[0], self._bodies, 408, _SLOW_BODY)

    def _receive(self, connection: _Connection, among: deque[_Connection]) -> bytes:
        """What has come; empty where nothing has, and where the client is gone, as it is then."""
        try:
            read = connection.sock.recv(_READ)
        except BlockingIOError:
            return b""
        except OSError:
            read = b""
        if not read:
            self._drop(connection, among)
        return read

    def _refuse(
        self, connection: _Connection, among: deque[_Connection], status: int, sentence: str
    ) -> None:
        self._leave(connection, among)
        connection.read.clear()
        with contextlib.suppress(OSError):
            connection.sock.send(refusal(status, sentence))
        self._linger(connection)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """A thread is done with it: say so to the client, and do not wait for its answer."""
        if not fs.cancelled() and fs.exception() is not None:
            log.error("a connection failed", exc_info=fs.exception())
        self._linger(conn)

    def _linger(self, connection: _Connection) -> None:
        """Closed at once, the kernel would cut off an answer whose request was not read whole."""
        try:
            connection.sock.shutdown(socket.SHUT_WR)
            self._wait(connection, self._lingering, LINGER_SECONDS, self._discard)
        except (OSError, ValueError):
            self.nr_conns -= 1
            connection.close()

    def _discard(self, connection: _Connection) -> None:
        try:
            read = len(connection.sock.recv(_READ))
        except BlockingIOError:
            return
        except OSError:
            read = 0
        connection.taken += read
        if not read or connection.taken > HEAD_BYTES:
            self._drop(connection, self._lingering)

    def murder_pending(self) -> None:
        """Close what has waited for too long; all of it when the worker stops."""
        now = time.monotonic()
        for waiting in (self._heads, self._lingering, self._bodies):
            while waiting and (waiting[0].until <= now or not self.alive):
                if waiting is self._bodies and self.alive:
                    self._refuse(waiting[0], waiting, 408, _SLOW_BODY)
                else:
                    self._drop(waiting[0], waiting)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """What is no HTTP is refused in words of ours, without what was sent."""
        status, sentence = 500, "The request failed."
        if isinstance(exc, errors.LimitRequestLine):
            status, sentence = 414, "The address of the request is too long."
        elif isinstance(exc, errors.LimitRequestHeaders):
            status, sentence = 431, "The head of the request is too large."
        elif isinstance(exc, errors.ParseException):
            status, sentence = 400, "This is not HTTP as it should be."
        if status == 500:
            log.error("a request failed outside of the application", exc_info=exc)
        else:
            log.info("a request was refused with %d: %s", status, type(exc).__name__)
        with contextlib.suppress(OSError):
            client.sendall(refusal(status, sentence))


_REASONS = {
    400: "Bad Request",
    408: "Request Timeout",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
}
_CODES = dict.fromkeys(_REASONS, "request-invalid") | {500: "internal"}


def refusal(status: int, sentence: str) -> bytes:
    """A whole answer to what does not reach the application, in the form of the API's errors."""
    problem = {"title": _REASONS[status], "status": status, "code": _CODES[status]}
    body = json.dumps({**problem, "what": sentence, "why": "", "attempt": ""}).encode()
    headers = {
        **SECURITY_HEADERS,
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
