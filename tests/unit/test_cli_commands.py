"""What each command prints, on which stream, and with which exit code it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from cli_server import (
    ID,
    NODE,
    OTHER,
    TEMPLATE,
    TOKEN,
    Recorded,
    deployment,
    event,
    group,
    listing,
    plan,
    problem,
    resource,
)

from orchestrator.api import models
from orchestrator.cli import exitcodes


def test_every_command_that_gives_data_gives_one_json_document_and_nothing_else(
    server: Recorded, template: str
) -> None:
    for words in (
        ["list"],
        ["status"],
        ["show"],
        ["show", NODE],
        ["show", "--template"],
        ["explain"],
        ["plan", template],
        ["plan"],
        ["up", template],
        ["down"],
        ["templates"],
        ["doctor"],
        ["server", "config"],
        ["server", "config", "--defaults"],
        ["logout"],
    ):
        result = server.run(*words, "--output", "json")
        assert result.exit_code in (exitcodes.OK, exitcodes.CHANGES), (words, result.output)
        document = json.loads(result.stdout)
        assert document["schema"] == "vacuo.cli/1"
        assert len(document) == 2


def test_logs_and_events_as_json_are_one_object_a_line(server: Recorded) -> None:
    for command in ("logs", "events"):
        result = server.run(command, "-o", "json")
        found = [json.loads(line)["event"]["sequence"] for line in result.stdout.splitlines()]
        assert found == [41, 42]


def test_data_goes_to_stdout_and_chatter_to_stderr(server: Recorded) -> None:
    result = server.run("list")
    assert ID[:8] in result.stdout
    assert "next:" not in result.stdout
    assert "next: vacuo status" in result.stderr


def test_names_are_one_a_line_and_without_hints(server: Recorded) -> None:
    result = server.run("list", "--output", "name")
    assert result.stdout == f"{ID}\n"
    assert result.stderr == ""


def test_global_options_may_stand_on_either_side_of_the_command(server: Recorded) -> None:
    before = server.run("--output", "name", "list")
    after = server.run("list", "--output=name")
    assert before.stdout == after.stdout == f"{ID}\n"


def test_what_follows_two_dashes_is_not_taken_for_our_options(server: Recorded) -> None:
    from orchestrator.cli.main import hoisted

    assert hoisted(["ssh", NODE, "--debug", "--", "ls", "--debug"]) == [
        "--debug",
        "ssh",
        NODE,
        "--",
        "ls",
        "--debug",
    ]


@pytest.mark.parametrize(("changes", "code"), [(False, exitcodes.OK), (True, exitcodes.CHANGES)])
def test_plan_tells_change_from_no_change_by_its_exit_code(
    server: Recorded, changes: bool, code: int
) -> None:
    server.answers[f"GET /deployments/{ID}/plan"] = plan(changes)
    assert server.run("plan").exit_code == code


def test_plan_shows_why_other_offers_were_rejected_and_does_not_invent_a_price(
    server: Recorded, template: str
) -> None:
    result = server.run("plan", template)
    assert "+ workers: 0 → 2 nodes" in result.stdout
    assert "not local/tiny: 1 core, 2 are needed" in result.stdout
    assert "no price known" in result.stdout
    assert "2 to create, 0 to reconfigure, 0 to replace, 0 to remove" in result.stdout
    assert "Cost: no price known." in result.stdout


def test_the_example_plan_is_a_plan(server: Recorded) -> None:
    assert models.Plan.model_validate(plan()).changes


def test_the_schema_of_a_plan_is_printed_without_a_server(server: Recorded) -> None:
    result = server.run("plan", "--schema")
    assert result.exit_code == exitcodes.OK
    assert json.loads(result.stdout)["properties"]["format"]["const"] == "vacuo.plan/1"


def test_a_plan_that_cannot_be_made_ends_with_one(server: Recorded, template: str) -> None:
    server.answers["POST /plan"] = problem(400, "template-invalid")
    assert server.run("plan", template).exit_code == exitcodes.ERROR


def test_a_mistyped_command_is_neither_one_nor_two(server: Recorded) -> None:
    for words in (["upp"], ["list", "--nonsense"], ["up"]):
        result = server.run(*words)
        assert result.exit_code == exitcodes.USAGE, result.output
        assert "error:" in result.stderr
        assert "--help" in result.stderr
        assert result.stdout == ""


def test_status_shows_the_numbers_of_all_groups(server: Recorded) -> None:
    cache = group(name="cache", pool=None, wanted=1, joined=1, busy=None, idle=None)
    server.answers[f"GET /deployments/{ID}"] = deployment(groups=[group(joined=1), cache])
    result = server.run("status")
    assert "desired 3   joined 2" in result.stdout
    assert "jobs waiting 7   oldest wait 31s" in result.stdout
    assert "boots" in result.stdout


def test_status_shows_what_an_update_does_to_nodes(server: Recorded) -> None:
    nodes = [resource("one", "JOINED", outdated=True), resource("two", "JOINED", refreshing=True)]
    server.answers[f"GET /deployments/{ID}/resources"] = listing(*nodes)
    result = server.run("status")
    assert "JOINED outdated" in result.stdout
    assert "JOINED refreshing" in result.stdout


def test_status_shows_unknown_as_unknown_and_not_as_zero(server: Recorded) -> None:
    unknown = group(joined=None, busy=None, idle=None, jobsWaiting=None, oldestWaitSeconds=None)
    server.answers[f"GET /deployments/{ID}"] = deployment(groups=[unknown])
    result = server.run("status")
    assert "joined ?   busy ?   idle ?" in result.stdout
    assert "jobs waiting ?   oldest wait ?" in result.stdout


def test_explain_gives_the_cause_first_then_evidence_then_one_command(server: Recorded) -> None:
    result = server.run("explain")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Site local has no room")
    assert "3 of 4 instances are in use." in lines[2]
    assert result.stderr.strip() == f"next: vacuo status {ID}"


def test_explain_asks_about_a_node_and_about_a_job(server: Recorded) -> None:
    for subject, asked in ((NODE, NODE), ("workers", NODE), ("12.0", "12.0"), ("12", "12.0")):
        assert server.run("explain", subject).exit_code == exitcodes.OK
        assert server.requests("GET", f"/deployments/{ID}/explain")[-1].query == {"subject": asked}


def test_logs_can_show_only_what_failed(server: Recorded) -> None:
    result = server.run("logs", NODE, "--failed")
    assert "install the package" in result.stdout
    assert "asked for" not in result.stdout
    assert server.requests("GET", f"/deployments/{ID}/events")[-1].query["node"] == NODE


def test_logs_follow_goes_on_where_the_log_ended(server: Recorded) -> None:
    def events(request: object) -> object:
        query, headers = request.query, request.headers  # type: ignore[attr-defined]
        if headers.get("Accept") != "text/event-stream":
            return {"events": [event(41)], "last": 41}
        from cli_server import stream

        return stream(*[e for e in [event(42, "news")] if e["sequence"] > int(query["since"])])

    server.answers[f"GET /deployments/{ID}/events"] = events
    result = server.run("logs", "--follow")
    assert [line.split()[-1] for line in result.stdout.splitlines()] == ["local", "news"]


def test_a_server_without_a_stream_to_spare_is_asked_again_and_again(
    server: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.cli.client._POLL_SECONDS", 0.01)
    rounds = iter(range(5))

    def events(request: object) -> object:
        if request.headers.get("Accept") == "text/event-stream":  # type: ignore[attr-defined]
            return problem(503, "too-many-streams")
        number = next(rounds, None)
        if number is None:
            raise KeyboardInterrupt
        since = int(request.query["since"])  # type: ignore[attr-defined]
        return {"events": [event(since + 1, f"round {number}")], "last": since + 1}

    from orchestrator.cli.client import Api
    from orchestrator.cli.session import Session

    server.answers["GET /events"] = events
    monkeypatch.setenv("BEARER_TOKEN", TOKEN)
    followed = Api(Session(server=server.url)).follow("/events")
    assert [next(followed)["message"] for _ in range(4)] == [f"round {n}" for n in range(4)]


def test_a_console_cannot_command_the_terminal(server: Recorded) -> None:
    server.answers[f"GET /deployments/{ID}/log"] = "boot \x1b]0;owned\x07\x1b[2Jdone\x9b31m\n"
    result = server.run("logs", NODE, "--console")
    assert "boot done" in result.stdout
    assert "\x1b" not in result.stdout
    assert "\x9b" not in result.stdout


def test_down_lists_what_will_vanish_and_does_not_force(server: Recorded) -> None:
    result = server.run("down")
    assert f"- {NODE}" in result.stderr
    assert "when their running jobs have ended" in result.stderr
    assert server.requests("DELETE", f"/deployments/{ID}")[0].query == {}


def test_down_now_says_that_jobs_are_lost_and_forces(server: Recorded) -> None:
    result = server.run("down", "--now")
    assert "are lost" in result.stderr
    assert server.requests("DELETE", f"/deployments/{ID}")[0].query == {"force": "true"}


def test_up_sends_parameters_by_the_types_of_the_inputs(
    server: Recorded, template: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("12345\n")
    values = tmp_path / "values.yaml"
    values.write_text("max_instances: 2\n")
    words = ["-p", "max_instances=3", "-p", f"password=@{secret}", "--parameters", str(values)]
    result = server.run("up", template, *words, "--key", "monday")
    assert result.exit_code == exitcodes.OK, result.output
    request = server.requests("POST", "/deployments")[0]
    assert request.body["parameters"] == {"max_instances": 3, "password": "12345"}
    assert request.body["template"] == TEMPLATE
    assert request.headers["Idempotency-Key"] == "monday"


@pytest.mark.parametrize(
    "words",
    [
        ["-p", "max_instances=lots"],
        ["-p", "novalue"],
        ["-p", "password=@/nowhere"],
        ["--parameters", "/nowhere.yaml"],
    ],
)
def test_parameters_that_cannot_be_used_are_refused_before_anything_is_sent(
    server: Recorded, template: str, words: list[str]
) -> None:
    result = server.run("up", template, *words)
    assert result.exit_code == exitcodes.ERROR
    assert "parameter-invalid" in result.stderr
    assert server.requests("POST", "/deployments") == []


def test_an_update_is_of_the_version_that_was_seen(server: Recorded, template: str) -> None:
    assert server.run("up", template, "--update", ID).exit_code == exitcodes.OK
    assert server.run("up", template, "--update", ID, "--if-version", "2").exit_code == exitcodes.OK
    sent = server.requests("PUT", f"/deployments/{ID}")
    assert [request.headers["If-Match"] for request in sent] == ['"3"', '"2"']
    lone = server.run("up", template, "--if-version", "2")
    assert lone.exit_code == exitcodes.USAGE
    assert server.requests("POST", "/deployments") == []


def test_a_deployment_is_named_by_a_prefix_that_only_it_has(server: Recorded) -> None:
    other = deployment(OTHER)
    server.answers["GET /deployments"] = listing(deployment(), other)
    server.answers[f"GET /deployments/{OTHER}"] = other
    server.answers[f"GET /deployments/{OTHER}/resources"] = listing()
    assert OTHER in server.run("show", "70").stdout
    assert ID in server.run("show", ID).stdout


def test_a_deployment_that_is_not_named_must_be_the_only_one(server: Recorded) -> None:
    server.answers["GET /deployments"] = listing(deployment(), deployment(OTHER))
    result = server.run("status")
    assert result.exit_code == exitcodes.ERROR
    assert "There are 2 deployments" in result.stderr
    assert OTHER[:8] in result.stderr


def test_no_deployment_at_all_says_how_to_make_one(server: Recorded) -> None:
    server.answers["GET /deployments"] = listing()
    result = server.run("status")
    assert result.exit_code == exitcodes.ERROR
    assert "vacuo up TEMPLATE" in result.stderr


def test_lists_are_read_to_their_last_page(server: Recorded) -> None:
    def pages(request: object) -> object:
        number = int(request.query["page"])  # type: ignore[attr-defined]
        found = deployment(f"{number:08d}-8d0e-4a53-9a52-0d1b3f7f2c11")
        page = {"size": 1, "totalElements": 3, "totalPages": 3, "number": number}
        return {"content": [found], "links": [], "page": page}

    server.answers["GET /deployments"] = pages
    assert len(server.run("list", "-o", "name").stdout.splitlines()) == 3


def test_a_name_never_becomes_another_path(server: Recorded) -> None:
    server.run("show", "../info?x=1#y")
    assert server.asked
    assert all(request.path != "/info" for request in server.asked)


def test_init_asks_again_until_the_answer_fits_and_writes_a_file_that_up_takes(
    server: Recorded, template: str, tmp_path: Path
) -> None:
    target = tmp_path / "values.yaml"
    result = server.run("init", template, "--file", str(target), typed="99\nx\n6\nhush\n")
    assert result.exit_code == exitcodes.OK, result.output
    assert "It must be in the range 1 to 8." in result.stderr
    assert "hush" not in result.stdout + result.stderr
    assert target.stat().st_mode & 0o077 == 0
    assert server.run("up", template, "--parameters", str(target)).exit_code == exitcodes.OK
    sent = server.requests("POST", "/deployments")[0].body["parameters"]
    assert sent == {"max_instances": 6, "password": "hush"}


ASKS = """\
tosca_definitions_version: tosca_simple_yaml_1_3
topology_template:
  inputs:
    memory: {type: scalar-unit.size, constraints: [{greater_or_equal: 2 GB}]}
    lifetime: {type: scalar-unit.time, constraints: [{in_range: [1 h, 2 d]}]}
    key: {type: string, metadata: {secret: true}, constraints: [{min_length: 8}]}
  node_templates: {}
