"""The output of a command in a container, of an engine that sends it as engines do under load."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import docker
import docker.errors
import pytest

from orchestrator.errors import Retryable
from orchestrator.providers.execution import Execution, execute

Talk = Callable[..., docker.DockerClient]


def frame(stream: int, content: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(content)) + content


@pytest.fixture
def engine() -> Iterator[Talk]:
    """An engine whose answer to the start of any command is ``sent``, header and all at once."""
    servers = []

    def serve(sent: bytes, code: int = 0, status: str = "200 OK") -> docker.DockerClient:
        asked = iter((True, False))  # it runs for a moment when its output has ended

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                if self.path.endswith("/start"):
                    self.wfile.write(f"HTTP/1.1 {status}\r\n\r\n".encode() + sent)
                else:
                    self._document({"Id": "one"})

            def do_GET(self) -> None:
                self._document({"Running": next(asked), "ExitCode": code})

            def _document(self, document: object) -> None:
                body = json.dumps(document).encode()
                head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
                self.wfile.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return docker.DockerClient(f"tcp://127.0.0.1:{server.server_port}", version="1.41")

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_output_that_comes_with_the_header_is_not_lost(engine: Talk) -> None:
    large = bytes(range(256)) * 1000
    client = engine(frame(1, b"first ") + frame(2, b"oh ") + frame(1, large), code=3)
    assert execute(client, "here", ["tar"]) == (3, b"first oh " + large)


def test_output_and_complaint_are_told_apart(engine: Talk) -> None:
    client = engine(frame(1, b"out") + frame(2, b"x" * 3000 + b" why\n") + frame(1, b"put"))
    run = Execution(client, "here", ["tar"])
    assert b"".join(run.output()) == b"output"
    assert run.complaint.endswith("x why")
    assert len(run.complaint) < 2001
    assert run.exit_code() == 0


def test_a_command_may_say_nothing(engine: Talk) -> None:
    assert execute(engine(b""), "here", ["true"]) == (0, b"")


@pytest.mark.parametrize(
    "sent",
    [frame(1, b"all of it")[:-3], frame(1, b"x")[:5], b"Error: no such thing", frame(7, b"x")],
    ids=["half a piece", "half a header", "a text", "no known stream"],
)
def test_an_engine_that_breaks_off_is_told_as_that(engine: Talk, sent: bytes) -> None:
    with pytest.raises(Retryable, match="tar"):
        execute(engine(sent), "here", ["tar"])


def test_a_refusal_is_the_engines(engine: Talk) -> None:
    with pytest.raises(docker.errors.APIError, match="409"):
        Execution(engine(b'{"message": "it does not run"}', status="409 Conflict"), "here", ["ls"])
