"""Who may do what over the API: every route, every role, whoever's deployment it is; and limits."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_world import ApiWorld, submission

from orchestrator.control.service import Submission
from orchestrator.identity import policy
from orchestrator.identity.access import Role
from orchestrator.identity.policy import Access, Right, access_of
from orchestrator.model import Deployment, Principal

ROOT = Path(__file__).parents[2]
RULES = """\
rules:
  - {role: administrator, issuer: development, subjects: [root]}
  - {role: operator, issuer: development, subjects: [ops]}
  - {role: auditor, issuer: development, subjects: [audit]}
  - {role: user, issuer: development, groups: [/cms], subjects: [alice, una]}
"""
# Who they are, and whether they are in the group that a deployment is shared with.
GROUPS = {"alice": ("/cms",), "bob": ("/cms/uscms",), "una": ("/cmsx",), "mallory": ("/atlas",)}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ApiWorld]:
    found = ApiWorld(tmp_path, access=RULES)
    found.groups = dict(GROUPS)
    yield found
    found.close()


def put(world: ApiWorld, owner: str, group: str | None = None) -> Deployment:
    """A deployment with a node, made past the API: an operator may not make one."""
    principal = Principal(world.issuer.issuer.issuer, owner)
    made = world.orchestrator.submit(
        principal, Submission(submission()["template"], user_group=group)
    )
    world.passes(made.id, 6)
    return made


# --- every route, every role, whoever's deployment -----------------------------------------------

# What each route about one deployment needs, and what it answers to those who have it.
ROUTES = {
    ("GET", "/deployments/{id}"): ("see", 200),
    ("GET", "/deployments/{id}/template"): ("see", 200),
    ("GET", "/deployments/{id}/log"): ("see", 200),
    ("GET", "/deployments/{id}/resources"): ("see", 200),
    ("GET", "/deployments/{id}/resources/{rid}"): ("see", 200),
    ("GET", "/deployments/{id}/resources/{rid}/ssh"): ("secrets", 200),
    ("POST", "/deployments/{id}/resources/{rid}/actions"): ("drain", 202),
    ("GET", "/deployments/{id}/plan"): ("see", 200),
    ("POST", "/deployments/{id}/plan"): ("change", 200),
    ("GET", "/deployments/{id}/explain"): ("see", 200),
    ("GET", "/deployments/{id}/events"): ("see", 200),
    ("PUT", "/deployments/{id}"): ("change", 202),
    ("DELETE", "/deployments/{id}"): ("delete", 204),
}
# And the others that want a token: what they answer to each role.
EVERYBODY = {"administrator": 200, "operator": 200, "auditor": 200, "user": 200, "nobody": 403}
OTHERS = {
    ("GET", "/deployments"): EVERYBODY,
    ("GET", "/events"): EVERYBODY,
    ("GET", "/audits"): EVERYBODY | {"operator": 403, "user": 403},
    ("GET", "/checks"): EVERYBODY,
    ("POST", "/validate"): EVERYBODY,
    ("POST", "/plan"): EVERYBODY,
    ("GET", "/whoami"): EVERYBODY | {"nobody": 200},
    ("GET", "/session"): EVERYBODY | {"nobody": 200},
    ("POST", "/deployments"): {"administrator": 201, "user": 201, "operator": 403, "auditor": 403}
    | {"nobody": 403},
    ("GET", "/credentials"): EVERYBODY,
    ("PUT", "/credentials/{name}"): EVERYBODY | {"operator": 403, "auditor": 403},
    ("DELETE", "/credentials/{name}"): EVERYBODY
    | {"administrator": 204, "user": 204, "operator": 403, "auditor": 403},
    # A token that the issuer does not know: whoever may send it is told so.
    ("PUT", "/delegation"): EVERYBODY
    | {"administrator": 400, "user": 400, "operator": 403, "auditor": 403},
    ("DELETE", "/delegation"): EVERYBODY
    | {"administrator": 204, "user": 204, "operator": 403, "auditor": 403},
}
BODIES = {"/deployments/{id}/resources/{rid}/actions": {"type": "drain"}}
CREDENTIAL = {"kind": "ssh", "secrets": {"private_key": "a key"}}
ALL = "see change delete drain secrets"
MAY = {
    "administrator": {"own": ALL, "shared": ALL, "another's": ALL},
    "operator": {"own": ALL, "shared": "see delete drain", "another's": "see delete drain"},
    "auditor": {"own": ALL, "shared": "see", "another's": "see"},
    "user": {"own": ALL, "shared": "", "another's": ""},
    "member": {"own": ALL, "shared": "see change delete drain", "another's": ""},
    "nobody": {"own": "", "shared": "", "another's": ""},
}
WHO = {"administrator": "root", "operator": "ops", "auditor": "audit", "user": "una"} | {
    "member": "bob",
    "nobody": "mallory",
}


def of_token(world: ApiWorld) -> set[tuple[str, str]]:
    """(method, path) of all routes that want the token of a person."""
    found = set()
    for rule in world.app.url_map.iter_rules():
        wanted = access_of(world.app.view_functions[rule.endpoint])
        if wanted is not None and wanted.needs_token:
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
            found |= {(method, path) for method in rule.methods or set()}
    return {route for route in found if route[0] not in ("HEAD", "OPTIONS")}


def test_every_route_is_in_the_tables(world: ApiWorld) -> None:
    assert of_token(world) == ROUTES.keys() | OTHERS.keys()


CAPABILITIES = (
    "compute.read",
    "compute.modify",
    "compute.cancel",
    "compute.create",
    "storage.read:/",
)


@pytest.mark.parametrize("whose", ["own", "shared", "another's"])
@pytest.mark.parametrize("role", MAY)
def test_each_route_answers_each_role_as_documented(world: ApiWorld, role: str, whose: str) -> None:
    owner = WHO[role] if whose == "own" else "alice"
    found = put(world, owner, "/cms" if whose == "shared" else None)
    node = world.repository.nodes(found.id)[0].name
    may = MAY[role][whose].split()
    for (method, path), (right, good) in ROUTES.items():
        filled = path.replace("{id}", found.id).replace("{rid}", node)
        body: dict[str, Any] | None = None if method in ("POST", "PUT") else {}
        answer = world.send(method, filled, BODIES.get(path, body), who=WHO[role])
        refused = 403 if role == "nobody" or "see" in may else 404
        wanted = good if right in may else refused
        assert answer.status_code == wanted, (role, whose, method, path, answer.text)
        if wanted == 403:
            assert answer.json["code"] == "forbidden"
            assert answer.json["why"]
            assert answer.json["attempt"]


@pytest.mark.parametrize("role", EVERYBODY)
def test_routes_about_no_deployment_answer_each_role_as_documented(
    world: ApiWorld, role: str
) -> None:
    for (method, path), wanted in OTHERS.items():
        body: dict[str, Any] | None = None if method == "POST" else {}
        if method == "PUT":
            body = {"refreshToken": "x"} if path == "/delegation" else CREDENTIAL
        answer = world.send(method, path.replace("{name}", "mine"), body, who=WHO[role])
        assert answer.status_code == wanted[role], (role, method, path, answer.text)


def test_whom_no_rule_names_cannot_tell_what_exists(world: ApiWorld) -> None:
    found = put(world, "alice")
    one = world.get(f"/deployments/{found.id}", "mallory", **{"X-Request-Id": "x"})
    none = world.get("/deployments/absent", "mallory", **{"X-Request-Id": "x"})
    assert one.status_code == none.status_code == 403
    assert one.text == none.text


def test_a_token_is_good_for_the_capabilities_it_names_alone(world: ApiWorld) -> None:
    needed = {"see": "compute.read", "change": "compute.modify", "delete": "compute.cancel"}
    needed |= {"secrets": "compute.modify", "drain": "compute.cancel"}
    for scope in CAPABILITIES:
        found = put(world, "alice")
        node = world.repository.nodes(found.id)[0].name
        world.scopes["alice"] = f"openid {scope}"
        for (method, path), (right, good) in ROUTES.items():
            filled = path.replace("{id}", found.id).replace("{rid}", node)
            body: dict[str, Any] | None = None if method in ("POST", "PUT") else {}
            answer = world.send(method, filled, BODIES.get(path, body))
            if needed[right] == scope:
                assert answer.status_code == good, (scope, method, path, answer.text)
                continue
            assert answer.status_code == 403, (scope, method, path)
            challenge = answer.headers["WWW-Authenticate"]
            assert 'error="insufficient_scope"' in challenge
            assert f'scope="{needed[right]}"' in challenge
        made = world.send("POST", "/deployments")
        assert made.status_code == (201 if scope == "compute.create" else 403)
        del world.scopes["alice"]


# --- sharing and lists ---------------------------------------------------------------------------


def test_user_group_has_to_be_one_of_the_callers(world: ApiWorld) -> None:
    answer = world.send("POST", "/deployments", submission(userGroup="atlas"))
    assert answer.status_code == 403
    assert "/cms" in answer.json["why"]
    made = world.send("POST", "/deployments", submission(userGroup="cms"))
    assert made.json["userGroup"] == "/cms"


def test_only_the_owner_shares_with_another_group(world: ApiWorld) -> None:
    world.groups["bob"] = ("/cms", "/atlas")
    world.groups["alice"] = ("/cms", "/atlas")
    found = put(world, "alice", "/cms")
    path = f"/deployments/{found.id}"
    assert world.send("PUT", path, submission(userGroup="/atlas"), "bob").status_code == 403
    assert world.send("PUT", path, submission(), "bob").json["userGroup"] == "/cms"
    assert world.send("PUT", path, submission(userGroup="/atlas")).json["userGroup"] == "/atlas"


def test_a_list_has_what_one_may_see_with_totals_of_that(world: ApiWorld) -> None:
    for owner, group in (("alice", "/cms"), ("alice", None), ("bob", None), ("una", "/cmsx")):
        put(world, owner, group)

    def seen(who: str, query: str = "") -> tuple[int, int]:
        answer = world.get(f"/deployments?size=2{query}", who).json
        return answer["page"]["totalElements"], len(answer["content"])

    assert seen("alice") == (2, 2)
    assert seen("bob") == (2, 2)
    assert seen("bob", "&createdBy=me") == (1, 1)
    assert seen("una") == (1, 1)
    for who in ("root", "ops", "audit"):
        assert seen(who) == (4, 2)
        assert seen(who, "&page=1") == (4, 2)
        assert seen(who, "&userGroup=cms") == (1, 1)
        assert seen(who, "&createdBy=me") == (0, 0)
        assert seen(who, f"&createdBy=alice@{world.issuer.issuer.issuer}") == (2, 2)
    assert seen("una", f"&createdBy=alice@{world.issuer.issuer.issuer}") == (0, 0)
    assert seen("una", "&userGroup=cms") == (0, 0)


def test_events_are_of_deployments_one_may_see(world: ApiWorld) -> None:
    mine, shared = put(world, "alice"), put(world, "alice", "/cms")

    def told(who: str) -> set[str]:
        return {event["deployment"] for event in world.get("/events", who).json["events"]}

    assert told("alice") == told("audit") == {mine.id, shared.id}
    assert told("bob") == {shared.id}
    assert told("una") == set()


# --- limits --------------------------------------------------------------------------------------

# Each of the world's deployments may grow to 4 nodes of 2 cores.
LIMITED = """\
rules:
  - {role: administrator, issuer: development, subjects: [root]}
  - role: user
    issuer: development
    groups: [/cms]
    each: {%s}
    together: {%s}
