"""The API over HTTP: requests, lists, streams of events; errors as :class:`Failure`."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from orchestrator import __version__
from orchestrator.cli import problems
from orchestrator.cli.redact import redacted
from orchestrator.cli.session import Session
from orchestrator.errors import UserError

Json = dict[str, Any]

_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
# Comments come at least every 15 s, so a stream that is silent for longer is dead.
_STREAM_TIMEOUT = httpx.Timeout(45.0, connect=5.0)
_PAGE = 200
_EVENTS = 1000
_POLL_SECONDS = 2.0


class Api:
    """One server.  Every method raises :class:`problems.Failure`."""

    def __init__(self, session: Session, timeout: float | None = None) -> None:
        self.session = session
        self.server = _address(session.server)
        self._token: str | None = None
        self._client = httpx.Client(
            base_url=self.server,
            timeout=timeout or _TIMEOUT,
            headers={"User-Agent": f"vacuo/{__version__}", "Accept": "application/json"},
            # A token goes to the server that was named and to no other.
            follow_redirects=False,
            # A proxy of the environment is for the world outside, not for this machine.
            mounts={f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")},
        )

    def get(self, path: str, public: bool = False, **query: Any) -> Any:
        """The JSON at ``path``; query parameters that are None are left out."""
        return self.answer("GET", path, query, public=public).json()

    def text(self, path: str, **query: Any) -> httpx.Response:
        """The answer of a path that gives text."""
        return self.answer("GET", path, query, headers={"Accept": "text/plain"})

    def send(
        self, method: str, path: str, body: Json | None = None, headers: Mapping[str, str] = {}
    ) -> Any:
        """Send ``body``; the JSON of the answer, or None where it has none."""
        answer = self.answer(method, path, {}, body, headers)
        return answer.json() if answer.content else None

    def everything(self, path: str, **query: Any) -> list[Json]:
        """The whole content of a list, all its pages."""
        found: list[Json] = []
        number = 0
        while True:
            page = self.get(path, page=number, size=_PAGE, **query)
            found += page["content"]
            number += 1
            if number >= page["page"]["totalPages"]:
                return found

    def answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Json | None = None,
        headers: Mapping[str, str] = {},
        public: bool = False,
        accept: tuple[int, ...] = (),
    ) -> httpx.Response:
        """One request and its answer, which is not an error, or an error in ``accept``."""
        request = self._request(method, path, query, body, headers, public)
        response = self._sent(request)
        if response.status_code == httpx.codes.UNAUTHORIZED and not public and self._renewed():
            request = self._request(method, path, query, body, headers, public)
            response = self._sent(request)
        if not response.is_success and response.status_code not in accept:
            raise problems.of_response(response)
        return response

    def _sent(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._client.send(request)
        except httpx.TransportError as error:
            raise problems.unreachable(self.server, error) from error

    def _renewed(self) -> bool:
        """Whether looking for a token again found another one: the old one may have ended."""
        before, self._token = self._token, None
        return self.token() != before

    def events(self, path: str, since: int = 0, **query: Any) -> Iterator[Json]:
        """What happened after the event ``since``, oldest first, up to now."""
        while True:
            answer = self.get(path, since=since, limit=_EVENTS, **query)
            yield from answer["events"]
            if len(answer["events"]) < _EVENTS:
                return
            since = answer["last"]

    def follow(self, path: str, since: int = 0, **query: Any) -> Iterator[Json]:
        """Events after ``since`` as they happen, for ever or until the deployment is deleted.

        A server that has no stream to spare is asked again and again instead.  A connection that
        ends is a :class:`problems.Failure`; the caller decides whether to come back.
        """
        try:
            yield from self._stream(path, since, query)
        except problems.Failure as error:
            if error.code != "too-many-streams":
                raise
        else:
            return
        while True:
            for event in self.events(path, since, **query):
                since = event["sequence"]
                yield event
            time.sleep(_POLL_SECONDS)

    def _stream(self, path: str, since: int, query: Mapping[str, Any]) -> Iterator[Json]:
        request = self._request(
            "GET", path, {"since": since, **query}, None, {"Accept": "text/event-stream"}, False
        )
        request.extensions = {"timeout": _STREAM_TIMEOUT.as_dict()}
        try:
            response = self._client.send(request, stream=True)
            try:
                if not response.is_success:
                    response.read()
                    raise problems.of_response(response)
                for name, data in _messages(response.iter_lines()):
                    if name == "end":
                        return
                    yield data
            finally:
                response.close()
        except httpx.TransportError as error:
            raise problems.unreachable(self.server, error) from error
        raise problems.Failure(
            "The server ended the stream of events.", code="stream-ended", status=0
        )

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Json | None,
        headers: Mapping[str, str],
        public: bool,
    ) -> httpx.Request:
        sent = {name: _word(value) for name, value in query.items() if value is not None}
        request = self._client.build_request(
            method, path, params=sent, json=body, headers=dict(headers)
        )
        if self.session.show_request:
            self.session.say(curl(request, body, public))
        if not public:
            request.headers["Authorization"] = f"Bearer {self.token()}"
        return request

    def token(self) -> str:
        """The token of this call, looked for once."""
        if self._token is None:
            from orchestrator.cli.login import find_token

            self._token = find_token(self.session)
        return self._token


def curl(request: httpx.Request, body: Json | None, public: bool) -> str:
    """The command that sends ``request``, with the token left to the shell.

    Values of parameters whose names look secret are left out too: the line is made to be pasted
    into a ticket.
    """
    words = ["curl", "-X", request.method, shlex.quote(str(request.url))]
    if not public:
        words += ["-H", '"Authorization: Bearer $BEARER_TOKEN"']
    for name in ("Accept", "Content-Type", "Idempotency-Key", "If-Match"):
        if name in request.headers:
            words += ["-H", shlex.quote(f"{name}: {request.headers[name]}")]
    if body is not None:
        words += ["--data", shlex.quote(json.dumps(redacted(body)))]
    return " ".join(words)


def _address(server: str) -> str:
    try:
        url = httpx.URL(server)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme in ("http", "https") and url.host:
        return server.rstrip("/")
    raise UserError(
        f"{server} is not the address of a server.",
        "An address begins with https:// or http:// and has the name of a host.",
        "--server http://127.0.0.1:8420, or set VACUO_SERVER",
        code="server-address",
    )


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _messages(lines: Iterator[str]) -> Iterator[tuple[str, Json]]:
    """Server-sent events (HTML Living Standard, 9.2.6) as (event name, JSON data)."""
    name, data = "message", list[str]()
    for line in lines:
        if not line:
            if data:
                yield name, json.loads("\n".join(data))
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
