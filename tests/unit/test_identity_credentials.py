"""Where the command line finds a token; logins against the real development issuer."""

from __future__ import annotations

import logging
import os
import stat
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from flask import Flask, jsonify

from orchestrator.errors import UserError
from orchestrator.identity import issuer
from orchestrator.identity.credentials import (
    Credential,
    Credentials,
    DeviceCode,
    Login,
    LoginTarget,
    NoCredential,
)
from orchestrator.identity.login import IssuerSilent, LoginEnded
from orchestrator.identity.tokens import TokenValidator
from orchestrator.settings import Settings

SERVER = "http://127.0.0.1:8420"
BAD_TOKENS = ["", "two words", "tab\there", "line\nbreak", "ünicode", "x" * 20_000]


class Network(httpx.BaseTransport):
    """The server behind httpx, which can be cut off, and which counts requests by path."""

    def __init__(self, app: Flask) -> None:
        self._inner = httpx.WSGITransport(app=app)
        self.down = False
        self.answers: dict[str, httpx.Response] = {}
        self.asked: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked.append(path)
        if self.down:
            raise httpx.ConnectError("down")
        return self.answers.get(path) or self._inner.handle_request(request)


class World:
    def __init__(self, directory: Path) -> None:
        self.now = 1_700_000_000.0
        settings = Settings(data_directory=directory / "data", development_issuer=True)
        self.development = issuer.build(settings, lambda: self.now)
        self.validator = TokenValidator([], lambda: self.now, own=self.development)
        self.network = Network(self._app())
        self.home = directory / "home"
        self.home.mkdir()
        self.shared = directory / "tmp"
        self.shared.mkdir()
        self.environment = {"HOME": str(self.home), "PATH": str(directory / "bin")}
        self.codes: list[DeviceCode] = []

    def _app(self) -> Flask:
        app = Flask(__name__, static_folder=None)
        app.register_blueprint(self.development.blueprint)
        of = self.development.issuer

        @app.get("/info")
        def info() -> Any:
            entry = {
                "name": of.name,
                "issuer": of.issuer,
                "clientId": of.client_id,
                "audiences": list(of.audiences),
            }
            return jsonify({"issuers": [entry]})

        return app

    @property
    def credentials(self) -> Credentials:
        """A new process of the same user."""
        return Credentials(
            self.environment, self.network, lambda: self.now, self._sleep, self.shared
        )

    def _sleep(self, seconds: float) -> None:
        assert seconds >= 1
        self.now += seconds

    def answer(self, code: DeviceCode, answer: str = "approve") -> None:
        self.codes.append(code)
        with httpx.Client(transport=self.network) as browser:
            done = browser.post(
                code.verification_uri,
                data={"user_code": code.user_code, "user": "alice", "answer": answer},
            )
            assert done.status_code == 200

    def login(self) -> Credential:
        return self.credentials.device_login(SERVER, self.answer)

    def subject(self, credential: Credential) -> str:
        return self.validator.validate(f"Bearer {credential.token}").principal.subject

    def cache(self) -> Path:
        (found,) = (self.home / ".local/state/vacuo/logins").glob("*.json")
        return found

    def lie_around(self, directory: Path, token: str, mode: int = 0o600) -> Path:
        path = directory / f"bt_u{os.geteuid()}"
        path.write_text(f"{token}\n")
        path.chmod(mode)
        return path


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- the user's own login ------------------------------------------------------------------------


def test_device_login_gives_a_token_that_the_server_accepts(world: World) -> None:
    credential = world.login()
    assert world.subject(credential) == "alice"
    assert credential.seconds_left(world.now) == pytest.approx(3600, abs=60)
    assert world.credentials.find(SERVER) == credential
    assert world.codes[0].verification_uri == f"{SERVER}/issuer/device"


def test_login_waits_for_the_person_and_outlasts_a_cut(world: World) -> None:
    polls: list[float] = []

    def sleep(seconds: float) -> None:
        polls.append(seconds)
        world.now += seconds
        world.network.down = len(polls) == 2
        if len(polls) == 4:
            world.answer(world.codes[-1])

    slow = Credentials(world.environment, world.network, lambda: world.now, sleep, world.shared)
    credential = slow.device_login(SERVER, world.codes.append)
    assert world.subject(credential) == "alice"
    assert len(polls) == 4
    assert polls[2] > polls[1]  # backs off after the cut


def test_denied_login_says_so(world: World) -> None:
    with pytest.raises(UserError, match="denied"):
        world.credentials.device_login(SERVER, lambda code: world.answer(code, "deny"))


def test_login_that_nobody_approves_ends(world: World) -> None:
    with pytest.raises(UserError, match="Nobody approved"):
        world.credentials.device_login(SERVER, world.codes.append)


