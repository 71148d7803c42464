"""Every rule of access, and that a route without one is found."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from flask import Flask

from orchestrator.errors import NotFound
from orchestrator.identity import policy
from orchestrator.identity.claims import Caller
from orchestrator.identity.policy import Access, access, access_of, visible, without_policy
from orchestrator.model import Principal


@dataclass(frozen=True)
class Thing:
    owner: Principal


def caller(subject: str, issuer: str = "https://a.example") -> Caller:
    everything = frozenset({"admin", "/cms"})
    return Caller(Principal(issuer, subject), everything, everything, 0.0, None, None)


MINE = Thing(Principal("https://a.example", "alice"))
RULES = (policy.may_see, policy.may_change, policy.may_delete, policy.may_log_in_to_hosts)


@pytest.mark.parametrize("rule", RULES)
def test_owner_may(rule: object) -> None:
    assert rule(caller("alice"), MINE)  # type: ignore[operator]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "other", [caller("bob"), caller("alice", "https://b.example"), caller("Alice")]
)
def test_nobody_else_may_whatever_groups_and_scopes_say(rule: object, other: Caller) -> None:
    assert not rule(other, MINE)  # type: ignore[operator]


def test_anybody_with_a_token_may_create() -> None:
    assert policy.may_create(caller("bob"))


def test_owner_gets_the_thing() -> None:
    assert visible(caller("alice"), MINE, "d1") is MINE


def test_what_is_not_yours_looks_like_what_does_not_exist() -> None:
    with pytest.raises(NotFound) as not_mine:
        visible(caller("bob"), MINE, "d1")
    with pytest.raises(NotFound) as absent:
        visible(caller("bob"), None, "d1")
    assert vars(not_mine.value) == vars(absent.value)
    assert not_mine.value.status == 404


def test_routes_without_a_rule_are_named() -> None:
    app = Flask(__name__, static_folder=None)

    @app.get("/open")
    @access(Access.PUBLIC)
    def opened() -> str:
        return ""

    @app.get("/forgotten")
    def forgotten() -> str:
        return ""

    found = without_policy(app.url_map.iter_rules(), app.view_functions)
    assert found == ("/forgotten (forgotten)",)
    assert access_of(app.view_functions["opened"]) is Access.PUBLIC
    assert access_of(None) is None


@pytest.mark.parametrize(
    ("rule", "token"),
    [
        (Access.PUBLIC, False),
        (Access.THIS_MACHINE, False),
        (Access.AUTHENTICATED, True),
        (Access.NODE_CREDENTIAL, False),
        (Access.NODE, False),
        (Access.NODE_RUN, False),
        (Access.OWNER, True),
    ],
)
def test_rule_says_whether_a_token_is_needed(rule: Access, token: bool) -> None:
    assert rule.needs_token is token
    assert set(Access) == {
        Access.PUBLIC,
        Access.THIS_MACHINE,
        Access.AUTHENTICATED,
        Access.NODE_CREDENTIAL,
        Access.NODE,
        Access.NODE_RUN,
        Access.OWNER,
    }
    assert {rule for rule in Access if rule.is_a_nodes} == {
        Access.NODE_CREDENTIAL,
        Access.NODE,
        Access.NODE_RUN,
    }
