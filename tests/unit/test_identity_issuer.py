"""The development issuer: both flows, what survives a restart, and whom it refuses."""

from __future__ import annotations

import base64
import json
import logging
import stat
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from orchestrator.errors import UserError
from orchestrator.identity import issuer
from orchestrator.identity.issuer_grants import DEVICE_SECONDS
from orchestrator.identity.policy import without_policy
from orchestrator.identity.tokens import TokenValidator, Unauthenticated
from orchestrator.settings import Settings

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
NAME = "http://127.0.0.1:8420/issuer"


class World:
    """One server with its issuer, and a clock that can be moved."""

    def __init__(self, directory: Path) -> None:
        self.now = 1_700_000_000.0
        self.settings = Settings(data_directory=directory, development_issuer=True)
        self.start()

    def start(self) -> None:
        self.development = issuer.build(self.settings, lambda: self.now)
        self.validator = TokenValidator([], lambda: self.now, self._no_network, self.development)
        self.app = Flask(__name__, static_folder=None)
        self.app.register_blueprint(self.development.blueprint)
        self.client: FlaskClient = self.app.test_client()

    @staticmethod
    def _no_network(url: str) -> bytes:
        raise AssertionError(f"the server asked itself for {url}")

    def post(self, path: str, **form: str) -> Any:
        return self.client.post(f"/issuer/{path}", data=form, base_url="http://127.0.0.1:8420")

    def device(self) -> dict[str, Any]:
        answer = self.post("device_authorization", client_id="vacuo-cli", scope="offline_access")
        assert answer.status_code == 200
        found: dict[str, Any] = answer.get_json()
        return found

    def poll(self, device_code: str, client_id: str = "vacuo-cli") -> Any:
        self.now += 2
        return self.post(
            "token", grant_type=DEVICE_GRANT, device_code=device_code, client_id=client_id
        )

    def answer(self, code: str, answer: str = "approve", user: str = "developer") -> Any:
        return self.post("device", user_code=code, user=user, answer=answer)

    def logged_in(self, user: str = "developer") -> dict[str, Any]:
        device = self.device()
        assert self.answer(device["user_code"], user=user).status_code == 200
        tokens = self.poll(device["device_code"])
        assert tokens.status_code == 200
        found: dict[str, Any] = tokens.get_json()
        return found

    def caller(self, token: str) -> Any:
        return self.validator.validate(f"Bearer {token}")

    def secret(self) -> str:
        found: str = json.loads(self.development.client_file.read_text())["client_secret"]
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "data")


def test_device_flow_from_code_to_caller(world: World) -> None:
    device = world.device()
    assert device["verification_uri"] == f"{NAME}/device"
    assert world.poll(device["device_code"]).get_json()["error"] == "authorization_pending"
    page = world.client.get(f"/issuer/device?user_code={device['user_code']}")
    assert device["user_code"] in page.text
    assert world.answer(device["user_code"], user="alice").status_code == 200
    answer = world.poll(device["device_code"])
    tokens = answer.get_json()
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 3600
    assert tokens["refresh_token"]
    assert "no-store" in answer.headers["Cache-Control"]
    caller = world.caller(tokens["access_token"])
    assert (caller.principal.issuer, caller.principal.subject) == (NAME, "alice")
    assert caller.client_id == "vacuo-cli"
    assert caller.token_id
    assert caller.scopes == {"offline_access"}


def test_code_is_accepted_as_people_type_it(world: World) -> None:
    device = world.device()
    assert world.answer(device["user_code"].lower().replace("-", " ")).status_code == 200


def test_device_code_works_once(world: World) -> None:
    device = world.device()
    world.answer(device["user_code"])
    assert world.poll(device["device_code"]).status_code == 200
    assert world.poll(device["device_code"]).status_code == 400
    assert world.answer(device["user_code"]).status_code == 400


def test_denied_login_gives_no_token(world: World) -> None:
    device = world.device()
    assert world.answer(device["user_code"], "deny").status_code == 200
    assert world.poll(device["device_code"]).get_json()["error"] == "access_denied"


