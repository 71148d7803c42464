"""Authorisation code with PKCE on loopback, against the real development issuer over HTTP."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from flask import Flask
from typer.testing import CliRunner
from werkzeug.serving import make_server

from orchestrator.cli.main import app
from orchestrator.errors import UserError
from orchestrator.identity import issuer
from orchestrator.identity.credentials import Credentials, DeviceCode
from orchestrator.identity.issuer_codes import CODE_SECONDS
from orchestrator.identity.login import IssuerClient, LoginTarget
from orchestrator.identity.loopback import Loopback
from orchestrator.identity.tokens import TokenValidator
from orchestrator.settings import Settings


class Served:
    """The issuer on a port of its own, and a browser that fills in its page."""

    def __init__(self, directory: Path) -> None:
        self.shift = 0.0
        flask = Flask(__name__, static_folder=None)
        self.server = make_server("127.0.0.1", 0, flask, threaded=True)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        listen = self.url.removeprefix("http://")
        settings = Settings(data_directory=directory, development_issuer=True, listen=listen)
        self.development = issuer.build(settings, lambda: time.time() + self.shift)
        flask.register_blueprint(self.development.blueprint)
        flask.get("/info")(self.info)
        self.validator = TokenValidator([], own=self.development)
        target = LoginTarget("development", f"{self.url}/issuer", "vacuo-cli", self.url)
        self.client = IssuerClient(target)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def info(self) -> dict[str, Any]:
        entry = {"name": "development", "issuer": f"{self.url}/issuer", "clientId": "vacuo-cli"}
        return {"issuers": [entry | {"audiences": [self.url]}]}

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join(10)
        self.server.server_close()

    def browser(self, verdict: str = "approve", user: str = "alice") -> Callable[[str], None]:
        """Opens the page, sends its form as it is, and follows where that leads."""

        def open_page(page: str) -> None:
            shown = httpx.get(page)
            assert shown.status_code == 200, shown.text
            fields = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', shown.text)
            form = {name: value.replace("&amp;", "&") for name, value in fields}
            back = self.consent(form | {"user": user, "answer": verdict})
            assert back.status_code == 302, back.text
            self.came_back = back.headers["Location"]
            threading.Thread(target=httpx.get, args=(self.came_back,), daemon=True).start()

        return open_page

    def consent(self, form: dict[str, str], **headers: str) -> httpx.Response:
        sent = {"Origin": self.url} | headers
        return httpx.post(f"{self.url}/issuer/authorize", data=form, headers=sent)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path / "data")
    yield found
    found.close()


def asked(**changes: str | None) -> dict[str, str]:
    """A request as it should be, and its verifier under ``verifier``."""
    verifier = secrets.token_urlsafe(48)
    digest = hashlib.sha256(verifier.encode()).digest()
    found: dict[str, str | None] = {
        "response_type": "code",
        "client_id": "vacuo-cli",
        "redirect_uri": "http://127.0.0.1:4711/callback",
        "scope": "offline_access",
        "state": "a-state",
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
        "verifier": verifier,
    }
    return {name: value for name, value in (found | changes).items() if value is not None}


def code_of(served: Served, request: dict[str, str]) -> str:
    answer = served.consent(request | {"user": "alice", "answer": "approve"})
    assert answer.status_code == 302, answer.text
    (code,) = parse_qs(urlsplit(answer.headers["Location"]).query)["code"]
    return code


def trade(served: Served, code: str, request: dict[str, str], **changes: str) -> httpx.Response:
    form = {
        "grant_type": "authorization_code",
        "client_id": "vacuo-cli",
        "code": code,
        "redirect_uri": request["redirect_uri"],
        "code_verifier": request["verifier"],
    }
    return httpx.post(f"{served.url}/issuer/token", data=form | changes)


def test_browser_login_from_page_to_caller_and_renewal(served: Served) -> None:
    login = served.client.browser_flow(served.browser())
    caller = served.validator.validate(f"Bearer {login.access_token}")
    assert caller.principal.subject == "alice"
    assert login.refresh_token
    assert served.client.renew(login).access_token != login.access_token
    back = urlsplit(served.came_back)
    assert (back.hostname, back.path) == ("127.0.0.1", "/callback")


def test_login_that_is_denied_says_so(served: Served) -> None:
    with pytest.raises(UserError) as refused:
        served.client.browser_flow(served.browser("deny"))
    assert refused.value.code == "login-denied"


def test_code_is_good_once_for_its_verifier_address_and_client_alone(served: Served) -> None:
    request = asked()
    assert trade(served, code_of(served, request), request).status_code == 200
    wrong: dict[str, str]
    for wrong in (
        {"code_verifier": secrets.token_urlsafe(48)},
        {"code_verifier": ""},
        {"redirect_uri": "http://127.0.0.1:4712/callback"},
        {"client_id": "vacuo-scripts"},
    ):
        code = code_of(served, request)
        assert trade(served, code, request, **wrong).status_code in (400, 401), wrong
    assert trade(served, "made-up", request).status_code == 400
    code = code_of(served, request)
    assert trade(served, code, request).status_code == 200
    assert trade(served, code, request).json()["error"] == "invalid_grant"


def test_code_that_is_shown_wrongly_is_used_up(served: Served) -> None:
    request = asked()
    code = code_of(served, request)
    assert trade(served, code, request, code_verifier=secrets.token_urlsafe(48)).status_code == 400
    assert trade(served, code, request).status_code == 400


def test_code_ends_after_a_minute(served: Served) -> None:
    request = asked()
    code = code_of(served, request)
    served.shift = CODE_SECONDS + 1
    assert trade(served, code, request).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "wrong",
    [
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": "http://127.0.0.1.evil.example:1/callback"},
        {"redirect_uri": "http://127.0.0.1:1@evil.example/callback"},
        {"redirect_uri": "http://localhost:4711/callback"},
        {"redirect_uri": "http://127.0.0.1:4711/other"},
        {"redirect_uri": None},
        {"client_id": "vacuo-scripts"},
        {"client_id": "nobody"},
        {"response_type": "token"},
        {"code_challenge": None},
        {"code_challenge": "short"},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": None},
        {"state": None},
    ],
    ids=str,
)
def test_request_that_is_not_in_order_leads_nowhere(
    served: Served, wrong: dict[str, str | None]
) -> None:
    request = asked(**wrong)
    shown = httpx.get(f"{served.url}/issuer/authorize?{urlencode(request)}")
    sent = served.consent(request | {"user": "alice", "answer": "approve"})
    for answer in (shown, sent):
        assert answer.status_code == 400
        assert "Location" not in answer.headers
        assert "evil" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
        {"X-Forwarded-For": "192.0.2.1"},
    ],
    ids=str,
)
def test_consent_cannot_be_given_by_another_page(served: Served, headers: dict[str, str]) -> None:
    answer = served.consent(asked() | {"user": "alice", "answer": "approve"}, **headers)
    assert answer.status_code == 403
    assert "Location" not in answer.headers


def test_page_cannot_be_framed_and_repeats_nothing_as_markup(served: Served) -> None:
    request = asked(state='"><script>alert(1)</script>')
    shown = httpx.get(f"{served.url}/issuer/authorize?{urlencode(request)}")
    assert "<script" not in shown.text
    assert "frame-ancestors 'none'" in shown.headers["Content-Security-Policy"]
    assert shown.headers["X-Frame-Options"] == "DENY"


def test_discovery_names_the_endpoint_and_its_method(served: Served) -> None:
    found = httpx.get(f"{served.url}/issuer/.well-known/openid-configuration").json()
    assert found["authorization_endpoint"] == f"{served.url}/issuer/authorize"
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert found["response_types_supported"] == ["code"]


# --- the command ---------------------------------------------------------------------------------


def run(served: Served, home: Path, **environment: str) -> Any:
    here = {"VACUO_SERVER": served.url, "HOME": str(home), "XDG_STATE_HOME": str(home / "state")}
    none = dict.fromkeys(("BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "BEARER_TOKEN"))
    return CliRunner(env=none | here | environment).invoke(app, ["login", "--browser"])


def test_command_opens_the_page_and_keeps_the_login(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webbrowser.open", served.browser())
    result = run(served, tmp_path, BROWSER="a-browser")
    assert result.exit_code == 0, result.output
    assert f"Logged in to {served.url}" in result.stdout
    assert f"{served.url}/issuer/authorize?" in result.stderr
    found = Credentials({"XDG_STATE_HOME": str(tmp_path / "state")}).find(served.url)
    assert served.validator.validate(f"Bearer {found.token}").principal.subject == "alice"
    assert found.renews


def test_command_falls_back_to_the_code_where_there_is_no_browser(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[DeviceCode] = []

    def approve(_session: object, code: DeviceCode) -> None:
        shown.append(code)
        form = {"user_code": code.user_code, "user": "alice", "answer": "approve"}
        httpx.post(f"{served.url}/issuer/device", data=form)

    monkeypatch.setattr("orchestrator.cli.login._show_code", approve)
    result = run(served, tmp_path)
    assert result.exit_code == 0, result.output
    assert "There is no browser here" in result.stderr
    assert len(shown) == 1


# --- the listener --------------------------------------------------------------------------------


def waiting(loopback: Loopback) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(loopback.wait(60)), daemon=True)
    thread.start()
    return thread, found


def test_listener_takes_the_answer_that_has_its_state_and_no_other() -> None:
    with Loopback("the-state") as loopback:
        thread, found = waiting(loopback)
        uri = loopback.redirect_uri
        other = uri.replace("/callback", "/favicon.ico")
        for url in (
            f"{uri}?code=evil&state=another",
            f"{uri}?code=evil",
            uri,
            f"{uri}?code=a&code=b&state=the-state",
            f"{other}?code=evil&state=the-state",
        ):
            assert httpx.get(url).status_code == 404
        wrong_host = httpx.get(f"{uri}?code=x&state=the-state", headers={"Host": "evil.example"})
        assert wrong_host.status_code == 404
        assert httpx.post(uri).status_code == 501
        assert httpx.get(f"{uri}?code=good&state=the-state").status_code == 200
        thread.join(60)
    assert found == [{"code": "good", "state": "the-state"}]


def test_listener_is_on_loopback_alone_and_gives_up() -> None:
    with Loopback("s") as loopback:
        assert loopback.redirect_uri.startswith("http://127.0.0.1:")
        assert loopback.wait(0.05) is None


def test_listener_ends_with_the_login(served: Served) -> None:
    served.client.browser_flow(served.browser())
    with pytest.raises(httpx.ConnectError):
        httpx.get(served.came_back)


def test_answer_of_another_issuer_is_refused(served: Served) -> None:
    def open_page(page: str) -> None:
        query = parse_qs(urlsplit(page).query)
        back = {"code": "x", "state": query["state"][0], "iss": "https://evil.example"}
        url = f"{query['redirect_uri'][0]}?{urlencode(back)}"
        threading.Thread(target=httpx.get, args=(url,), daemon=True).start()

    with pytest.raises(UserError) as refused:
        served.client.browser_flow(open_page)
    assert refused.value.code == "login-failed"