def test_fault_of_the_callback_is_not_blamed_on_the_issuer(world: World) -> None:
    def broken(code: DeviceCode) -> None:
        raise TypeError("in the terminal")

    with pytest.raises(TypeError, match="in the terminal"):
        world.credentials.device_login(SERVER, broken)


def test_login_is_renewed_before_it_ends_and_nobody_notices(world: World) -> None:
    before = world.login()
    world.now += 3590
    after = world.credentials.find(SERVER)
    assert after.token != before.token
    assert world.subject(after) == "alice"
    world.network.down = True  # what was renewed is kept
    assert world.credentials.find(SERVER) == after


def test_login_that_lasts_is_not_renewed(world: World) -> None:
    world.login()
    asked = len(world.network.asked)
    world.credentials.find(SERVER)
    assert len(world.network.asked) == asked


def test_two_commands_at_once_renew_once(world: World) -> None:
    world.login()
    world.now += 3590
    found: list[Credential] = []
    asked = world.network.asked.count("/issuer/token")
    threads = [
        threading.Thread(target=lambda: found.append(world.credentials.find(SERVER)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len({credential.token for credential in found}) == 1
    assert len(found) == 4
    assert world.network.asked.count("/issuer/token") == asked + 1


def test_token_that_is_still_good_serves_while_the_issuer_is_away(world: World) -> None:
    before = world.login()
    world.now += 3560
    world.network.down = True
    assert world.credentials.find(SERVER) == before
    world.now += 100
    with pytest.raises(IssuerSilent):
        world.credentials.find(SERVER)


def test_login_that_the_issuer_ends_asks_for_a_new_one(world: World) -> None:
    world.login()
    world.now += 40 * 86400
    with pytest.raises(LoginEnded, match="vacuo login"):
        world.credentials.find(SERVER)


def test_login_for_one_server_is_not_sent_to_another(world: World) -> None:
    world.login()
    with pytest.raises(NoCredential):
        world.credentials.find("https://other.example")
    assert world.credentials.find(f"{SERVER}/")


def test_logout_forgets_here_and_at_the_issuer(world: World) -> None:
    world.login()
    kept = world.cache().read_text()
    path = world.cache()
    assert world.credentials.logout(SERVER) is True
    assert world.credentials.logout(SERVER) is False
    with pytest.raises(NoCredential):
        world.credentials.find(SERVER)
    path.write_text(kept)  # as if somebody had copied it
    path.chmod(0o600)
    world.now += 3590
    with pytest.raises(LoginEnded, match="invalid_grant"):
        world.credentials.find(SERVER)


def test_logout_works_without_the_issuer(world: World) -> None:
    world.login()
    world.network.down = True
    assert world.credentials.logout(SERVER) is True


def test_scripts_log_in_by_their_client_file_and_stay_logged_in(world: World) -> None:
    credential = world.credentials.client_login(SERVER, world.development.client_file)
    assert world.subject(credential) == "client:vacuo-scripts"
    secret = world.development.client_file.read_text().split('"client_secret": "')[1][:20]
    assert secret not in world.cache().read_text()
    world.now += 5000
    renewed = world.credentials.find(SERVER)
    assert renewed.token != credential.token
    assert world.subject(renewed) == "client:vacuo-scripts"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"client_id": "x", "client_secret": 1}'])
def test_client_file_that_is_none_is_named(world: World, tmp_path: Path, text: str) -> None:
    path = tmp_path / "client.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UserError, match=r"client\.json"):
        world.credentials.client_login(SERVER, path)


def test_wrong_client_secret_is_explained(world: World, tmp_path: Path) -> None:
    path = tmp_path / "client.json"
    path.write_text('{"client_id": "vacuo-scripts", "client_secret": "wrong"}')
    path.chmod(0o600)
    with pytest.raises(UserError, match="does not know this client"):
        world.credentials.client_login(SERVER, path)


def test_files_of_a_login_are_for_their_owner_alone(world: World) -> None:
    world.login()
    directory = world.cache().parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"target": {}}', "\x00"])
def test_broken_cache_is_as_good_as_none(world: World, text: str) -> None:
    world.login()
    world.cache().write_text(text)
    with pytest.raises(NoCredential):
        world.credentials.find(SERVER)
    assert world.subject(world.login()) == "alice"


def test_tokens_are_in_no_log_no_representation_and_no_warning(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        credential = world.login()
    world.now += 3590
    renewed = world.credentials.find(SERVER)
    cached = world.cache().read_text()
    login = Login(LoginTarget("n", SERVER, "c", "a"), "access", 0.0, "refresh")
    said = caplog.text + repr(credential) + repr(renewed) + repr(world.credentials)
    assert "access" not in repr(login).replace("access_token", "").replace("offline_access", "")
    assert "refresh" not in repr(login).replace("refresh_token", "")
    refresh = cached.split('"refresh_token": "')[1].split('"')[0]
    for secret in (credential.token, renewed.token, refresh):
        assert secret not in said


# --- an issuer that does not behave --------------------------------------------------------------

BAD_ANSWERS: dict[str, Callable[[], httpx.Response]] = {
    "an error": lambda: httpx.Response(500, text="oops"),
    "no JSON": lambda: httpx.Response(200, text="<html>"),
    "a list": lambda: httpx.Response(200, json=[]),
    "null": lambda: httpx.Response(200, text="null"),
    "nothing": lambda: httpx.Response(200, json={}),
    "a redirect": lambda: httpx.Response(302, headers={"Location": "https://evil.example"}),
    "numbers": lambda: httpx.Response(
        200, json={"issuer": 1, "device_code": 1, "access_token": 1, "token_type": "Bearer"}
    ),
}


@pytest.mark.parametrize("case", BAD_ANSWERS)
@pytest.mark.parametrize(
    "path", ["/issuer/.well-known/openid-configuration", "/issuer/device_authorization"]
)
def test_issuer_that_answers_nonsense_is_said_to(world: World, path: str, case: str) -> None:
    world.network.answers[path] = BAD_ANSWERS[case]()
    with pytest.raises(IssuerSilent):
        world.login()


@pytest.mark.parametrize("case", ["an error", "no JSON", "a list", "null", "nothing", "numbers"])
def test_token_endpoint_that_answers_nonsense_is_said_to(world: World, case: str) -> None:
    world.network.answers["/issuer/token"] = BAD_ANSWERS[case]()
    with pytest.raises(IssuerSilent):
        world.login()


@pytest.mark.parametrize(
    ("error", "said"),
    [("invalid_scope", "It answered invalid_scope"), ("\x1b[2J", "It answered an unknown error")],
)
def test_issuer_that_refuses_is_quoted_by_its_code_alone(
    world: World, error: str, said: str
) -> None:
    answer = {"error": error, "error_description": "\x1b[2Jread me"}
    world.network.answers["/issuer/device_authorization"] = httpx.Response(400, json=answer)
    with pytest.raises(UserError, match=said) as refused:
        world.login()
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("name", ["expires_in", "expires_at"])
@pytest.mark.parametrize("value", ["soon", "1.5", [], {}, 1.5, None])
def test_token_that_ends_at_an_odd_time_is_refused(world: World, name: str, value: object) -> None:
    answer = {"access_token": "x", "token_type": "Bearer", name: value}
    world.network.answers["/issuer/token"] = httpx.Response(200, json=answer)
    with pytest.raises(IssuerSilent):
        world.login()


@pytest.mark.parametrize("case", ["an error", "no JSON", "a list", "null", "nothing"])
def test_server_that_does_not_say_how_to_log_in(world: World, case: str) -> None:
    world.network.answers["/info"] = BAD_ANSWERS[case]()
    with pytest.raises(UserError, match="does not say how to log in"):
        world.login()


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://evil.example/token"},
        {"device_authorization_endpoint": "file:///etc/passwd"},
        {"device_authorization_endpoint": None},
    ],
)
def test_discovery_that_leads_astray_is_not_followed(world: World, change: dict[str, Any]) -> None:
    path = "/issuer/.well-known/openid-configuration"
    with httpx.Client(transport=world.network) as client:
        good = client.get(f"{SERVER}{path}").json()
    world.network.answers[path] = httpx.Response(200, json={**good, **change})
    with pytest.raises(IssuerSilent):
        world.login()


