"""A Unix socket in front of another one, which can lose an answer after it was given."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path


class LossySocket:
    """Relays every connection to ``behind`` until it is closed."""

    def __init__(self, path: Path, behind: Path) -> None:
        self.path = path
        self._behind = behind
        self._swallow: bytes | None = None
        self._silently = False
        self._clients: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def swallow_answer_to(self, words: bytes, *, silently: bool = False) -> None:
        """Forward the next request that contains ``words``, wait for its answer and throw it away.

        The connection then breaks; or, ``silently``, stays open with nothing ever coming.
        """
        self._swallow, self._silently = words, silently

    def close(self) -> None:
        """Break every connection, and refuse new ones from now on."""
        self.path.unlink(missing_ok=True)
        self._listener.close()
        for client in list(self._clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        lost = threading.Event()
        with client, server, contextlib.suppress(OSError):
            self._clients.add(client)
            server.connect(str(self._behind))
            arguments = (server, client, lost)
            threading.Thread(target=self._pump_answers, args=arguments, daemon=True).start()
            while chunk := client.recv(65536):
                if self._swallow and self._swallow in chunk:
                    self._swallow = None
                    lost.set()
                server.sendall(chunk)
        self._clients.discard(client)

    def _pump_answers(
        self, server: socket.socket, client: socket.socket, lost: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := server.recv(65536):
                if not lost.is_set():
                    client.sendall(chunk)
                elif not self._silently:
                    break
            client.shutdown(socket.SHUT_RDWR)
