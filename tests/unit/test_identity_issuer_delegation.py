"""The development issuer lets the server act for a person: exchange, and rotated refresh tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_identity_issuer import NAME, World

from orchestrator.identity.issuer_exchange import ACCESS_TOKEN, EXCHANGE_GRANT
from orchestrator.identity.tokens import Unauthenticated

AUDIENCE = "condor://pool.example:9618"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "data")


def server(world: World) -> dict[str, str]:
    secret = (world.settings.data_directory / "issuer/server-secret").read_text()
    return {"client_id": "vacuo-server", "client_secret": secret}


def exchange(world: World, subject_token: str, **changes: str) -> Any:
    form = {
        "grant_type": EXCHANGE_GRANT,
        "subject_token": subject_token,
        "subject_token_type": ACCESS_TOKEN,
        "scope": "offline_access condor:/READ",
        **server(world),
        **changes,
    }
    return world.post("token", **form)


def refresh(world: World, token: str, **changes: str) -> Any:
    form = {"grant_type": "refresh_token", "refresh_token": token, **server(world), **changes}
    return world.post("token", **form)


def test_the_server_gets_a_login_of_its_own_for_a_person(world: World) -> None:
    subject = world.logged_in("alice")["access_token"]
    answer = exchange(world, subject)
    assert answer.status_code == 200, answer.text
    found = answer.get_json()
    assert found["refresh_token_expires_in"] == 30 * 86400
    renewed = refresh(world, found["refresh_token"], audience=AUDIENCE, scope="condor:/READ")
    token = renewed.get_json()["access_token"]
    caller = world.validator.meant_for(AUDIENCE).validate(f"Bearer {token}")
    assert (caller.principal.issuer, caller.principal.subject) == (NAME, "alice")
    assert caller.scopes == {"condor:/READ"}
    with pytest.raises(Unauthenticated):
        world.caller(token)  # it is not for this server


@pytest.mark.parametrize("case", ["expired", "garbage", "script", "elsewhere", "refresh"])
def test_what_is_no_good_token_of_a_person_is_not_exchanged(world: World, case: str) -> None:
    login = world.logged_in("alice")
    token = login["access_token"]
    if case == "expired":
        world.now += 3601
    elif case == "garbage":
        token = "garbage"
    elif case == "script":
        form = {"grant_type": "client_credentials", "client_id": "vacuo-scripts"}
        token = world.post("token", **form, client_secret=world.secret()).get_json()["access_token"]
    elif case == "elsewhere":
        form = {"grant_type": "refresh_token", "client_id": "vacuo-cli", "audience": AUDIENCE}
        answer = world.post("token", **form, refresh_token=login["refresh_token"])
        token = answer.get_json()["access_token"]
    else:
        token = login["refresh_token"]
    assert exchange(world, token).get_json()["error"] == "invalid_grant"


def test_only_the_server_may_exchange(world: World) -> None:
    token = world.logged_in("alice")["access_token"]
    assert exchange(world, token, client_secret="wrong").status_code == 401
    public = exchange(world, token, client_id="vacuo-cli", client_secret="")
    assert public.get_json()["error"] in ("invalid_client", "unauthorized_client")
    scripts = exchange(world, token, client_id="vacuo-scripts", client_secret=world.secret())
    assert scripts.get_json()["error"] == "unauthorized_client"


def test_a_client_gets_no_offline_access_for_its_own_tokens(world: World) -> None:
    first = exchange(world, world.logged_in("alice")["access_token"]).get_json()
    again = exchange(world, first["access_token"])
    assert again.get_json()["error"] == "invalid_grant"


def test_what_cannot_be_had_by_exchange_is_said(world: World) -> None:
    token = world.logged_in("alice")["access_token"]
    for changes in (
        {"subject_token_type": "urn:ietf:params:oauth:token-type:id_token"},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:saml2"},
        {"actor_token": token},
    ):
        assert exchange(world, token, **changes).get_json()["error"] == "invalid_request"


def login(world: World) -> str:
    found: str = exchange(world, world.logged_in("alice")["access_token"]).get_json()[
        "refresh_token"
    ]
    return found


def test_each_use_of_a_refresh_token_gives_another(world: World) -> None:
    first = login(world)
    second = refresh(world, first).get_json()["refresh_token"]
    assert second != first
    third = refresh(world, second).get_json()["refresh_token"]
    # The first was left behind for good: whoever shows it ends them all.
    assert refresh(world, first).get_json()["error"] == "invalid_grant"
    assert refresh(world, third).get_json()["error"] == "invalid_grant"


def test_a_refresh_token_whose_answer_was_lost_is_used_again(world: World) -> None:
    first = login(world)
    lost = refresh(world, first).get_json()["refresh_token"]
    second = refresh(world, first).get_json()["refresh_token"]
    assert refresh(world, lost).get_json()["error"] == "invalid_grant"
    assert refresh(world, second).status_code == 200


def test_a_restart_knows_what_was_left_behind(world: World) -> None:
    first = login(world)
    second = refresh(world, first).get_json()["refresh_token"]
    third = refresh(world, second).get_json()["refresh_token"]
    world.start()
    assert refresh(world, first).get_json()["error"] == "invalid_grant"
    assert refresh(world, third).get_json()["error"] == "invalid_grant"


def test_rotation_does_not_make_a_login_last_longer(world: World) -> None:
    token = login(world)
    for _ in range(29):
        world.now += 86400
        token = refresh(world, token).get_json()["refresh_token"]
    world.now += 86401
    assert refresh(world, token).get_json()["error"] == "invalid_grant"


def test_a_refresh_token_is_of_its_client_alone(world: World) -> None:
    form = {"grant_type": "refresh_token", "client_id": "vacuo-cli"}
    assert world.post("token", **form, refresh_token=login(world)).status_code == 400


def test_a_refresh_gives_no_scope_that_the_login_has_not(world: World) -> None:
    found = refresh(world, login(world), scope="condor:/ADVERTISE_STARTD")
    assert found.get_json()["error"] == "invalid_scope"
