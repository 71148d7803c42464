"""Every rule of access, and that a route without one is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import Forbidden, LimitExceeded, NotFound
from orchestrator.identity import policy
from orchestrator.identity.access import Each, Role, Rule, Rules, Together
from orchestrator.identity.claims import Caller
from orchestrator.identity.limits import allowances
from orchestrator.identity.policy import (
    Access,
    InsufficientScope,
    Right,
    Standing,
    access,
    access_of,
    admit,
    allowed,
    granted,
    grants,
    share,
    standing,
    without_policy,
)
from orchestrator.model import (
    Account,
    Allowance,
    Deployment,
    DeploymentId,
    DeploymentSpec,
    DeploymentStatus,
    Principal,
    Use,
)
from orchestrator.store.repository import Repository

A, B = "https://a.example", "https://b.example"


@dataclass(frozen=True)
class Thing:
    owner: Principal
    user_group: str | None = None


def caller(subject: str, issuer: str = A, groups: tuple[str, ...] = (), scope: str = "") -> Caller:
    return Caller(
        Principal(issuer, subject), frozenset(groups), frozenset(scope.split()), 0.0, None, None
    )


def everybody(*issuers: str) -> Rules:
    return Rules(rules=tuple(Rule(role=Role.USER, issuer=one, anybody=True) for one in issuers))


def user(subject: str, issuer: str = A, groups: tuple[str, ...] = (), scope: str = "") -> Standing:
    return standing(caller(subject, issuer, groups, scope), everybody(A, B))


def in_role(role: Role, subject: str = "erin") -> Standing:
    return standing(caller(subject), Rules(rules=(Rule(role=role, issuer=A, subjects=(subject,)),)))


MINE = Thing(Principal(A, "alice"))
SHARED = Thing(Principal(A, "alice"), "/cms")


def test_owner_may_do_everything() -> None:
    assert granted(user("alice"), MINE) == policy.OWNER
    assert allowed(user("alice"), MINE, "d1", Right.SECRETS) is MINE


@pytest.mark.parametrize(
    "other", [user("bob"), user("alice", B), user("Alice"), user("bob", groups=("/cms",))]
)
def test_nobody_else_may_do_anything(other: Standing) -> None:
    assert granted(other, MINE) == frozenset()


def test_members_of_the_group_may_do_all_but_read_secrets() -> None:
    member = user("bob", groups=("/cms",))
    assert granted(member, SHARED) == policy.OWNER - {Right.SECRETS}
    with pytest.raises(Forbidden):
        allowed(member, SHARED, "d1", Right.SECRETS)


@pytest.mark.parametrize(
    ("group", "member"),
    [
        ("/cms", True),
        ("/cms/uscms", True),
        ("/cmsx", False),
        ("/cms-x/uscms", False),
        ("/CMS", False),
        ("/atlas/cms", False),
        ("/", False),
    ],
)
def test_groups_match_at_slashes_only(group: str, member: bool) -> None:
    assert bool(granted(user("bob", groups=(group,)), SHARED)) is member
    rules = Rules(rules=(Rule(role=Role.AUDITOR, issuer=A, groups=("/cms",)),))
    assert bool(standing(caller("bob", groups=(group,)), rules).roles) is member


@pytest.mark.parametrize("stored", ["", "cms", "/"])
def test_a_group_that_is_no_path_is_nobodys(stored: str) -> None:
    assert not granted(user("bob", groups=("/cms",)), Thing(MINE.owner, stored))


def test_a_group_of_another_issuer_is_another_group() -> None:
    assert not granted(user("bob", B, ("/cms",)), SHARED)
    rules = Rules(rules=(Rule(role=Role.ADMINISTRATOR, issuer=A, groups=("/cms",)),))
    assert not standing(caller("bob", B, ("/cms",)), rules).roles
    rules = Rules(rules=(Rule(role=Role.ADMINISTRATOR, issuer=A, subjects=("bob",)),))
    assert not standing(caller("bob", B), rules).roles


def test_whom_no_rule_names_may_do_nothing_even_with_their_own() -> None:
    nobody = standing(caller("alice"), Rules(rules=()))
    assert not granted(nobody, MINE)
    assert grants(nobody).own == frozenset()
    for right in Right:
        with pytest.raises(Forbidden):
            admit(nobody, right)


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.AUDITOR])
def test_only_users_and_administrators_create(role: Role) -> None:
    with pytest.raises(Forbidden, match="You may not make deployments"):
        admit(in_role(role), Right.CREATE)
    admit(in_role(Role.ADMINISTRATOR), Right.CREATE)
    admit(in_role(Role.USER), Right.CREATE)


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.USER])
def test_only_auditors_and_administrators_read_the_audits(role: Role) -> None:
    with pytest.raises(Forbidden, match="You may not read the audits"):
        admit(in_role(role), Right.AUDIT)
    admit(in_role(Role.ADMINISTRATOR), Right.AUDIT)
    admit(in_role(Role.AUDITOR), Right.AUDIT)


# --- capabilities --------------------------------------------------------------------------------

CAPABILITY = {
    Right.CREATE: "compute.create",
    Right.SEE: "compute.read",
    Right.CHANGE: "compute.modify",
    Right.DELETE: "compute.cancel",
    Right.DRAIN: "compute.cancel",
    Right.SECRETS: "compute.modify",
    Right.AUDIT: "compute.read",
}


@pytest.mark.parametrize("right", Right)
@pytest.mark.parametrize("scope", [*sorted(set(CAPABILITY.values())), "storage.read:/"])
def test_a_capability_is_good_for_what_it_names_alone(right: Right, scope: str) -> None:
    rules = Rules(rules=(Rule(role=Role.ADMINISTRATOR, issuer=A, anybody=True),))
    who = standing(caller("alice", scope=f"openid {scope}"), rules)
    if CAPABILITY[right] == scope:
        admit(who, right)
    else:
        with pytest.raises(InsufficientScope) as refused:
            admit(who, right)
        assert refused.value.status == 403
        assert refused.value.scope == CAPABILITY[right]


def test_scopes_that_are_no_capabilities_take_nothing_away() -> None:
    for right in set(Right) - {Right.AUDIT}:
        admit(user("alice", scope="openid profile offline_access wlcg.groups"), right)


def test_a_capability_gives_no_more_than_the_rules_do() -> None:
    assert not granted(user("bob", scope="compute.read compute.modify compute.cancel"), SHARED)
    with pytest.raises(Forbidden):
        admit(standing(caller("bob", scope="compute.create"), Rules(rules=())), Right.CREATE)


def test_a_capability_for_a_path_is_none_of_ours() -> None:
    with pytest.raises(InsufficientScope):
        admit(user("alice", scope="compute.read:/x"), Right.SEE)


# --- what does not exist -------------------------------------------------------------------------


def test_what_is_not_yours_looks_like_what_does_not_exist() -> None:
    with pytest.raises(NotFound) as not_mine:
        allowed(user("bob"), MINE, "d1", Right.SEE)
    with pytest.raises(NotFound) as absent:
        allowed(user("bob"), None, "d1", Right.SEE)
    assert vars(not_mine.value) == vars(absent.value)
    assert not_mine.value.status == 404


# --- properties ----------------------------------------------------------------------------------

GROUPS = ("/cms", "/cms/uscms", "/cms/uscms/fnal", "/cmsx", "/atlas")
PEOPLE = ("alice", "bob", "erin")
ISSUERS = (A, B)
callers = st.builds(
    caller,
    st.sampled_from(PEOPLE),
    st.sampled_from(ISSUERS),
    st.lists(st.sampled_from(GROUPS), max_size=3).map(tuple),
)
things = st.builds(
    Thing,
    st.builds(Principal, st.sampled_from(ISSUERS), st.sampled_from(PEOPLE)),
    st.sampled_from((None, *GROUPS)),
)
rules = st.lists(
    st.one_of(
        st.builds(
            Rule,
            role=st.sampled_from(Role),
            issuer=st.sampled_from(ISSUERS),
            groups=st.lists(st.sampled_from(GROUPS), min_size=1, max_size=2).map(tuple),
            subjects=st.lists(st.sampled_from(PEOPLE), max_size=1).map(tuple),
        ),
        st.builds(
            Rule,
            role=st.sampled_from(Role),
            issuer=st.sampled_from(ISSUERS),
            anybody=st.just(True),
        ),
    ),
    max_size=4,
).map(lambda found: Rules(rules=tuple(found)))


def inside(groups: frozenset[str], group: str) -> bool:
    wanted = group.split("/")
    return any(one.split("/")[: len(wanted)] == wanted for one in groups)


def roles_told_otherwise(who: Caller, rules: Rules) -> set[Role]:
    return {
        rule.role
        for rule in rules.rules
        if rule.issuer == who.principal.issuer
        and (
            rule.anybody
            or who.principal.subject in rule.subjects
            or any(inside(who.groups, group) for group in rule.groups)
        )
    }


@given(callers, things, rules)
def test_nobody_outside_owner_group_and_roles_ever_sees_anything(
    who: Caller, thing: Thing, rules: Rules
) -> None:
    roles = roles_told_otherwise(who, rules)
    own = who.principal == thing.owner
    member = (
        thing.user_group is not None
        and who.principal.issuer == thing.owner.issuer
        and inside(who.groups, thing.user_group)
    )
    powerful = roles & {Role.ADMINISTRATOR, Role.OPERATOR, Role.AUDITOR}
    found = granted(standing(who, rules), thing)
    assert (Right.SEE in found) == bool(roles and (own or member or powerful))
    assert not found or Right.SEE in found


@given(callers, things, rules)
def test_secrets_are_for_owners_and_administrators_alone(
    who: Caller, thing: Thing, rules: Rules
) -> None:
    roles = roles_told_otherwise(who, rules)
    if Right.SECRETS in granted(standing(who, rules), thing):
        assert roles
        assert who.principal == thing.owner or Role.ADMINISTRATOR in roles


@given(callers, things, rules)
def test_equal_names_of_two_issuers_never_mix(who: Caller, thing: Thing, rules: Rules) -> None:
    """Whatever is of the other issuer alone (owner, rules) gives the caller nothing."""
    other = B if who.principal.issuer == A else A
    elsewhere = Thing(Principal(other, thing.owner.subject), thing.user_group)
    foreign = Rules(rules=tuple(r.model_copy(update={"issuer": other}) for r in rules.rules))
    assert not granted(standing(who, foreign), thing)
    assert not granted(standing(who, everybody(A, B)), elsewhere)


@given(callers, things, rules, st.sampled_from(Right))
def test_what_is_allowed_is_what_is_granted(
    who: Caller, thing: Thing, rules: Rules, right: Right
) -> None:
    here = standing(who, rules)
    may = granted(here, thing)
    try:
        assert allowed(here, thing, "d1", right) is thing
        assert right in may
    except NotFound:
        assert not may
    except Forbidden:
        assert may
        assert right not in may


@pytest.fixture(scope="module")
def repository() -> Iterator[Repository]:
    found = Repository.open("sqlite://")
    for number, (issuer, subject, group) in enumerate(product(ISSUERS, PEOPLE, (None, *GROUPS))):
        found.create(
            Deployment(
                id=DeploymentId(f"d{number}"),
                owner=Principal(issuer, subject),
                template="",
                parameters={},
                spec=DeploymentSpec("", ()),
                status=DeploymentStatus.CREATE_COMPLETE,
                created_at=number,
                updated_at=number,
                user_group=group,
            )
        )
    yield found
    found.close()


@settings(deadline=None, max_examples=60)
@given(callers, rules)
def test_lists_have_what_may_be_seen_and_count_it(
    repository: Repository, who: Caller, rules: Rules
) -> None:
    here = standing(who, rules)
    if not here.roles:
        return  # never admitted
    everything = repository.deployments(size=100).items
    seen = {one.id for one in everything if Right.SEE in granted(here, one)}
    page = repository.deployments(sight=here.sight, size=5)
    assert page.total == len(seen)
    assert {one.id for one in repository.deployments(sight=here.sight, size=100).items} == seen
    assert {one.id for one in page.items} <= seen


# --- sharing -------------------------------------------------------------------------------------


def test_a_deployment_is_shared_with_a_group_of_ones_own_only() -> None:
    alice = user("alice", groups=("/cms/uscms",))
    assert share(alice, None) is None
    assert share(alice, "cms/uscms") == share(alice, "/cms/uscms") == "/cms/uscms"
    assert share(alice, "/cms") == "/cms"
    for group in ("/atlas", "/cms/uscms/fnal", "/cmsx", "", "/", "/x//cms"):
        with pytest.raises(Forbidden, match="/cms/uscms"):
            share(alice, group)


def test_only_its_owner_shares_a_deployment_with_another_group() -> None:
    bob = user("bob", groups=("/cms", "/atlas"))
    assert share(bob, None, SHARED) == "/cms"
    assert share(bob, "cms", SHARED) == "/cms"
    with pytest.raises(Forbidden, match="owner"):
        share(bob, "/atlas", SHARED)


# --- limits --------------------------------------------------------------------------------------


def limited(*rules: Rule) -> Standing:
    return standing(caller("alice", groups=("/cms/uscms",)), Rules(rules=rules))


def test_the_most_generous_rule_counts_field_by_field() -> None:
    who = limited(
        Rule(role=Role.USER, issuer=A, groups=("/cms",), each=Each(nodes=5, cores=100)),
        Rule(role=Role.USER, issuer=A, subjects=("alice",), each=Each(nodes=9, deployments=1)),
    )
    assert who.each == Each(nodes=9)
    assert (
        limited(
            Rule(role=Role.USER, issuer=A, groups=("/cms",), each=Each(nodes=5)),
            Rule(role=Role.USER, issuer=A, subjects=("alice",)),
        ).each
        == Each()
    )
    assert limited(
        Rule(role=Role.USER, issuer=A, groups=("/cms",), each=Each(nodes=5)),
        Rule(role=Role.AUDITOR, issuer=A, subjects=("alice",)),
    ).each == Each(nodes=5)


def test_administrators_have_no_limits() -> None:
    who = limited(
        Rule(
            role=Role.USER,
            issuer=A,
            groups=("/cms",),
            each=Each(nodes=5),
            together=Together(nodes=5),
        ),
        Rule(role=Role.ADMINISTRATOR, issuer=A, subjects=("alice",)),
    )
    assert allowances(who, who.caller.principal, "/cms") == ()


def test_limits_of_groups_are_for_those_below_too() -> None:
    who = limited(
        Rule(role=Role.USER, issuer=A, groups=("/cms",), together=Together(nodes=50)),
        Rule(role=Role.USER, issuer=A, groups=("/cms/uscms",), together=Together(nodes=5)),
        Rule(role=Role.USER, issuer=B, groups=("/cms",), together=Together(nodes=1)),
    )
    cms, uscms = Account(A, group="/cms"), Account(A, group="/cms/uscms")
    me = who.caller.principal
    assert allowances(who, me, "/cms/uscms") == (
        Allowance(cms, nodes=50),
        Allowance(uscms, nodes=5),
    )
    assert allowances(who, me, "/cms") == (Allowance(cms, nodes=50),)
    assert allowances(who, me, "/cmsx") == allowances(who, me, None) == ()


def test_an_allowance_says_which_limit_and_what_is_used() -> None:
    allowance = Allowance(Account(A, "alice"), nodes=5, cores=20)
    allowance.check(Use(1, 3, 6), Use(), Use(1, 2, 14))
    with pytest.raises(LimitExceeded) as refused:
        allowance.check(Use(1, 3, 6), Use(), Use(1, 3, 2))
    error = refused.value
    assert (error.kind, error.used, error.asked, error.limit) == ("nodes", 3, 3, 5)
    assert error.of == f"alice@{A}"
    assert error.status == 403


def test_what_does_not_grow_is_let_be_when_a_limit_was_lowered() -> None:
    allowance = Allowance(Account(A, "alice"), nodes=5)
    allowance.check(Use(1, 10, 10), Use(1, 8, 8), Use(1, 7, 7))
    with pytest.raises(LimitExceeded):
        allowance.check(Use(1, 10, 10), Use(1, 8, 8), Use(1, 9, 9))


# --- routes --------------------------------------------------------------------------------------


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


def test_what_needs_a_token_and_what_is_a_nodes() -> None:
    free = {Access.PUBLIC, Access.PAGE, Access.THIS_MACHINE}
    nodes = {Access.NODE_CREDENTIAL, Access.NODE, Access.NODE_RUN}
    assert {rule for rule in Access if rule.is_a_nodes} == nodes
    assert {rule for rule in Access if rule.needs_token} == set(Access) - free - nodes
    assert {rule for rule in Access if rule.right is None} == free | nodes | {Access.IDENTIFIED}