@pytest.mark.parametrize(
    "change",
    [
        {"user_code": "\x1b[2J"},
        {"verification_uri": "javascript:alert(1)"},
        {"verification_uri_complete": "https://x.example/\x1b]0;owned\x07"},
        {"expires_in": "soon"},
        {"interval": "never"},
    ],
)
def test_code_that_must_not_reach_a_terminal(world: World, change: dict[str, Any]) -> None:
    code = {
        "device_code": "d",
        "user_code": "ABCD",
        "verification_uri": "https://x.example/device",
        "expires_in": 600,
    }
    path = "/issuer/device_authorization"
    world.network.answers[path] = httpx.Response(200, json={**code, **change})
    with pytest.raises(IssuerSilent):
        world.credentials.device_login(SERVER, world.codes.append)
    assert world.codes == []


@pytest.mark.parametrize("server", ["http://vacuo.example", "ftp://x", "vacuo", ""])
def test_token_is_not_sent_over_plain_http(world: World, server: str) -> None:
    world.environment["BEARER_TOKEN"] = "token"
    with pytest.raises(UserError, match="not https"):
        world.credentials.find(server)


# --- bearer token discovery ----------------------------------------------------------------------


def test_tokens_are_looked_for_in_the_order_of_the_discovery(world: World, tmp_path: Path) -> None:
    world.login()
    agent(world, "printf from-agent")
    runtime = tmp_path / "run"
    runtime.mkdir()
    file = tmp_path / "token"
    file.write_text(" from-named-file \n")
    world.environment |= {
        "BEARER_TOKEN": "from-variable",
        "BEARER_TOKEN_FILE": str(file),
        "XDG_RUNTIME_DIR": str(runtime),
    }
    in_runtime = world.lie_around(runtime, "from-runtime-directory")
    in_shared = world.lie_around(world.shared, "from-shared-directory")

    def found() -> str:
        return world.credentials.find(SERVER).token

    assert found() == "from-variable"
    del world.environment["BEARER_TOKEN"]
    assert found() == "from-named-file"
    del world.environment["BEARER_TOKEN_FILE"]
    assert found() == "from-runtime-directory"
    in_runtime.unlink()
    assert found() == "from-shared-directory"
    in_shared.unlink()
    assert found() == "from-agent"
    del world.environment["VACUO_OIDC_ACCOUNT"]
    assert world.subject(world.credentials.find(SERVER)) == "alice"


