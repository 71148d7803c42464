"""Callbacks: refused unless listed, signed, called at least once and in order, over real TLS."""

from __future__ import annotations

import hashlib
import json
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from api_world import ApiWorld, submission
from misbehaving_server import self_signed

from orchestrator.api.deployments import shown
from orchestrator.api.requests import Services
from orchestrator.control import callbacks
from orchestrator.control.callbacks import ATTEMPTS, Callbacks, guard
from orchestrator.model import DeploymentId, EventKind
from orchestrator.outbound import Outbound
from orchestrator.settings import Callbacks as CallbackSettings
from orchestrator.store.repository import Repository

HOST = "hooks.example.org"
SECONDS = 20.0


class Receiver(ThreadingHTTPServer):
    """Takes calls over TLS; ``answers`` are the statuses of the next ones, then 204."""

    daemon_threads = True

    def __init__(self, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.calls: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.go_on = threading.Event()
        self.go_on.set()

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, _, body in self.calls]

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that turn away are expected."""


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append((self.path, dict(self.headers.items()), body))
        self.server.go_on.wait(60)
        status = self.server.answers.pop(0) if self.server.answers else 204
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"), HOST)


@pytest.fixture
def receiver(certificate: Path) -> Iterator[Receiver]:
    made = Receiver(certificate)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.go_on.set()
    made.shutdown()
    made.server_close()


class World(ApiWorld):
    """A server that may call the receiver, whose name has the ``addresses``."""

    def __init__(self, directory: Path, receiver: Receiver, certificate: Path) -> None:
        super().__init__(directory)
        self.receiver = receiver
        self.certificate = certificate
        self.addresses = ["127.0.0.1"]
        self.url = f"https://{HOST}:{receiver.server_port}/hook?key=of-the-receiver"
        at = f"{HOST}:{receiver.server_port}"
        self.allowed = CallbackSettings(hosts=(at,), private_hosts=(at,), seconds=SECONDS)
        self.orchestrator.settings = self.settings.model_copy(update={"callbacks": self.allowed})
        self.signer = Services.of(self.app).signer
        self.caller = self.new_caller(self.repository)

    def new_caller(self, repository: Repository) -> Callbacks:
        client = Outbound(
            guard(self.allowed),
            lambda host, port: tuple(self.addresses),
            ssl.create_default_context(cafile=str(self.certificate)),
        )
        return Callbacks(
            repository,
            client,
            self.signer,
            lambda told: shown(self.orchestrator, told).model_dump_json().encode(),
            seconds=self.allowed.seconds,
            clock=self._clock,
        )

    def call_all(self) -> int:
        """Carry out what is due now; how many that was."""
        due = self.repository.calls_due(self.now)
        for call in due:
            self.caller.carry_out(call)
        return len(due)

    def create(self, who: str = "alice", **headers: str) -> Any:
        body = submission(callback=self.url)
        answer = self.send("POST", "/deployments", body, who=who, **headers)
        assert answer.status_code == 201, answer.text
        return answer.json

    def codes(self, id: str) -> list[str]:
        found = self.repository.events(deployment=DeploymentId(id), kinds=[EventKind.ACTION])
        return [event.code for event in found if event.code.startswith("callback")]


@pytest.fixture
def world(tmp_path: Path, receiver: Receiver, certificate: Path) -> Iterator[World]:
    made = World(tmp_path, receiver, certificate)
    yield made
    made.close()


def until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in a minute"
        time.sleep(0.01)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example.org/",
        f"https://{HOST}/",
        f"https://{HOST}.evil.example:1/",
        "https://127.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://localhost:8420/deployments",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/deployments"), ("PUT", ""), ("POST", "/plan")]
)
def test_a_callback_to_a_host_that_is_not_listed_is_refused(
    world: World, url: str, method: str, path: str
) -> None:
    path = path or f"/deployments/{world.create()['uuid']}"
    answer = world.send(method, path, submission(callback=url))
    assert (answer.status_code, answer.json["code"]) == (400, "callback-refused")
    assert "not a host that this server asks" in answer.json["why"]
    assert "callbacks" in answer.json["attempt"]


def test_without_hosts_no_callback_is_taken(tmp_path: Path) -> None:
    plain = ApiWorld(tmp_path)
    answer = plain.send("POST", "/deployments", submission(callback="https://example.org/"))
    assert answer.json["code"] == "callback-refused"
    plain.close()


# --- what is called -------------------------------------------------------------------------------


def test_each_change_of_the_status_is_called_in_order_with_what_get_shows(world: World) -> None:
    id = world.create()["uuid"]
    assert world.call_all() == 0
    world.passes(id, 20)
    shown_now = world.get(f"/deployments/{id}").json
    assert shown_now["status"] == "CREATE_COMPLETE"
    assert world.client.delete(f"/deployments/{id}", headers=world.headers()).status_code == 204
    world.passes(id, 20)
    while world.call_all():
        pass
    assert [body["status"] for body in world.receiver.bodies] == [
        "CREATE_COMPLETE",
        "DELETE_IN_PROGRESS",
        "DELETE_COMPLETE",
    ]
    last = world.receiver.bodies[-1]
    assert last == world.get(f"/deployments/{id}").json
    assert last.keys() == shown_now.keys()
    assert world.receiver.calls[0][0] == "/hook?key=of-the-receiver"


def converged(world: World) -> str:
    id: str = world.create()["uuid"]
    world.passes(id, 20)
    return id


def test_a_call_is_signed_with_the_published_key(world: World, tmp_path: Path) -> None:
    id = converged(world)
    assert world.call_all() == 1
    _, headers, body = world.receiver.calls[0]
    published = world.client.get("/.well-known/jwks.json").json
    key = jwt.PyJWKSet.from_dict(published).keys[0]
    assert "d" not in published["keys"][0]
    token = headers["Vacuo-Signature"]
    claims = jwt.decode(token, key, algorithms=["ES256"], audience=world.url)
    assert claims["sha256"] == hashlib.sha256(body).hexdigest()
    assert (claims["iss"], claims["sub"]) == (world.settings.url, id)
    assert claims["iat"] <= time.time() + 60
    assert claims["jti"]
    header = jwt.get_unverified_header(token)
    assert (header["typ"], header["kid"]) == ("vacuo-callback+jwt", key.key_id)
    kept = tmp_path / "keys/signing.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


def test_a_signature_of_a_call_is_no_access_token(world: World) -> None:
    converged(world)
    world.call_all()
    token = world.receiver.calls[0][1]["Vacuo-Signature"]
    answer = world.client.get("/deployments", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


def test_a_call_that_fails_is_made_again_and_holds_back_later_ones(world: World) -> None:
    world.receiver.answers = [500, 404]
    id = converged(world)
    world.client.delete(f"/deployments/{id}", headers=world.headers())
    assert world.call_all() == 1
    assert world.call_all() == 0
    world.now += 26
    assert world.call_all() == 1
    world.now += 26
    assert world.call_all() == 1
    assert world.call_all() == 1
    statuses = [body["status"] for body in world.receiver.bodies]
    assert statuses == [*["CREATE_COMPLETE"] * 3, "DELETE_IN_PROGRESS"]
    names = {
        jwt.decode(headers["Vacuo-Signature"], options={"verify_signature": False})["jti"]
        for _, headers, _ in world.receiver.calls
    }
    assert len(names) == 2
    assert world.codes(id) == ["callback-failed"]


def test_a_receiver_that_never_takes_it_is_given_up(world: World) -> None:
    world.receiver.answers = [503] * (ATTEMPTS + 5)
    id = converged(world)
    for _ in range(ATTEMPTS):
        assert world.call_all() == 1
        world.now += callbacks.LONGEST_PAUSE_SECONDS + 1
    assert world.call_all() == 0
    assert len(world.receiver.calls) == ATTEMPTS
    assert world.codes(id) == ["callback-failed", "callback-given-up"]


def test_an_old_call_is_tried_once_more_and_then_given_up(world: World) -> None:
    world.receiver.answers = [503]
    id = converged(world)
    world.now += callbacks.AGE_SECONDS + 60
    assert world.call_all() == 1
    assert world.call_all() == 0
    assert world.codes(id) == ["callback-given-up"]


def test_a_redirect_of_a_receiver_is_not_followed(world: World) -> None:
    world.receiver.answers = [302, 307, 308]
    id = converged(world)
    for _ in range(3):
        assert world.call_all() == 1
        world.now += 60
    assert {path for path, _, _ in world.receiver.calls} == {"/hook?key=of-the-receiver"}
    assert len(world.receiver.calls) == 3
    assert world.codes(id) == ["callback-failed"]


def test_a_name_that_turns_to_a_private_address_is_not_called(world: World) -> None:
    world.allowed = world.allowed.model_copy(update={"private_hosts": ()})
    world.caller = world.new_caller(world.repository)
    for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"):
        world.addresses = [address]
        converged(world)
        assert world.call_all() >= 1
    assert world.receiver.calls == []


def test_the_events_and_the_log_do_not_have_the_address(world: World, caplog: Any) -> None:
    world.receiver.answers = [500]
    id = converged(world)
    with caplog.at_level("DEBUG"):
        world.call_all()
    events = world.repository.events(deployment=DeploymentId(id))
    assert "of-the-receiver" not in repr(events) + caplog.text


# --- what must not be lost, and must not wait -----------------------------------------------------


def test_a_server_that_dies_before_or_during_a_call_calls_again(world: World) -> None:
    converged(world)
    [call] = world.repository.calls_due(world.now)
    assert world.repository.begin_call(call, world.now + 30)  # and here it dies
    assert not world.repository.begin_call(call, world.now + 30)  # another server has no part
    again = Repository.open(world.settings.database_url)
    world.caller = world.new_caller(again)
    assert again.calls_due(world.now) == []
    world.now += 31
    [call] = again.calls_due(world.now)
    world.caller.carry_out(call)
    assert [body["status"] for body in world.receiver.bodies] == ["CREATE_COMPLETE"]
    assert again.calls_due(world.now + 1e6) == []
    again.close()


def test_a_change_that_is_not_stored_is_not_called(world: World, monkeypatch: Any) -> None:
    id = world.create()["uuid"]

    def fail(*_: object) -> None:
        raise RuntimeError("in the same transaction")

    monkeypatch.setattr("orchestrator.store.journal.append", fail)
    with pytest.raises(RuntimeError):
        world.passes(id, 20)
    monkeypatch.undo()
    assert world.repository.calls_due(1e12) == []


def test_a_slow_receiver_delays_neither_the_loop_nor_others(world: World) -> None:
    world.receiver.go_on.clear()
    world.caller.start()
    slow = [converged(world) for _ in range(4)]  # passes go on: they are in this very thread
    until(lambda: len(world.receiver.calls) == callbacks.AT_ONCE_PER_HOST)
    world.passes(slow[0], 3)
    assert len(world.receiver.calls) == callbacks.AT_ONCE_PER_HOST
    world.receiver.go_on.set()
    until(lambda: len(world.receiver.calls) == len(slow))
    world.caller.stop()
    assert {body["uuid"] for body in world.receiver.bodies} == set(slow)
    assert world.repository.calls_due(1e12) == []