def test_answer_cannot_be_changed(world: World) -> None:
    device = world.device()
    world.answer(device["user_code"], "deny")
    assert world.answer(device["user_code"], "approve").status_code == 400


def test_device_code_expires(world: World) -> None:
    device = world.device()
    world.now += DEVICE_SECONDS + 1
    assert world.answer(device["user_code"]).status_code == 400
    assert world.poll(device["device_code"]).get_json()["error"] == "expired_token"


def test_device_code_is_of_one_client_alone(world: World) -> None:
    device = world.device()
    world.answer(device["user_code"])
    assert world.poll(device["device_code"], "another").get_json()["error"] == "invalid_client"


def test_polling_without_a_pause_is_slowed_down(world: World) -> None:
    device = world.device()
    world.poll(device["device_code"])
    world.now -= 2
    assert world.poll(device["device_code"]).get_json()["error"] == "slow_down"


def test_at_most_a_hundred_flows_are_remembered(world: World) -> None:
    first = world.device()
    for _ in range(100):
        last = world.device()
    assert world.answer(first["user_code"]).status_code == 400
    assert world.answer(last["user_code"]).status_code == 200


@pytest.mark.parametrize("user", ["", "client:vacuo-scripts", "-x", "a b", "a\n", "a" * 65, "<b>"])
def test_odd_user_name_is_refused(world: World, user: str) -> None:
    device = world.device()
    answer = world.answer(device["user_code"], user=user)
    assert answer.status_code == 400
    assert world.poll(device["device_code"]).get_json()["error"] == "authorization_pending"


def test_page_escapes_what_it_shows(world: World) -> None:
    page = world.client.get('/issuer/device?user_code="><script>')
    assert "<script>" not in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Frame-Options"] == "DENY"


def test_client_credentials_from_the_file(world: World) -> None:
    basic = base64.b64encode(f"vacuo-scripts:{world.secret()}".encode()).decode()
    answer = world.client.post(
        "/issuer/token",
        data={"grant_type": "client_credentials"},
        headers={"Authorization": f"Basic {basic}"},
    )
    tokens = answer.get_json()
    assert "refresh_token" not in tokens
    assert world.caller(tokens["access_token"]).principal.subject == "client:vacuo-scripts"
    posted = world.post(
        "token",
        grant_type="client_credentials",
        client_id="vacuo-scripts",
        client_secret=world.secret(),
    )
    assert posted.status_code == 200


@pytest.mark.parametrize("secret", ["", "wrong", None])
def test_client_without_its_secret_gets_nothing(world: World, secret: str | None) -> None:
    form = {"grant_type": "client_credentials", "client_id": "vacuo-scripts"}
    answer = world.post("token", **form, **({} if secret is None else {"client_secret": secret}))
    assert answer.status_code in (400, 401)
    assert answer.get_json()["error"] == "invalid_client"


def test_public_client_cannot_use_client_credentials(world: World) -> None:
    answer = world.post("token", grant_type="client_credentials", client_id="vacuo-cli")
    assert answer.status_code in (400, 401)


def test_refresh_gives_a_new_access_token(world: World) -> None:
    tokens = world.logged_in("alice")
    world.now += 7200
    with pytest.raises(Unauthenticated):
        world.caller(tokens["access_token"])
    form = {"grant_type": "refresh_token", "client_id": "vacuo-cli"}
    renewed = world.post("token", **form, refresh_token=tokens["refresh_token"]).get_json()
    assert world.caller(renewed["access_token"]).principal.subject == "alice"


def test_refresh_token_is_no_access_token(world: World) -> None:
    with pytest.raises(Unauthenticated):
        world.caller(world.logged_in()["refresh_token"])