def agent(world: World, script: str) -> None:
    program = Path(world.environment["PATH"]) / "oidc-token"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\necho "$@" >{world.home}/arguments\n{script}\n')
    program.chmod(0o755)
    world.environment["VACUO_OIDC_ACCOUNT"] = "iam"


def test_agent_is_asked_for_a_token_meant_for_the_server(world: World) -> None:
    agent(world, "printf from-agent")
    assert world.credentials.find(SERVER).source == "oidc-token iam"
    assert (world.home / "arguments").read_text() == f"--aud={SERVER} -- iam\n"


@pytest.mark.parametrize("script", ["exit 1", "true", "printf 'two words'", "printf '\\377'"])
def test_agent_that_was_named_and_fails_is_an_error(world: World, script: str) -> None:
    world.login()
    agent(world, script)
    with pytest.raises(UserError, match="oidc-"):
        world.credentials.find(SERVER)


def test_agent_that_is_not_installed_is_passed_over(world: World) -> None:
    world.environment["VACUO_OIDC_ACCOUNT"] = "iam"
    assert world.subject(world.login()) == "alice"


@pytest.mark.parametrize("text", BAD_TOKENS[1:])
def test_named_token_that_is_none_is_an_error_that_does_not_repeat_it(
    world: World, text: str
) -> None:
    world.login()
    world.environment["BEARER_TOKEN"] = text
    with pytest.raises(UserError, match="BEARER_TOKEN") as refused:
        world.credentials.find(SERVER)
    assert text not in str(refused.value)


@pytest.mark.parametrize("text", [*BAD_TOKENS, None])
def test_named_file_that_cannot_serve_is_an_error(
    world: World, tmp_path: Path, text: str | None
) -> None:
    world.login()
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text)
    world.environment["BEARER_TOKEN_FILE"] = str(path)
    with pytest.raises(UserError, match="BEARER_TOKEN_FILE"):
        world.credentials.find(SERVER)


@pytest.mark.parametrize("text", BAD_TOKENS)
def test_file_lying_around_that_cannot_serve_is_passed_over(world: World, text: str) -> None:
    world.login()
    world.lie_around(world.shared, text)
    assert world.subject(world.credentials.find(SERVER)) == "alice"


def test_expired_token_lying_around_is_passed_over(world: World) -> None:
    world.login()
    expired = jwt.encode({"exp": world.now - 1}, "k" * 32, algorithm="HS256")
    world.lie_around(world.shared, expired)
    assert world.subject(world.credentials.find(SERVER)) == "alice"
    lasting = jwt.encode({"exp": world.now + 60}, "k" * 32, algorithm="HS256")
    world.lie_around(world.shared, lasting)
    assert world.credentials.find(SERVER).seconds_left(world.now) == 60


@pytest.mark.parametrize("how", ["readable by others", "a link", "a pipe", "another's"])
def test_planted_token_is_passed_over(
    world: World, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.login()
    path = world.lie_around(world.shared, "planted", 0o644 if how.startswith("read") else 0o600)
    if how == "a link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif how == "a pipe":
        path.unlink()
        os.mkfifo(path, 0o600)
    elif how == "another's":
        # The user is somebody else than the owner of the file, whoever runs the test.
        mine = os.geteuid()
        path.rename(world.shared / f"bt_u{mine + 1}")
        world.environment["BEARER_TOKEN"] = "x"
        monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
        assert (
            Credentials(
                world.environment, world.network, shared_directory=world.shared
            )._file_lying_around()
            is None
        )
        return
    assert world.subject(world.credentials.find(SERVER)) == "alice"


def test_nobody_is_logged_in_at_first(world: World) -> None:
    with pytest.raises(NoCredential, match="vacuo login"):
        world.credentials.find(SERVER)