"""


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Any]:
    worlds = []

    def made(each: str, together: str = "") -> ApiWorld:
        world = ApiWorld(tmp_path, access=LIMITED % (each, together))
        world.groups = {"alice": ("/cms",), "bob": ("/cms/uscms",)}
        worlds.append(world)
        return world

    yield made
    for world in worlds:
        world.close()


@pytest.mark.parametrize(
    ("each", "what", "used", "asked", "limit"),
    [
        ("deployments: 2", "deployments", 2, 1, 2),
        ("nodes: 10", "nodes", 8, 4, 10),
        ("cores: 16", "cores", 16, 8, 16),
    ],
)
def test_a_deployment_above_a_persons_limit_is_refused_with_numbers(
    limited: Any, each: str, what: str, used: int, asked: int, limit: int
) -> None:
    world = limited(each)
    for _ in range(2):
        world.create()
    answer = world.send("POST", "/deployments")
    assert answer.status_code == 403
    assert answer.json["code"] == "limit-exceeded"
    assert answer.json["limit"] == {
        "what": what,
        "of": f"alice@{world.issuer.issuer.issuer}",
        "used": used,
        "asked": asked,
        "limit": limit,
    }
    assert world.get("/deployments").json["page"]["totalElements"] == 2
    assert world.send("POST", "/deployments", who="bob").status_code == 201
    world.send("POST", "/deployments", who="root")


def test_an_update_counts_and_may_always_ask_for_less(limited: Any) -> None:
    world = limited("cores: 10")

    def of(cores: int) -> dict[str, Any]:
        return submission(template=submission()["template"] + f"cores: {cores}\n")

    def update(cores: int, who: str = "alice") -> int:
        status: int = world.send("PUT", f"/deployments/{first}", of(cores), who).status_code
        return status

    first, _ = (world.send("POST", "/deployments", of(1)).json["uuid"] for _ in range(2))
    assert update(2) == 403
    assert update(2, "root") == 202  # administrators have no limits
    assert update(2) == 202  # above the limit, and no more than before
    assert update(1) == 202
    assert update(2) == 403


def test_what_a_group_shares_is_limited_together(limited: Any) -> None:
    world = limited("", "nodes: 8")
    for who, group in (("alice", "/cms"), ("bob", "/cms/uscms")):
        body = submission(userGroup=group)
        assert world.send("POST", "/deployments", body, who).status_code == 201
    answer = world.send("POST", "/deployments", submission(userGroup="/cms"))
    assert answer.json["limit"] == {"what": "nodes", "of": "/cms"} | {
        "used": 8,
        "asked": 4,
        "limit": 8,
    }
    own = world.send("POST", "/deployments")
    assert own.status_code == 201
    shared = world.send("PUT", f"/deployments/{own.json['uuid']}", submission(userGroup="cms"))
    assert shared.status_code == 403


def test_equal_groups_of_two_issuers_and_other_cases_are_not_counted(limited: Any) -> None:
    world = limited("", "deployments: 1")
    for issuer, group in (("https://other.example", "/cms"), ("", "/CMS/x"), ("", "/cmsx")):
        owner = Principal(issuer or world.issuer.issuer.issuer, "eve")
        world.orchestrator.submit(owner, Submission(submission()["template"], user_group=group))
    answer = world.send("POST", "/deployments", submission(userGroup="/cms"))
    assert answer.status_code == 201


def test_a_deletion_frees_when_the_hosts_are_gone(limited: Any) -> None:
    world = limited("deployments: 1")
    id = world.create()["uuid"]
    world.passes(id, 6)
    assert world.send("DELETE", f"/deployments/{id}?force=true", {}).status_code == 204
    assert world.send("POST", "/deployments").status_code == 403
    for _ in range(40):
        world.passes(id)
        if world.get(f"/deployments/{id}").json["status"] == "DELETE_COMPLETE":
            break
    assert world.send("POST", "/deployments").status_code == 201


def test_the_same_request_again_is_no_second_deployment(limited: Any) -> None:
    world = limited("deployments: 1")
    first = world.create(**{"Idempotency-Key": "k"})
    assert world.create(**{"Idempotency-Key": "k"})["uuid"] == first["uuid"]


def test_requests_at_once_do_not_slip_under_a_limit(limited: Any) -> None:
    world = limited("deployments: 3")
    start = threading.Barrier(8)
    statuses: list[int] = []

    def post() -> None:
        client, headers = world.app.test_client(), world.headers()
        start.wait(60)
        statuses.append(client.post("/deployments", json=submission(), headers=headers).status_code)

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(statuses) == [201] * 3 + [403] * 5
    assert world.get("/deployments").json["page"]["totalElements"] == 3


def test_too_many_requests_are_told_when_to_come_back(limited: Any) -> None:
    world = limited("requests_per_minute: 2")
    assert [world.get("/whoami").status_code for _ in range(2)] == [200, 200]
    answer = world.get("/deployments")
    assert answer.status_code == 429
    assert answer.json["code"] == "too-many-requests"
    assert 1 <= int(answer.headers["Retry-After"]) <= 30
    assert world.get("/deployments", "bob").status_code == 200
    assert all(world.get("/whoami", "root").status_code == 200 for _ in range(9))


# --- whoami --------------------------------------------------------------------------------------


def test_whoami_says_what_one_is_and_has(limited: Any) -> None:
    world = limited("nodes: 50, requests_per_minute: 100", "cores: 400")
    world.send("POST", "/deployments", submission(userGroup="cms"))
    world.create()
    found = world.get("/whoami").json
    assert (found["subject"], found["issuerName"]) == ("alice", "development")
    assert (found["groups"], found["roles"]) == (["/cms"], ["user"])
    assert found["rights"]["own"] == sorted(policy.OWNER | {Right.CREATE})
    assert found["rights"]["others"] == []
    assert found["requestsPerMinute"] == 100
    none = {"deployments": None, "nodes": None, "cores": None}
    assert found["limits"] == [
        {
            "group": None,
            "limits": none | {"nodes": 50},
            "used": {"deployments": 2, "nodes": 8, "cores": 16},
        },
        {
            "group": "/cms",
            "limits": none | {"cores": 400},
            "used": {"deployments": 1, "nodes": 4, "cores": 8},
        },
    ]
    assert 0 < found["secondsLeft"] <= 3600


def test_whoami_tells_what_scopes_take_away(world: ApiWorld) -> None:
    world.scopes["alice"] = "compute.read"
    found = world.get("/whoami").json
    assert found["rights"] == {"own": ["see"], "shared": [], "others": []}
    assert found["scopes"] == ["compute.read"]
    assert found["groups"] == []


def test_whoami_answers_whom_no_rule_names(world: ApiWorld) -> None:
    found = world.get("/whoami", "mallory").json
    assert (found["subject"], found["roles"]) == ("mallory", [])
    assert found["rights"] == {"own": [], "shared": [], "others": []}


# --- what is written down ------------------------------------------------------------------------


def table(text: str, head: str) -> list[list[str]]:
    rows = text.split(head, 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_documentation_has_the_table_of_rights() -> None:
    text = (ROOT / "docs/admin/identity.md").read_text()
    written = {row[0]: row[1:] for row in table(text, "| who | `create`")}
    granted = {"owner": policy.OWNER, "member of its group": policy.MEMBER} | {
        role.value: policy.OF_ROLE[role] for role in Role
    }
    for who, rights in granted.items():
        may = set(rights) - {Right.CREATE}  # which is in no role's set but an administrator's
        if who in policy.CREATORS:
            may.add(Right.CREATE)
        assert written.pop(who) == ["yes" if right in may else "" for right in Right], who
    assert not written
    scopes = dict(table(text, "| scope | gives |"))
    for right, scope in policy.SCOPES.items():
        assert f"`{right}`" in scopes[f"`{scope}`"]


def test_the_documentation_says_which_right_each_route_needs(world: ApiWorld) -> None:
    text = (ROOT / "docs/user/api.md").read_text()
    written = {
        match[1]: match[2]
        for match in re.finditer(r"^\| \[`(\w+ /\S*)`\].*\| ([^|]*) \|$", text, re.M)
    }
    words = {
        Access.PUBLIC: "anybody",
        Access.PAGE: "anybody with a browser",
        Access.IDENTIFIED: "anybody with a token",
    }
    for rule in world.app.url_map.iter_rules():
        wanted = access_of(world.app.view_functions[rule.endpoint])
        assert wanted is not None
        if wanted.is_a_nodes or rule.rule.startswith("/issuer/"):
            continue
        (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        said = written[f"{method} {path}"]
        if wanted is Access.AUTHENTICATED:
            assert said.startswith("you"), path
        else:
            assert said == words.get(wanted, f"`{wanted.right}`"), path
