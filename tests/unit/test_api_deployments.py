"""Deployments over HTTP: INDIGO's words, paging, idempotency, and what Vacuo adds."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from api_world import TEMPLATE, ApiWorld, submission

from orchestrator.api import present
from orchestrator.configure.base import Confinement
from orchestrator.configure.simulated import SimulatedConfigurator
from orchestrator.model import DeploymentStatus, NodeState
from orchestrator.reasons import reason


@pytest.fixture
def world(tmp_path):
    world = ApiWorld(tmp_path)
    yield world
    world.close()


@pytest.fixture
def joined(world):
    """The id of a deployment with one node in the pool."""
    id = world.create()["uuid"]
    for _ in range(20):
        world.passes(id)
        if any(node.state is NodeState.JOINED for node in world.repository.nodes(id)):
            return id
    raise AssertionError(world.get(f"/deployments/{id}/log").text)


def status(world, id, status):
    world.repository.change(id, status=status)


# --- making and looking -------------------------------------------------------------------------


def test_a_new_deployment_has_indigos_fields_and_links(world):
    answer = world.send("POST", "/deployments", submission(userGroup="cms", parameters={"a": 1}))
    assert answer.status_code == 201
    found = answer.json
    assert answer.headers["Location"] == f"{world.settings.url}/deployments/{found['uuid']}"
    assert found["creationTime"] == found["updateTime"] == "2023-11-14T22:13:20.000Z"
    assert found["status"] == "CREATE_IN_PROGRESS"
    assert found["createdBy"] == {"issuer": world.issuer.issuer.issuer, "subject": "alice"}
    assert (found["userGroup"], found["callback"], found["task"]) == ("/cms", None, "NONE")
    assert found["outputs"] == {}
    links = {link["rel"]: link["href"] for link in found["links"]}
    assert {"self", "resources", "template", "log", "plan", "explain", "events"} == set(links)
    for href in links.values():
        assert world.get(urlsplit(href).path).status_code == 200
    assert world.woken == [found["uuid"]]


def test_links_do_not_follow_the_host_that_a_request_names(world):
    answer = world.send("POST", "/deployments", Host="evil.example")
    assert "evil" not in answer.text
    assert "evil" not in answer.headers["Location"]


def test_indigos_fields_that_mean_nothing_here_are_taken_and_named(world):
    body = submission(timeoutMins=5, maxProvidersRetry=2, keepLastAttempt=True)
    answer = world.send("POST", "/deployments", body)
    assert answer.status_code == 201
    assert answer.headers["X-Ignored-Fields"] == "timeoutMins, maxProvidersRetry, keepLastAttempt"


def test_the_request_is_in_the_events_with_its_correlation_id(world):
    id = world.create(**{"X-Request-Id": "abc-1"})["uuid"]
    (event,) = world.get(f"/deployments/{id}/events").json["events"]
    assert event["kind"] == "audit"
    assert event["correlation"] == "abc-1"
    assert event["actor"] == f"alice@{world.issuer.issuer.issuer}"


def test_the_template_comes_back_as_it_was_sent(world):
    text = TEMPLATE + "# ä, \t and a last line without an end"
    id = world.send("POST", "/deployments", submission(template=text)).json["uuid"]
    answer = world.get(f"/deployments/{id}/template")
    assert answer.data == text.encode()
    assert answer.content_type == "text/plain; charset=utf-8"


def test_one_deployment_shows_what_the_last_pass_saw_and_lists_do_not(world, joined):
    (group,) = world.get(f"/deployments/{joined}").json["groups"]
    assert group["nodes"] == {"JOINED": 1}
    assert (group["wanted"], group["joined"], group["busy"]) == (1, 1, 0)
    (listed,) = world.get("/deployments").json["content"]
    assert "wanted" not in listed["groups"][0]
    assert listed["cloudProviderName"] == "site"


def test_what_was_not_seen_is_null_and_not_zero(world):
    (group,) = world.create()["groups"]
    assert group["jobsWaiting"] is None
    assert group["joined"] is None


# --- lists --------------------------------------------------------------------------------------


def test_lists_are_paged_and_their_links_lead_through_all(world):
    made = [world.create()["uuid"] for _ in range(5)]
    world.create("bob")
    found, path = [], "/deployments?size=2"
    for number in range(3):
        answer = world.get(path).json
        assert answer["page"] == {
            "size": 2,
            "totalElements": 5,
            "totalPages": 3,
            "number": number,
        }
        found += [entry["uuid"] for entry in answer["content"]]
        links = {link["rel"]: link["href"] for link in answer["links"]}
        assert ("prev" in links) == (number > 0)
        assert ("next" in links) == (number < 2)
        path = links.get("next", "").removeprefix(world.settings.url)
    assert found == made[::-1]


def test_an_empty_list_and_a_page_after_the_last_are_empty(world):
    empty = world.get("/deployments").json
    assert empty["content"] == []
    assert empty["page"] == {"size": 10, "totalElements": 0, "totalPages": 0, "number": 0}
    world.create()
    after = world.get("/deployments?page=7").json
    assert after["content"] == []
    assert after["page"]["totalElements"] == 1


def test_lists_sort_as_asked(world):
    made = [world.create()["uuid"] for _ in range(3)]
    status(world, made[1], DeploymentStatus.UPDATE_FAILED)

    def listed(sort):
        return [e["uuid"] for e in world.get(f"/deployments?sort={sort}").json["content"]]

    assert listed("creationTime,asc") == made
    assert listed("creationTime") == made[::-1]
    assert listed("status,desc")[0] == made[1]


def test_lists_filter_by_owner_group_and_status(world):
    world.create()
    world.send("POST", "/deployments", submission(userGroup="cms"))
    gone = world.create()["uuid"]
    status(world, gone, DeploymentStatus.DELETE_COMPLETE)

    def count(query):
        return world.get(f"/deployments?{query}").json["page"]["totalElements"]

    me = f"alice%40{world.issuer.issuer.issuer}"
    assert count("") == count("createdBy=me") == count(f"createdBy={me}") == 2
    assert count("createdBy=bob@elsewhere") == 0
    assert count("userGroup=cms") == 1
    assert count("all=true") == 3
    assert count("status=DELETE_COMPLETE") == 1
    assert world.get(f"/deployments/{gone}").json["status"] == "DELETE_COMPLETE"


# --- idempotency --------------------------------------------------------------------------------


def test_a_request_sent_twice_with_one_key_makes_one_deployment(world):
    first = world.create(**{"Idempotency-Key": "monday"})
    second = world.create(**{"Idempotency-Key": "monday"})
    assert first["uuid"] == second["uuid"]
    assert world.get("/deployments").json["page"]["totalElements"] == 1


def test_a_key_that_stands_for_something_else_is_a_conflict(world):
    world.create(**{"Idempotency-Key": "monday"})
    other = submission(parameters={"other": 1})
    answer = world.send("POST", "/deployments", other, **{"Idempotency-Key": "monday"})
    assert answer.status_code == 409
    assert answer.json["code"] == "conflict"


def test_keys_of_different_people_have_nothing_to_do_with_each_other(world):
    mine = world.create(**{"Idempotency-Key": "monday"})
    theirs = world.create("bob", **{"Idempotency-Key": "monday"})
    assert mine["uuid"] != theirs["uuid"]


# --- changing and deleting ----------------------------------------------------------------------


def test_an_update_is_taken_while_the_last_wish_is_worked_on(world):
    id = world.create()["uuid"]
    assert world.get(f"/deployments/{id}").json["status"] == "CREATE_IN_PROGRESS"
    for number in range(2):
        text = TEMPLATE + "#" * number
        answer = world.send("PUT", f"/deployments/{id}", submission(template=text))
        assert answer.status_code == 202
        assert answer.json["status"] == "UPDATE_IN_PROGRESS"
        assert world.get(f"/deployments/{id}/template").text == text


def test_an_update_of_a_deployment_that_is_deleted_is_a_conflict(world):
    id = world.create()["uuid"]
    world.send("DELETE", f"/deployments/{id}")
    assert world.send("PUT", f"/deployments/{id}").status_code == 409


def test_an_update_with_the_etag_of_an_earlier_wish_is_refused(world):
    id = world.create()["uuid"]
    found = world.get(f"/deployments/{id}")
    tag = found.headers["ETag"]
    assert tag == f'"{found.json["version"]}"'
    first = world.send("PUT", f"/deployments/{id}", **{"If-Match": tag})
    assert first.status_code == 202
    late = world.send("PUT", f"/deployments/{id}", **{"If-Match": tag})
    assert (late.status_code, late.json["code"]) == (412, "changed-meanwhile")
    again = {"If-Match": first.headers["ETag"]}
    assert world.send("PUT", f"/deployments/{id}", **again).status_code == 202
    assert world.send("PUT", f"/deployments/{id}", **{"If-Match": "*"}).status_code == 202
    assert world.send("PUT", f"/deployments/{id}", **{"If-Match": "three"}).status_code == 400


@pytest.mark.parametrize("text", ["minimum: 1\ncores: 64\n", "- not a template\n"])
def test_a_refused_update_leaves_the_deployment_as_it_is(world, joined, text):
    before = world.get(f"/deployments/{joined}")
    nodes = world.repository.nodes(joined)
    answer = world.send("PUT", f"/deployments/{joined}", submission(template=text))
    assert answer.status_code in (400, 409)
    after = world.get(f"/deployments/{joined}")
    assert after.json == before.json
    assert after.headers["ETag"] == before.headers["ETag"]
    world.passes(joined, 3)
    assert [n.instance for n in world.repository.nodes(joined)] == [n.instance for n in nodes]


def test_an_update_that_no_site_can_fulfil_is_taken_where_a_site_cannot_be_seen(world, joined):
    world.world.faults.site_unreachable = True
    answer = world.send("PUT", f"/deployments/{joined}", submission(template="cores: 64\n"))
    assert answer.status_code == 202


def test_a_deletion_begins_and_a_second_one_is_a_conflict_unless_it_is_forced(world):
    id = world.create()["uuid"]
    answer = world.send("DELETE", f"/deployments/{id}")
    assert (answer.status_code, answer.data) == (204, b"")
    assert world.get(f"/deployments/{id}").json["status"] == "DELETE_IN_PROGRESS"
    assert world.send("DELETE", f"/deployments/{id}").status_code == 409
    assert world.send("DELETE", f"/deployments/{id}?force=true").status_code == 204
    assert world.get(f"/deployments/{id}").json["forced"] is True
    assert world.send("DELETE", f"/deployments/{id}?force=true").status_code == 409


# --- nodes --------------------------------------------------------------------------------------


def test_resources_are_nodes_in_toscas_words(world, joined):
    answer = world.get(f"/deployments/{joined}/resources").json
    (node,) = answer["content"]
    assert node["toscaNodeType"] == "tosca.nodes.Compute"
    assert (node["state"], node["phase"], node["group"]) == ("STARTED", "JOINED", "workers")
    assert node["pool"] == "pool"
    assert answer["page"]["totalElements"] == 1
    href = next(link["href"] for link in node["links"] if link["rel"] == "self")
    assert world.get(urlsplit(href).path).json == node


def test_a_node_that_is_configured_anew_in_service_is_told_of(world, joined):
    def shown():
        (node,) = world.get(f"/deployments/{joined}/resources").json["content"]
        return node["phase"], node["outdated"], node["refreshing"]

    assert shown() == ("JOINED", False, False)
    world.send("PUT", f"/deployments/{joined}", submission(template="minimum: 1\nidle: 7200\n"))
    world.passes(joined, 1)
    assert shown() == ("JOINED", False, True)
    world.passes(joined, 4)
    assert shown() == ("JOINED", False, False)


def test_a_node_that_another_is_to_replace_is_told_of(world, joined):
    (node,) = world.repository.nodes(joined)
    spec = world.repository.deployment(joined).spec
    assert present.resource(replace(node, outdated=True), spec, "").outdated


@pytest.mark.parametrize(
    ("query", "count"),
    [("type=tosca.nodes.Compute", 1), ("type=tosca.nodes.Root", 0), ("group=caches", 0)],
)
def test_resources_filter_by_type_and_group(world, joined, query, count):
    answer = world.get(f"/deployments/{joined}/resources?{query}").json
    assert len(answer["content"]) == count


def test_every_state_of_a_node_has_a_word_of_tosca(world, joined):
    from dataclasses import replace

    from orchestrator.api import present

    (node,) = world.repository.nodes(joined)
    spec = world.repository.deployment(joined).spec
    for state in NodeState:
        shown = present.resource(replace(node, state=state), spec, "")
        assert shown.state == shown.state.upper()


def test_ssh_tells_address_user_and_host_keys(world, joined):
    (node,) = world.repository.nodes(joined)
    answer = world.get(f"/deployments/{joined}/resources/{node.name}/ssh")
    assert answer.status_code == 200, answer.text
    assert answer.json["address"] == node.address
    assert answer.json["user"] == "root"
    assert answer.json["hostKeys"]


def test_ssh_to_a_node_that_has_no_address_is_a_conflict(world):
    id = world.create()["uuid"]
    world.passes(id)
    (node,) = world.repository.nodes(id)
    assert node.address is None
    assert world.get(f"/deployments/{id}/resources/{node.name}/ssh").status_code == 409
    assert world.get(f"/deployments/{id}/resources/nobody/ssh").status_code == 404


# --- log ----------------------------------------------------------------------------------------


def test_the_log_is_text_and_goes_on_where_it_ended(world, joined):
    whole = world.get(f"/deployments/{joined}/log")
    assert whole.mimetype == "text/plain"
    lines = whole.text.splitlines()
    assert any("JOINED" in line for line in lines)
    last = int(whole.headers["X-Last-Sequence"])
    rest = world.get(f"/deployments/{joined}/log?since={last}")
    assert rest.text == ""
    assert int(rest.headers["X-Last-Sequence"]) == last
    parts, since = [], 0
    for _ in lines:
        part = world.get(f"/deployments/{joined}/log?since={since}&limit=1")
        parts += part.text.splitlines()
        since = part.headers["X-Last-Sequence"]
    assert parts == lines


def test_the_log_filters(world, joined):
    (node,) = world.repository.nodes(joined)
    of_node = world.get(f"/deployments/{joined}/log?node={node.name}").text.splitlines()
    assert of_node
    assert all(f" {node.name} " in line for line in of_node)
    phase = world.get(f"/deployments/{joined}/log?phase=JOINING").text.splitlines()
    assert phase
    assert all(" JOINING " in line for line in phase)
    assert world.get(f"/deployments/{joined}/log?failed=true").text == ""
    assert len(world.get(f"/deployments/{joined}/log?limit=1").text.splitlines()) == 1


def test_the_console_of_a_node_is_read_from_its_site(world, joined):
    (node,) = world.repository.nodes(joined)
    answer = world.get(f"/deployments/{joined}/log?node={node.name}&console=10")
    assert answer.status_code == 200
    assert answer.mimetype == "text/plain"
    without = world.get(f"/deployments/{joined}/log?console=10")
    assert without.status_code == 400
    assert without.json["errors"][0]["path"] == "node"


# --- plans, explanations, the server ------------------------------------------------------------


def test_a_plan_for_a_template_that_is_not_submitted_keeps_nothing(world):
    plan = world.send("POST", "/plan").json
    assert plan["changes"] is True
    assert plan["summary"] == {"create": 1, "change": 0, "delete": 0}
    (group,) = plan["groups"]
    assert (group["action"], group["now"], group["wanted"]) == ("+", 0, 1)
    assert (group["site"], group["flavour"], group["pricePerHour"]) == ("site", "medium", None)
    assert group["services"][0]["action"] == "+"
    assert world.get("/deployments").json["page"]["totalElements"] == 0


def test_the_plan_of_a_converged_deployment_has_no_changes(world, joined):
    plan = world.get(f"/deployments/{joined}/plan").json
    assert plan["changes"] is False
    assert plan["groups"][0]["action"] == "="


def test_the_plan_of_an_update_shows_what_it_would_change(world, joined):
    more = submission(template=TEMPLATE.replace("minimum: 1", "minimum: 3"))
    plan = world.send("POST", f"/deployments/{joined}/plan", more).json
    assert plan["changes"] is True
    assert plan["groups"][0]["wanted"] == 3
    assert world.get(f"/deployments/{joined}/template").text == TEMPLATE


def test_the_plan_of_a_rebuild_names_the_nodes_and_what_differs(world, joined):
    (node,) = world.repository.nodes(joined)
    text = TEMPLATE.replace("minimum: 1", "minimum: 1\ncores: 1")
    same = world.send("POST", f"/deployments/{joined}/plan", submission(template=text)).json
    assert same["nodes"] == {"create": 0, "reconfigure": 0, "replace": 0, "remove": 0, "keep": 1}
    (change,) = same["groups"][0]["changes"]  # the site would choose the same flavour again
    assert (change["what"], change["before"], change["after"]) == ("cores", "2", "1")
    impossible = text.replace("cores: 1", "cores: 64")
    plan = world.send("POST", f"/deployments/{joined}/plan", submission(template=impossible)).json
    (group,) = plan["groups"]
    assert group["nodes"][0]["name"] == node.name
    assert "waits" in group["nodes"][0]["why"]
    assert "no-offer" in {reason["code"] for reason in group["reasons"]}
    assert plan["sites"][0]["quota"]["instances"] == {"limit": None, "before": 1, "after": 1}


def test_a_plan_fits_its_published_schema(world, joined):
    schema = world.client.get("/schemas/plan.json").json
    assert schema["$id"] == "/schemas/plan.json"
    plan = world.get(f"/deployments/{joined}/plan").json
    assert set(plan) == set(schema["required"]) | {"format"}
    for name in ("PlannedGroup", "PlannedNode", "Cost"):
        assert schema["$defs"][name]["additionalProperties"] is False


def test_validation_shows_what_the_template_means(world):
    answer = world.send("POST", "/validate")
    assert answer.status_code == 200
    found = answer.json
    assert found["valid"] is True
    assert found["groups"][0]["minimum"] == 1
    assert found["groups"][0]["memoryMb"] == 2048


def test_an_explanation_has_a_cause_evidence_and_a_next_command(world):
    id = world.create()["uuid"]
    world.repository.change(id, reasons=(reason("engine-stopped"),))
    found = world.get(f"/deployments/{id}/explain").json
    assert found["subject"] == id
    assert found["cause"]["code"] == "engine-stopped"
    assert all(set(entry) == {"code", "sentence", "nextCommand"} for entry in found["evidence"])
    assert world.get(f"/deployments/{id}/explain?subject=nobody").status_code == 404


def test_a_node_is_explained(world, joined):
    (node,) = world.repository.nodes(joined)
    found = world.get(f"/deployments/{joined}/explain?subject={node.name}").json
    assert found["subject"] == node.name
    assert found["cause"]["sentence"]


def test_info_names_where_to_log_in_without_telling_more(world):
    found = world.client.get("/info").json
    (issuer,) = found["issuers"]
    assert issuer["issuer"] == world.issuer.issuer.issuer
    assert issuer["clientId"] == "vacuo-cli"
    assert (found["sites"], found["pools"]) == (["site"], ["pool"])
    assert found["limits"] == {"templateBytes": 100_000}


def test_readiness_names_what_is_wrong(world):
    ready = world.client.get("/readyz")
    assert ready.status_code == 200
    assert [check["name"] for check in ready.json["checks"]] == ["store", "engine"]
    world.alive = False
    answer = world.client.get("/readyz")
    assert answer.status_code == 503
    store, engine = answer.json["checks"]
    assert store["ok"] is True
    assert engine["ok"] is False
    assert engine["reason"]["code"] == "engine-stopped"
    assert world.client.get("/healthz").json == {"status": "ok"}


def test_checks_look_at_every_site_and_pool(world):
    found = world.get("/checks").json["checks"]
    assert [check["name"] for check in found] == ["site site", "pool pool"]
    assert all(check["ok"] for check in found)


def test_checks_say_whether_ansible_is_in_its_sandbox(world, monkeypatch):
    def check(found):
        monkeypatch.setattr(SimulatedConfigurator, "confinement", lambda self: found)
        return world.get("/checks").json["checks"][0]

    assert check(Confinement(True, "It is."))["ok"] is True
    told = check(Confinement(False, "there is no program bwrap"))
    assert (told["name"], told["ok"]) == ("sandbox", None)
    assert told["reason"]["code"] == "no-sandbox"
    assert "no program bwrap" in told["reason"]["sentence"]
