"""When a request has come whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.bodies import Body, awaited

MOST = 10_000
BEARER = b"Authorization: Bearer a.b.c"
LENGTH = b"Content-Length: 5"
CHUNKED = b"Transfer-Encoding: chunked"


def of(*headers: bytes, body: bytes = b"") -> Body | None:
    read = b"\r\n".join([b"POST / HTTP/1.1", b"Host: x", *headers]) + b"\r\n\r\n" + body
    return awaited(read, read.index(b"\r\n\r\n"), MOST)


@pytest.mark.parametrize(
    "credential",
    [
        BEARER,
        b"authorization:bearer x",
        b"Cookie: vacuo-session=x",
        b"Cookie: a=b; __Host-vacuo-session=x",
    ],
)
def test_a_body_with_what_may_be_a_credential_is_waited_for(credential: bytes) -> None:
    assert of(credential, LENGTH)
    assert of(credential, CHUNKED)


@pytest.mark.parametrize(
    "headers",
    [
        [LENGTH],
        [b"Authorization: Basic YTpi", LENGTH],
        [b"Authorization: Bearer", LENGTH],
        [b"Authorization: ", b"Cookie: vacuo-session=x", LENGTH],  # then no cookie counts
        [b"Cookie: other=x; xvacuo-session=y", LENGTH],
        [BEARER],
        [BEARER, b"Content-Length: 0"],
        [BEARER, b"Content-Length: -1"],
        [BEARER, b"Content-Length: x"],
        [BEARER, b"Content-Length: 10001"],  # refused without being read
        [BEARER, b"Content-Length: " + b"9" * 5000],
        [BEARER, LENGTH, LENGTH],
        [BEARER, LENGTH, CHUNKED],
        [BEARER, b"Transfer-Encoding: gzip, chunked"],
        [BEARER, b"no colon", LENGTH],
    ],
)
def test_what_will_not_be_read_is_not_waited_for(headers: list[bytes]) -> None:
    assert of(*headers) is None


def test_a_body_of_a_known_length_is_whole_when_it_is_there() -> None:
    body = Body(10, 5, MOST, continues=False)
    assert not body.whole(bytearray(b"x" * 14))
    assert body.whole(bytearray(b"x" * 15))


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.booleans(), st.integers(1, 9))
def test_a_body_in_chunks_is_whole_at_its_last_byte_and_not_before(
    chunks: list[bytes], trailer: bool, step: int
) -> None:
    sent = b"".join(b"%x;a=b\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    sent += b"0\r\nX: y\r\n\r\n" if trailer else b"0\r\n\r\n"
    body = Body(0, None, MOST, continues=False)
    for end in range(1, len(sent), step):
        assert not body.whole(bytearray(sent[:end]))
    assert body.whole(bytearray(sent))


@pytest.mark.parametrize(
    "sent",
    [
        b"x\r\n",
        b"-1\r\n",
        b"\r\n",
        b"ffffffffffffffff\r\n",
        b"fffffffff\r\n",  # more than is read
        b"1" * 2000,
        b"0\r\n" + b"x" * 2000,
        b"2711\r\n",
    ],
)
def test_chunks_that_are_not_in_order_are_not_waited_for(sent: bytes) -> None:
    assert Body(0, None, MOST, continues=False).whole(bytearray(sent))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_at_all_are_judged_without_an_error(sent: bytes) -> None:
    Body(0, None, MOST, continues=False).whole(bytearray(sent))
    awaited(sent, len(sent), MOST)