@pytest.mark.parametrize("how", ["revoked", "expired", "unknown"])
def test_refresh_token_that_is_no_longer_in_force(world: World, how: str) -> None:
    refresh = world.logged_in()["refresh_token"]
    if how == "revoked":
        assert world.post("revoke", token=refresh, client_id="vacuo-cli").status_code == 200
    elif how == "expired":
        world.now += 31 * 86400
    else:
        refresh = "unknown"
    form = {"grant_type": "refresh_token", "client_id": "vacuo-cli"}
    answer = world.post("token", **form, refresh_token=refresh)
    assert answer.get_json()["error"] == "invalid_grant"


def test_restart_keeps_tokens_and_logins_valid(world: World) -> None:
    tokens, secret = world.logged_in("alice"), world.secret()
    world.start()
    assert world.caller(tokens["access_token"]).principal.subject == "alice"
    assert world.secret() == secret
    form = {"grant_type": "refresh_token", "client_id": "vacuo-cli"}
    assert world.post("token", **form, refresh_token=tokens["refresh_token"]).status_code == 200


def test_moved_server_keeps_its_keys_and_renames_its_client_file(world: World) -> None:
    secret = world.secret()
    world.settings = world.settings.model_copy(update={"listen": "127.0.0.1:9000"})
    world.start()
    entry = json.loads(world.development.client_file.read_text())
    assert entry["client_secret"] == secret
    assert entry["token_endpoint"] == "http://127.0.0.1:9000/issuer/token"


def test_files_are_for_their_owner_alone(world: World) -> None:
    world.logged_in()
    directory = world.settings.data_directory / "issuer"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    files = list(directory.iterdir())
    names = {"key.json", "client.json", "refresh.json", "server-secret"}
    assert {file.name for file in files} == names
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


@pytest.mark.parametrize("name", ["key.json", "client.json", "refresh.json"])
def test_secret_file_that_others_can_read_stops_the_start(world: World, name: str) -> None:
    world.logged_in()
    (world.settings.data_directory / "issuer" / name).chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        world.start()


@pytest.mark.parametrize("name", ["key.json", "client.json", "refresh.json"])
@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"kty": "EC"}', "\x00"])
def test_broken_secret_file_stops_the_start_and_says_which(
    world: World, name: str, text: str
) -> None:
    world.logged_in()
    (world.settings.data_directory / "issuer" / name).write_text(text)
    with pytest.raises(UserError, match=name):
        world.start()


def test_refresh_tokens_are_kept_as_hashes_only(world: World) -> None:
    refresh = world.logged_in()["refresh_token"]
    text = (world.settings.data_directory / "issuer" / "refresh.json").read_text()
    assert refresh not in text


def test_secrets_are_in_no_log_and_no_representation(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tokens = world.logged_in()
    form = {"grant_type": "refresh_token", "client_id": "vacuo-cli"}
    renewed = world.post("token", **form, refresh_token=tokens["refresh_token"]).get_json()
    scripts = world.post(
        "token",
        grant_type="client_credentials",
        client_id="vacuo-scripts",
        client_secret=world.secret(),
    ).get_json()
    world.caller(renewed["access_token"])
    key = json.loads((world.settings.data_directory / "issuer" / "key.json").read_text())["d"]
    said = caplog.text + repr(world.development) + repr(vars(world.development))
    said += repr([vars(record) for record in caplog.records])
    secrets = [tokens["access_token"], tokens["refresh_token"], renewed["access_token"]]
    for secret in [*secrets, scripts["access_token"], world.secret(), key]:
        assert secret not in said
    assert "Issue token <token response>" in caplog.text  # the log that would have held them


def test_discovery_and_keys_are_what_a_client_needs(world: World) -> None:
    metadata = world.client.get("/issuer/.well-known/openid-configuration").get_json()
    assert metadata["issuer"] == NAME
    keys = world.client.get("/issuer/jwks").get_json()["keys"]
    assert len(keys) == 1
    assert "d" not in keys[0]
    for name in ("token_endpoint", "device_authorization_endpoint", "revocation_endpoint"):
        path = metadata[name].removeprefix("http://127.0.0.1:8420")
        assert world.client.post(path).status_code in (400, 401)


def test_every_route_has_a_policy(world: World) -> None:
    assert without_policy(world.app.url_map.iter_rules(), world.app.view_functions) == ()


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:8420", ":8420", "[::]:8420", "192.168.1.5:8420", "vacuo.example:443"]
)
def test_issuer_does_not_start_where_others_could_reach_it(tmp_path: Path, listen: str) -> None:
    with pytest.raises(UserError, match="development issuer does not start"):
        issuer.build(Settings(data_directory=tmp_path, listen=listen))