"""


def test_init_compares_sizes_and_times_as_the_server_does(server: Recorded, tmp_path: Path) -> None:
    template, target = tmp_path / "sizes.yaml", tmp_path / "values.yaml"
    template.write_text(ASKS)
    typed = "512 MB\n2 GG\n4096 MB\n5 m\n36 h\nhush\nhush-hush\n"
    result = server.run("init", str(template), "--file", str(target), typed=typed)
    assert result.exit_code == exitcodes.OK, result.output
    assert "It must be at least 2 GB." in result.stderr
    assert "`memory` is no scalar-unit.size" in result.stderr
    assert "It must be in the range 1 h to 2 d." in result.stderr
    assert "It must have at least 8 characters." in result.stderr
    assert "hush" not in result.output
    given = yaml.safe_load(target.read_text())
    assert given == {"memory": "4096 MB", "lifetime": "36 h", "key": "hush-hush"}


def test_init_overwrites_nothing(server: Recorded, template: str, tmp_path: Path) -> None:
    target = tmp_path / "values.yaml"
    target.write_text("mine: 1\n")
    assert server.run("init", template, "--file", str(target)).exit_code == exitcodes.ERROR
    assert target.read_text() == "mine: 1\n"


def test_worker_says_why_there_is_none(server: Recorded) -> None:
    result = server.run("worker")
    assert result.exit_code == exitcodes.ERROR
    assert "PostgreSQL" in result.stderr
    assert "vacuo server start" in result.stderr


def test_show_of_a_node_shows_the_node(server: Recorded) -> None:
    server.answers[f"GET /deployments/{ID}/resources"] = listing(resource(phase="JOINED"))
    result = server.run("show", NODE)
    assert "JOINED" in result.stdout
