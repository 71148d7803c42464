"""The real server, with clients that are slow, silent, broken or too many: others are served."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from real_server import Server

from orchestrator.api.server import HTTP_THREADS
from orchestrator.api.worker import BODIES_BYTES, CONNECTIONS, HEAD_BYTES

SLOW = 3 * HTTP_THREADS
HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    try:
        made.wait()
        yield made
    finally:
        made.stop()


@pytest.fixture
def many() -> Iterator[list[socket.socket]]:
    """Connections to be closed at the end."""
    kept: list[socket.socket] = []
    yield kept
    for one in kept:
        one.close()


def answer(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            found += part
    return found


@pytest.mark.parametrize(
    "sent",
    [b"", b"G", HEAD, HEAD + b"X-A: " + b"b" * 5000],
    ids=["nothing", "a letter", "half a head", "a long half"],
)
def test_slow_heads_keep_nobody_from_being_served(
    server: Server, many: list[socket.socket], sent: bytes
) -> None:
    many += [server.connect(sent) for _ in range(SLOW)]
    for _ in range(3):
        assert server.get("/healthz").json() == {"status": "ok"}
    for slow in many[:5]:  # and they may still go on
        slow.sendall((HEAD if not sent else HEAD[len(sent) :]) + b"\r\n\r\n")
        assert answer(slow).startswith(b"HTTP/1.1 200 ")


def test_more_connections_than_there_is_room_for_push_out_the_slowest(
    server: Server, many: list[socket.socket]
) -> None:
    many += [server.connect(HEAD) for _ in range(CONNECTIONS + 50)]
    assert server.get("/healthz").json() == {"status": "ok"}
    assert answer(many[0]) == b""


def test_a_head_that_never_ends_is_cut_off(server: Server) -> None:
    with server.connect(HEAD) as slow:
        assert answer(slow) == b""


def test_clients_that_do_not_close_keep_nobody_from_being_served(
    server: Server, many: list[socket.socket]
) -> None:
    many += [server.connect(HEAD + b"\r\n") for _ in range(SLOW)]
    assert server.get("/healthz").json() == {"status": "ok"}
    assert all(answer(one).startswith(b"HTTP/1.1 200 ") for one in many)


def body_of(length: int, token: str = "") -> bytes:
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    return (
        f"POST /deployments HTTP/1.1\r\nHost: x\r\n{bearer}"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def test_a_slow_body_without_a_token_is_answered_at_once(
    server: Server, many: list[socket.socket]
) -> None:
    many += [server.connect(body_of(100_000) + b"{") for _ in range(SLOW)]
    assert server.get("/healthz").json() == {"status": "ok"}
    for one in many:
        assert answer(one).startswith(b"HTTP/1.1 401 ")


def test_a_slow_body_with_a_token_is_given_up(server: Server) -> None:
    with server.connect(body_of(100_000, server.token()) + b"{") as slow:
        assert answer(slow).startswith(b"HTTP/1.1 408 ")


def with_header(head: bytes, header: bytes) -> bytes:
    return head.replace(b"Host: x", b"Host: x\r\n" + header)


CHUNKED = b"POST /deployments HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("form", ["length", "chunks", "half a chunk", "cookie", "expected"])
def test_slow_bodies_with_a_token_keep_nobody_from_being_served(
    server: Server, many: list[socket.socket], form: str
) -> None:
    token = server.token()
    bearer = f"Authorization: Bearer {token}\r\n".encode()
    sent = {
        "length": body_of(100_000, token) + b"{",
        "chunks": CHUNKED + bearer + b"\r\n1\r\n{\r\n",
        "half a chunk": CHUNKED + bearer + b"\r\nfff0\r\n{0\r\n\r\n",
        "cookie": with_header(body_of(100_000), b"Cookie: vacuo-session=" + b"A" * 43),
        "expected": with_header(body_of(9, token), b"Expect: 100-continue"),
    }[form]
    many += [server.connect(sent) for _ in range(SLOW)]
    for _ in range(3):
        assert server.get("/healthz").json() == {"status": "ok"}


def test_bodies_that_are_not_finished_take_bounded_memory(
    server: Server, many: list[socket.socket]
) -> None:
    size = 2_000_000  # the longest that is read
    head, part = body_of(size, server.token()), b"{" * (size - 1)
    for _ in range(BODIES_BYTES // size + 2):
        many.append(server.connect(head))
        many[-1].sendall(part)
    assert server.get("/healthz").json() == {"status": "ok"}
    assert answer(many[0]).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("parts", [1, 2, 40])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_comes_in_parts_is_read_whole(
    server: Server, parts: int, chunked: bool
) -> None:
    body = json.dumps({"template": "x: " + "y" * 30_000}).encode()
    bearer = f"Authorization: Bearer {server.token()}\r\nContent-Type: application/json\r\n"
    step = -(-len(body) // parts)
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    head = CHUNKED if chunked else body_of(len(body)).split(b"Content-Type")[0]
    length = b"" if chunked else f"Content-Length: {len(body)}\r\n".encode()
    with server.connect(head.replace(b"/deployments", b"/validate") + bearer.encode()) as one:
        one.sendall(length + b"\r\n")
        for piece in pieces:
            one.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            one.sendall(b"0\r\n\r\n")
        found = answer(one)
    assert found.startswith(b"HTTP/1.1 400 ")
    assert b"template-invalid" in found


def test_a_client_that_waits_to_be_told_to_go_on_is_told(server: Server) -> None:
    body = b'{"template": 1}'
    head = body_of(len(body), server.token()).replace(
        b"Host: x", b"Host: x\r\nExpect: 100-continue"
    )
    with server.connect(head) as one:
        assert one.recv(100).startswith(b"HTTP/1.1 100 ")
        one.sendall(body)
        assert b"HTTP/1.1 400 " in answer(one)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (HEAD + b"X-A: " + b"b" * 20_000 + b"\r\n\r\n", 431),
        (HEAD + b"X-A: b\r\n" * 100 + b"\r\n", 431),
        (HEAD + b"X-A: " + b"b" * (HEAD_BYTES + 1000), 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03secret-word\r\n\r\n", 400),
        (b"GET /secret-word\r\n\r\n", 400),
        (HEAD + b"X-secret-word\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + b"X-Request-Id: a\r\n\tb\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused_in_the_form_of_the_api(
    server: Server, sent: bytes, status: int
) -> None:
    with server.connect(sent) as connection:
        head, _, body = answer(connection).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"nosniff" in head
    assert b"secret-word" not in head + body
    assert json.loads(body)["status"] == status


def test_a_request_id_cannot_bring_a_header_or_a_log_line(server: Server) -> None:
    for evil in ("a b", "x" * 65, "{{ 7*7 }}", "\u00e9", "a;b", '"'):
        found = httpx.get(
            f"{server.url}/healthz", headers={b"X-Request-Id": evil.encode()}, timeout=60
        )
        assert found.headers["X-Request-Id"] != evil
    assert "7*7" not in server.log.read_text()


def test_the_server_stops_in_order_while_clients_are_slow(tmp_path: Path) -> None:
    own: Any = Server(tmp_path)
    try:
        own.wait()
        slow = [own.connect(HEAD) for _ in range(SLOW)]
        assert own.stop() == 0
        assert all(answer(one) == b"" for one in slow)
    finally:
        own.stop()
