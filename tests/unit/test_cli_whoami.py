"""``vacuo whoami``, and what is said of a token that ends soon."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from api_world import ApiWorld
from cli_server import ID, OTHER, Recorded, Request, deployment, listing, problem, serving

from orchestrator.cli import exitcodes


def test_whoami_shows_roles_rights_limits_and_use(server: Recorded) -> None:
    result = server.run("whoami")
    assert result.exit_code == exitcodes.OK
    for shown in ("5f0c", "/cms/uscms", "user", "create, see", "1 of 5", "4 of 50", "300 a minute"):
        assert shown in result.stdout
    assert "8 of" not in result.stdout
    assert "9m00s" in result.stdout


def test_whoami_as_json_is_what_the_server_says(server: Recorded) -> None:
    document = json.loads(server.run("whoami", "-o", "json").stdout)
    assert document["whoami"] == server.answers["GET /whoami"]
    assert server.run("whoami", "-o", "name").stdout == "5f0c@https://iam.example.org/\n"


def test_whoami_tells_whom_no_rule_names_what_to_do(server: Recorded) -> None:
    known: Any = server.answers["GET /whoami"]
    server.answers["GET /whoami"] = known | {"roles": [], "limits": []}
    assert "show this to its administrator" in server.run("whoami").stderr


def test_whoami_against_the_real_server(tmp_path: Path) -> None:
    world = ApiWorld(tmp_path)
    try:
        with serving(tmp_path, world.app) as server:
            server.environment["BEARER_TOKEN"] = world.issuer.mint("alice", groups=("/cms",))
            shown = server.run("whoami").stdout
    finally:
        world.close()
    assert "alice" in shown
    assert "/cms" in shown
    assert "as many as you like" in shown


def test_a_limit_that_would_be_exceeded_is_told_with_numbers(
    server: Recorded, template: str
) -> None:
    server.answers["POST /deployments"] = problem(
        403,
        "limit-exceeded",
        what="The limit of 50 nodes of /cms would be exceeded.",
        why="Other deployments use 48, this one asks for 4.",
        attempt="ask for less, or delete what is not needed: vacuo whoami, vacuo list",
    )
    result = server.run("up", template)
    assert result.exit_code == exitcodes.UNAUTHORISED
    for part in ("50 nodes of /cms", "use 48", "asks for 4", "vacuo whoami"):
        assert part in result.stderr


def token(seconds: float) -> str:
    return jwt.encode({"exp": time.time() + seconds}, "k" * 32, algorithm="HS256")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(550, "Your token ends in 9 minutes (BEARER_TOKEN)."), (30, "Your token ends in a minute")],
)
def test_a_token_that_ends_soon_is_told_of(server: Recorded, seconds: float, said: str) -> None:
    server.environment["BEARER_TOKEN"] = token(seconds)
    result = server.run("list")
    assert said in result.stderr
    assert said not in result.stdout
    assert server.run("list", "-o", "json").stderr == ""


def test_a_token_that_lasts_is_not_spoken_of(server: Recorded) -> None:
    server.environment["BEARER_TOKEN"] = token(3000)
    assert "Your token" not in server.run("list").stderr


@pytest.mark.parametrize("renews", [True, False])
def test_a_login_that_renews_itself_is_not_spoken_of(server: Recorded, renews: bool) -> None:
    from orchestrator.identity.credentials import Credentials
    from orchestrator.identity.login import Login, LoginTarget

    home = {"HOME": str(server.home), "XDG_STATE_HOME": str(server.home / "state")}
    target = LoginTarget("cms", "https://iam.example.org/", "vacuo-cli", "vacuo")
    refresh = "a-refresh-token" if renews else None
    login = Login(
        target=target,
        access_token=token(500),
        expires_at=time.time() + 500,
        refresh_token=refresh,
        client_file=None,
    )
    Credentials(home)._keep(server.url, login)
    server.environment["BEARER_TOKEN"] = None
    assert ("Your token ends in" in server.run("list").stderr) is not renews


# --- deployments of others -----------------------------------------------------------------------


def test_a_deployment_of_another_person_is_never_meant_without_being_named(
    server: Recorded,
) -> None:
    def only_mine(request: Request) -> Any:
        return listing() if request.query.get("createdBy") == "me" else listing(deployment())

    server.answers["GET /deployments"] = only_mine
    refused = server.run("down")
    assert refused.exit_code != exitcodes.OK
    assert not server.requests("DELETE", f"/deployments/{ID}")
    named = server.run("down", ID[:8])
    assert named.exit_code == exitcodes.OK, named.output


def test_a_list_names_the_owners_where_there_are_several(server: Recorded) -> None:
    other = {"issuer": "https://iam.example.org/", "subject": "bob"}
    server.answers["GET /deployments"] = listing(deployment(), deployment(OTHER, createdBy=other))
    assert "bob" in server.run("list").stdout
    server.answers["GET /deployments"] = listing(deployment(OTHER, createdBy=other))
    assert "bob" not in server.run("list", "--mine").stdout
    assert server.requests("GET", "/deployments")[-1].query["createdBy"] == "me"
