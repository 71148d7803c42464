"""Logins that the server keeps of people, with a real issuer over HTTP: how they come, what they
are good for, how they end; and those who lie about them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from api_world import AUDIENCE
from login_world import HOUR, LoginWorld

from orchestrator.errors import LoginUnusable, Retryable, StoreUnavailable
from orchestrator.identity.token_endpoint import Grant
from orchestrator.model import DeploymentId, EventKind, LoginState, Principal, TokenWanted

WANTED = TokenWanted(AUDIENCE, "condor:/READ")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LoginWorld]:
    made = LoginWorld(tmp_path)
    yield made
    made.close()


def token(world: LoginWorld, who: str = "alice") -> str:
    return world.delegation.token(world.person(who), WANTED)


def refreshes(world: LoginWorld) -> int:
    return sum(b"grant_type=refresh_token" in form for form in world.asked)


def kept(world: LoginWorld, who: str = "alice") -> Any:
    return world.get("/credentials", who=who).json["logins"]


def test_a_login_that_is_brought_gives_tokens_for_whom_they_are_wanted(world: LoginWorld) -> None:
    answer = world.bring()
    assert answer.status_code == 200, answer.text
    caller = world.caller(token(world), AUDIENCE)
    assert caller.principal == world.person()
    assert caller.scopes == {"condor:/READ"}
    assert caller.client_id == "vacuo-cli"
    (told,) = kept(world)
    assert told["state"] == "good"
    assert told["endsAt"] is not None
    assert kept(world, "bob") == []


def test_a_deployment_that_needs_a_login_gets_it_by_exchange(world: LoginWorld) -> None:
    id = world.submit()
    assert world.caller(token(world), AUDIENCE).client_id == "vacuo-server"
    world.passes(id, 20)
    assert len(world.joined(id)) == 2
    asked = len(world.asked)
    world.submit()  # the login is a young one
    assert len(world.asked) == asked


def test_no_login_is_got_where_no_pool_wants_one(tmp_path: Path) -> None:
    world = LoginWorld(tmp_path)
    try:
        for pool in world.ports.pools.values():
            pool.token_wanted = lambda: None  # type: ignore[method-assign]
        world.submit()
        assert kept(world) == []
        assert not world.asked
    finally:
        world.close()


def test_the_refresh_token_never_comes_back_and_is_sealed(world: LoginWorld, caplog: Any) -> None:
    secret = world.refresh_token()
    answer = world.send("PUT", "/delegation", {"refreshToken": secret})
    access = token(world)
    listed = world.get("/credentials").text
    stored = b"".join(p.read_bytes() for p in world.settings.data_directory.glob("vacuo.db*"))
    events = repr(world.repository.events())
    for text in (answer.text, listed, caplog.text, events, stored.decode("latin-1")):
        assert secret not in text
        assert access not in text
    # The one in force was got by rotation: it is nowhere either.
    (current,) = [
        world.delegation._grant(world.person()).refresh_token,
    ]
    assert current != secret
    assert current.encode() not in stored


def test_a_token_is_used_again_while_most_of_its_life_is_left(world: LoginWorld) -> None:
    world.bring()
    before = refreshes(world)
    first = token(world)
    world.now += 800
    assert token(world) == first
    world.now += 200
    assert token(world) != first
    assert refreshes(world) == before + 2


def test_a_rotated_refresh_token_is_stored_before_its_access_token_is_used(
    world: LoginWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.bring()
    secrets = world.delegation._secrets
    put, broken = secrets.put, [True]

    def unstable(*arguments: Any) -> Any:
        if broken[0]:
            raise StoreUnavailable("the disk is full")
        return put(*arguments)

    monkeypatch.setattr(secrets, "put", unstable)
    with pytest.raises(Retryable, match="stored"):
        token(world)
    broken[0] = False
    world.now += 60
    # What the issuer gave last was kept in memory: the login lives on.
    assert token(world)
    world.now += HOUR
    assert token(world)


def test_what_could_not_be_stored_does_not_take_the_place_of_a_later_login(
    world: LoginWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.bring()
    token(world)
    known = world.delegation._known(world.person())
    known.unsaved = Grant("vacuo-cli", "left over")
    login = world.repository.logins.get(world.person())
    assert login
    # Another server takes the next login of this person.
    turn = world.repository.logins.begin(world.person(), world.now, world.now + 60)
    world.now += 2 * HOUR
    world.repository.logins.settle(replace(login, since=world.now), turn or 0)
    assert token(world)


def test_a_server_that_died_before_it_stored_the_next_asks_again(world: LoginWorld) -> None:
    """With an issuer that lets the one before be used until the next is, as ours does."""
    world.bring()
    grant = world.delegation._grant(world.person())
    endpoint = world.delegation._endpoint(world.person())
    endpoint.refresh(grant, AUDIENCE, "")  # the answer of this was never stored
    assert token(world)


def test_one_server_at_a_time_renews(world: LoginWorld) -> None:
    world.bring()
    person = world.person()
    turn = world.repository.logins.begin(person, world.now, world.now + 60)
    assert turn
    with pytest.raises(Retryable, match="another server"):
        token(world)
    world.now += 61  # that one died
    assert token(world)


def test_many_threads_ask_the_issuer_once(world: LoginWorld) -> None:
    world.bring()
    before = refreshes(world)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(token(world))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(found)) == 1
    assert len(found) == 8
    assert refreshes(world) == before + 1


# --- what the issuer may say ----------------------------------------------------------------------


def test_a_login_that_the_issuer_ended_is_not_asked_about_again(world: LoginWorld) -> None:
    world.bring()
    world.answers = [(400, '{"error": "invalid_grant"}')]
    for _ in range(3):
        with pytest.raises(LoginUnusable, match="invalid_grant") as error:
            token(world)
        assert error.value.code == "login-ended"
        world.now += HOUR
    asked = refreshes(world)
    assert kept(world)[0]["state"] == "ended"
    with pytest.raises(LoginUnusable):
        token(world)
    assert refreshes(world) == asked
    assert world.bring().status_code == 200
    assert token(world)


@pytest.mark.parametrize("error", ["invalid_client", "invalid_scope", "invalid_target", "!<x>"])
def test_what_only_an_administrator_can_mend_is_tried_again_after_a_while(
    world: LoginWorld, error: str
) -> None:
    world.bring()
    world.answers = [(400, json.dumps({"error": error}))]
    with pytest.raises(LoginUnusable) as first:
        token(world)
    assert first.value.code == "login-refused"
    assert "<" not in str(first.value)
    assert kept(world)[0]["state"] == "refused"
    asked = refreshes(world)
    world.now += 60
    with pytest.raises(LoginUnusable):
        token(world)
    assert refreshes(world) == asked
    world.now += 300
    assert token(world)
    assert kept(world)[0]["state"] == "good"


@pytest.mark.parametrize(
    "answer",
    [(500, "{}"), (503, "no"), (429, "{}"), (200, "not JSON"), (200, "{}"), (200, "[1]")],
)
def test_an_issuer_in_trouble_ends_no_login(world: LoginWorld, answer: tuple[int, str]) -> None:
    world.bring()
    world.answers = [answer]
    with pytest.raises(Retryable):
        token(world)
    assert kept(world)[0]["state"] == "good"
    world.now += 31
    assert token(world)


def test_a_token_that_still_lasts_does_while_the_issuer_is_away(world: LoginWorld) -> None:
    world.bring()
    token(world)
    world.now += 0.5 * HOUR
    world.answers = [(503, "")]
    world.delegation.look(world.person(), WANTED)
    assert world.answers  # it was not asked
    world.now += HOUR
    with pytest.raises(Retryable):
        world.delegation.look(world.person(), WANTED)


def test_a_token_for_another_audience_is_not_used(world: LoginWorld) -> None:
    world.bring()
    mine = world.issuer.mint("alice")
    world.answers = [(200, json.dumps({"access_token": mine, "token_type": "Bearer"}))]
    with pytest.raises(LoginUnusable, match=AUDIENCE) as error:
        token(world)
    assert error.value.code == "login-refused"


# --- those who lie --------------------------------------------------------------------------------


def alarms(world: LoginWorld) -> list[str]:
    audits = [one for one in world.repository.events() if one.kind is EventKind.AUDIT]
    return [event.message for event in audits if event.phase == "denied"]


def test_the_refresh_token_of_somebody_else_is_refused(world: LoginWorld) -> None:
    answer = world.bring("alice", as_="mallory")
    assert answer.status_code == 403, answer.text
    assert kept(world, "mallory") == []
    assert kept(world, "alice") == []
    assert any("somebody else" in message for message in alarms(world))


def test_anothers_refresh_token_does_not_take_the_place_of_ones_own(world: LoginWorld) -> None:
    world.bring("mallory")
    assert world.bring("alice", as_="mallory").status_code == 403
    caller = world.caller(token(world, "mallory"), AUDIENCE)
    assert caller.principal == world.person("mallory")


def test_an_issuer_that_answers_with_somebody_elses_token_ends_the_login(
    world: LoginWorld,
) -> None:
    world.bring()
    minter = world.issuer._minter
    theirs = minter.mint("bob", "vacuo-cli", "", audience=AUDIENCE)
    world.answers = [(200, json.dumps({"access_token": theirs, "token_type": "Bearer"}))]
    with pytest.raises(LoginUnusable, match="somebody else") as error:
        token(world)
    assert error.value.code == "login-ended"
    assert any("somebody else" in message for message in alarms(world))
    with pytest.raises(LoginUnusable):
        token(world)


def test_an_exchange_that_answers_with_somebody_elses_login_gives_none(world: LoginWorld) -> None:
    theirs = world.issuer.mint("bob")
    answer = {"access_token": theirs, "token_type": "Bearer", "refresh_token": "bobs"}
    world.answers = [(200, json.dumps(answer))]
    id = world.submit()
    assert kept(world) == []
    assert alarms(world)
    world.passes(id, 5)
    assert world.codes(id) == {"login-missing"}


@pytest.mark.parametrize("text", ["", "two words", "x" * 16385, "ünicode", "unknown", "tab\t"])
def test_what_is_no_refresh_token_is_refused_and_not_repeated(world: LoginWorld, text: str) -> None:
    answer = world.send("PUT", "/delegation", {"refreshToken": text})
    assert answer.status_code == 400
    assert kept(world) == []
    if len(text) > 5:
        assert text not in answer.text


def test_the_refresh_token_goes_to_its_issuer_alone_and_in_the_body(world: LoginWorld) -> None:
    world.bring()
    token(world)
    forms = [parse_qs(form.decode()) for form in world.asked]
    assert forms[-1]["audience"] == [AUDIENCE]
    assert forms[-1]["scope"] == ["condor:/READ"]
    with pytest.raises(LoginUnusable) as error:
        world.delegation.token(Principal("https://evil.example", "alice"), WANTED)
    assert error.value.code == "login-missing"


def test_a_login_that_is_forgotten_is_worth_nothing(world: LoginWorld) -> None:
    world.bring()
    token(world)
    grant = world.delegation._grant(world.person())
    assert world.send("DELETE", "/delegation").status_code == 204
    with pytest.raises(LoginUnusable) as error:
        token(world)
    assert error.value.code == "login-missing"
    assert kept(world) == []
    endpoint = world.delegation._endpoint(world.person())
    with pytest.raises(Exception, match="invalid_grant"):
        endpoint.refresh(grant, AUDIENCE, "")
    assert world.send("DELETE", "/delegation").status_code == 204


# --- the command line -----------------------------------------------------------------------------


def test_renew_logs_in_for_the_server_and_keeps_nothing_here(
    world: LoginWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    desk = world.desk(home)
    waiting = desk.run("credentials", "list")
    assert "Your login" not in waiting.output
    monkeypatch.setattr("orchestrator.cli.login._show_code", approve)
    done = desk.run("credentials", "renew")
    assert done.exit_code == 0, done.output
    assert "is kept until" in done.output
    assert not list(home.rglob("*.json"))
    assert token(world)
    listed = desk.run("credentials", "list")
    assert "Your login" in listed.output
    forgotten = desk.run("credentials", "forget-login")
    assert forgotten.exit_code == 0, forgotten.output
    assert kept(world) == []


def approve(_session: Any, code: Any) -> None:
    import httpx

    form = {"user_code": code.user_code, "user": "alice", "answer": "approve"}
    assert httpx.post(code.verification_uri, data=form).status_code == 200


def test_state_none_is_no_login(world: LoginWorld) -> None:
    """A server that died in its first turn has left a row, and no login."""
    world.repository.logins.begin(world.person(), world.now, world.now + 60)
    assert world.delegation.kept(world.person()) is None
    assert LoginState.NONE not in {LoginState.GOOD, LoginState.ENDED}
    world.now += 61
    assert world.bring().status_code == 200


def test_without_a_login_a_deployment_waits_and_says_so(world: LoginWorld) -> None:
    world.answers = [(400, '{"error": "invalid_request"}')]
    id = world.submit()
    world.passes(id, 5)
    found = world.repository.deployment(DeploymentId(id))
    assert world.codes(id) == {"login-missing"}
    assert found.status_reason
    assert found.status_reason.next_command == "vacuo credentials renew"
    assert not world.world.hosts
    assert world.bring().status_code == 200
    world.passes(id, 20)
    assert len(world.joined(id)) == 2
    assert "login-missing" not in world.codes(id)
