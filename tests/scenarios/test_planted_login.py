"""A login that a real server keeps of a person: what it is good for, and a look at all it wrote."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_command_line import CONFIGURATION, PATIENCE
from test_planted_secrets import MASTER, TEMPLATE, Marked, eventually, forms, served

from orchestrator.control import assembly
from orchestrator.identity.login import IssuerClient, Login, LoginTarget
from orchestrator.model import Principal, SecretPlace
from orchestrator.settings import Settings
from orchestrator.store.repository import Repository

OWNERS = CONFIGURATION.replace(
    """collector: "pool.example:9618"}}""",
    """collector: "pool.example:9618",
   options: {{join_with: owner, join_audience: "condor://pool.example",
              join_scope: "condor:/READ"}}}}
""",
)
UNKNOWN = "marked-refresh-token-of-nobody"
PARAMETERS = {"door_password": "marked-password", "innocent": "marked-nested"}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Marked]:
    with served(tmp_path, OWNERS) as made:
        yield made


def approve(desk: Marked, code: str) -> None:
    form = {"user_code": code, "user": "alice", "answer": "approve"}
    answer = httpx.post(f"{desk.url}/issuer/device", data=form, trust_env=False)
    assert answer.status_code == httpx.codes.OK


def login(desk: Marked) -> Login:
    (found,) = httpx.get(f"{desk.url}/info", trust_env=False).json()["issuers"]
    target = LoginTarget(
        found["name"],
        found["issuer"],
        found["clientId"],
        found["audiences"][0],
        found["delegationScope"],
    )
    return IssuerClient(target).device_flow(lambda code: approve(desk, code.user_code))


def send(desk: Marked, method: str, path: str, token: str, body: Any = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.request(
        method, f"{desk.url}{path}", json=body, headers=headers, timeout=60, trust_env=False
    )


def current(desk: Marked, monkeypatch: pytest.MonkeyPatch) -> str:
    """The refresh token that the server has now."""
    monkeypatch.setenv("VACUO_MASTER_KEY", MASTER)
    settings = Settings(data_directory=desk.home / "data")
    repository = Repository.open(settings.database_url)
    try:
        place = SecretPlace.of(Principal(f"{desk.url}/issuer", "alice"), "login")
        content = assembly.secret_store(settings, repository).get(place)
        assert content is not None
        found: str = json.loads(content)["refresh_token"]
        return found
    finally:
        repository.close()


@pytest.mark.timeout(600)
def test_a_login_that_the_server_keeps_is_in_nothing_that_it_wrote(
    desk: Marked, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = login(desk)
    assert mine.refresh_token
    token = mine.access_token
    told = [send(desk, "PUT", "/delegation", token, {"refreshToken": UNKNOWN})]
    assert told[0].status_code == 400
    told.append(send(desk, "PUT", "/delegation", token, {"refreshToken": mine.refresh_token}))
    assert told[1].status_code == 200, told[1].text
    first = current(desk, monkeypatch)
    body = {"template": TEMPLATE, "parameters": PARAMETERS}
    made = send(desk, "POST", "/deployments", token, body)
    assert made.status_code == 201, made.text
    path = f"/deployments/{made.json()['uuid']}"

    def up() -> bool:
        return bool(send(desk, "GET", path, token).json()["status"] == "CREATE_COMPLETE")

    eventually(up, desk.log)  # it has joined, with a token of alice's
    second = current(desk, monkeypatch)
    assert first != second  # the issuer rotated it
    for where in (path, f"{path}/events", f"{path}/log", "/credentials", "/events"):
        told.append(send(desk, "GET", where, token))
    assert told[-2].json()["logins"][0]["state"] == "good"

    written = [file for file in desk.home.rglob("*") if file.is_file()]
    assert {"vacuo.db", "vacuo.db-wal", "server.log"} <= {file.name for file in written}
    content = b"\0".join(file.read_bytes() for file in written)
    content += "".join(answer.text for answer in told).encode()
    for secret in (UNKNOWN, mine.refresh_token, first, second, token):
        for form in forms(secret):
            assert form not in content

    assert send(desk, "DELETE", f"{path}?force=true", token).status_code == 204


@pytest.mark.timeout(600)
def test_a_person_renews_the_login_at_the_command_line(desk: Marked) -> None:
    desk.login()
    process = desk.start("credentials", "renew")
    try:
        assert process.stderr is not None
        for line in process.stderr:
            found = re.search(r"enter ([A-Z]{4}-[A-Z]{4})", line)
            if found:
                approve(desk, found[1])
                break
        output, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, errors
    assert "is kept until" in output
    assert "is kept until" in desk.ok("credentials", "list")
    desk.ok("credentials", "forget-login")
    assert "is kept" not in desk.ok("credentials", "list")
