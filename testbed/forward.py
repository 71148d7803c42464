"""A port of this machine that leads to another: what a reverse proxy is to a server on loopback."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator

_ENOUGH = 65536


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextlib.contextmanager
def forwarded(port: int) -> Iterator[int]:
    """A free port on every address of this machine that leads to ``port`` on loopback."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as to:
                back = threading.Thread(target=_copy, args=(to, self.request), daemon=True)
                back.start()
                _copy(self.request, to)
                back.join()

    with _Server(("0.0.0.0", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_ENOUGH):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