def test_issuer_does_not_start_under_a_public_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="public_url"):
        issuer.build(Settings(data_directory=tmp_path, public_url="https://vacuo.example"))


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.8.9.1:1", "[::1]:8420", "localhost:8420"])
def test_issuer_starts_on_any_loopback_address(tmp_path: Path, listen: str) -> None:
    issuer.build(Settings(data_directory=tmp_path, listen=listen))


REFUSED_REQUESTS: dict[str, dict[str, Any]] = {
    "a peer elsewhere": {"environ_base": {"REMOTE_ADDR": "192.168.1.7"}},
    "no peer": {"environ_base": {"REMOTE_ADDR": ""}},
    "a name that resolves to us": {"base_url": "http://rebound.example:8420"},
    "a name with a broken bracket": {"headers": {"Host": "[::1"}},
    "through a proxy": {"headers": {"X-Forwarded-For": "10.0.0.1"}},
    "through a standard proxy": {"headers": {"Forwarded": "for=10.0.0.1"}},
    "a form elsewhere": {"headers": {"Origin": "https://evil.example"}},
    "a form of nobody": {"headers": {"Origin": "null"}},
    "a form of another site": {"headers": {"Sec-Fetch-Site": "cross-site"}},
    "parameters in the address": {"query_string": {"user_code": "X"}},
}


@pytest.mark.parametrize("case", REFUSED_REQUESTS)
@pytest.mark.parametrize("path", ["token", "device_authorization", "device", "revoke"])
def test_request_that_did_not_start_here_is_refused(world: World, case: str, path: str) -> None:
    answer = world.client.post(f"/issuer/{path}", **REFUSED_REQUESTS[case])
    assert answer.status_code == 403


@pytest.mark.parametrize("path", ["jwks", ".well-known/openid-configuration", "device"])
def test_peer_elsewhere_reads_nothing(world: World, path: str) -> None:
    peer = {"REMOTE_ADDR": "192.168.1.7"}
    assert world.client.get(f"/issuer/{path}", environ_base=peer).status_code == 403


def test_own_form_is_accepted(world: World) -> None:
    device = world.device()
    answer = world.client.post(
        "/issuer/device",
        base_url="http://127.0.0.1:8420",
        headers={"Origin": "http://127.0.0.1:8420", "Sec-Fetch-Site": "same-origin"},
        data={"user_code": device["user_code"], "user": "alice", "answer": "approve"},
    )
    assert answer.status_code == 200


def test_huge_body_is_not_read(world: World) -> None:
    assert world.post("token", grant_type="x" * 20_000).status_code == 413


def test_minted_token_is_a_token_of_that_subject(world: World) -> None:
    token = world.development.mint("alice", 600)
    assert world.caller(token).principal.subject == "alice"
    world.now += 601
    with pytest.raises(Unauthenticated):
        world.caller(token)


@pytest.mark.parametrize(("subject", "lifetime"), [("client:vacuo-scripts", 60), ("alice", 1e6)])
def test_impossible_token_is_not_minted(world: World, subject: str, lifetime: float) -> None:
    with pytest.raises(UserError):
        world.development.mint(subject, lifetime)


def test_token_of_another_server_is_refused(world: World, tmp_path: Path) -> None:
    other = World(tmp_path / "other")
    with pytest.raises(Unauthenticated):
        world.caller(other.development.mint("alice"))
