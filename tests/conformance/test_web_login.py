"""Signing in with a browser at the real server, over its sockets: it asks itself for the tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from real_server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    try:
        made.wait()
        yield made
    finally:
        made.stop()


def hidden(page: str) -> dict[str, str]:
    fields = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page)
    return {name: value.replace("&amp;", "&") for name, value in fields}


def test_a_person_signs_in_changes_something_and_signs_out(server: Server) -> None:
    with httpx.Client(timeout=60) as browser:
        assert "not signed in" in browser.get(f"{server.url}/account").text
        begun = browser.get(f"{server.url}/login?next=/account")
        consent = browser.get(begun.headers["Location"])
        form = hidden(consent.text) | {"user": "alice", "answer": "approve"}
        approved = browser.post(
            f"{server.url}/issuer/authorize", data=form, headers={"Origin": server.url}
        )
        back = browser.get(approved.headers["Location"])
        assert back.status_code == 303, back.text
        account = browser.get(back.headers["Location"])
        assert "<strong>alice</strong>" in account.text
        token = browser.get(f"{server.url}/session").json()["csrfToken"]
        template = {"template": "tosca_definitions_version: tosca_simple_yaml_1_3"}
        refused = browser.post(f"{server.url}/validate", json=template)
        assert (refused.status_code, refused.json()["code"]) == (403, "cross-site")
        taken = browser.post(
            f"{server.url}/validate", json=template, headers={"X-CSRF-Token": token}
        )
        assert taken.json().get("code", "") in ("", "template-invalid"), taken.text
        browser.post(f"{server.url}/logout", data=hidden(account.text))
        assert browser.get(f"{server.url}/session").status_code == 401
    assert token not in server.log.read_text()


def test_a_restart_of_the_server_keeps_sessions(server: Server) -> None:
    """The cookie's hash is in the store; nothing of it is in the process."""
    with httpx.Client(timeout=60) as browser:
        begun = browser.get(f"{server.url}/login")
        consent = browser.get(begun.headers["Location"])
        form = hidden(consent.text) | {"user": "bob", "answer": "approve"}
        approved = browser.post(f"{server.url}/issuer/authorize", data=form)
        browser.get(approved.headers["Location"])
        assert browser.get(f"{server.url}/session").json()["subject"] == "bob"
        server.stop()
        server.start()
        server.wait()
        assert browser.get(f"{server.url}/session").json()["subject"] == "bob"
