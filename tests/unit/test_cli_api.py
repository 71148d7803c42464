"""The command line against the real API: real store, tokens and control loop, a simulated world."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from api_world import TEMPLATE, ApiWorld, Compiler
from cli_server import Recorded, serving

from orchestrator.cli import exitcodes
from orchestrator.errors import NotFound, VacuoError
from orchestrator.model import DeploymentId, NodeGroup


class JoiningCompiler(Compiler):
    """Hosts join the pool when they know how long they may idle there."""

    def _workers(self, minimum: int) -> NodeGroup:
        group = super()._workers(minimum)
        execute = replace(group.services[0], variables={"htcondor_execute_idle_seconds": 100_000})
        return replace(group, services=(execute,))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ApiWorld]:
    directory = tmp_path / "data"
    directory.mkdir()
    made = ApiWorld(directory, JoiningCompiler())
    yield made
    made.close()


@pytest.fixture
def server(world: ApiWorld, tmp_path: Path) -> Iterator[Recorded]:
    """The API, and a thread that passes over every deployment that was ever woken."""
    stop = threading.Event()

    def drive() -> None:
        done: set[str] = set()
        while not stop.wait(0.05):
            for id in [id for id in dict.fromkeys(world.woken) if id not in done]:
                world.now += 1
                # A pass that a request overtook is made again, as the engine does.
                with suppress(VacuoError):
                    if world.loop.run_once(DeploymentId(id)) is None:
                        done.add(id)

    with serving(tmp_path, world.app) as found:
        found.environment["BEARER_TOKEN"] = world.issuer.mint("alice")
        thread = threading.Thread(target=drive, daemon=True)
        thread.start()
        yield found
        stop.set()
        thread.join(60)


@pytest.fixture
def template(tmp_path: Path) -> str:
    path = tmp_path / "site.yaml"
    path.write_text(TEMPLATE)
    return str(path)


def ok(server: Recorded, *words: str) -> str:
    result = server.run(*words)
    assert result.exit_code == exitcodes.OK, (words, result.output)
    return result.stdout


def test_the_life_of_a_deployment(server: Recorded, world: ApiWorld, template: str) -> None:
    planned = server.run("plan", template)
    assert planned.exit_code == exitcodes.CHANGES, planned.output
    assert "+ workers: 0 → 1 nodes" in planned.stdout

    made = server.run("up", template, "--wait", "--timeout", "60")
    assert made.exit_code == exitcodes.OK, made.output
    assert "CREATE_COMPLETE" in made.stdout
    uuid = ok(server, "list", "--output", "name").strip()

    status = json.loads(ok(server, "status", uuid[:6], "-o", "json"))["status"]
    assert status["summary"]["wanted"] == status["summary"]["joined"] == 1
    assert status["summary"]["jobsWaiting"] == 0
    node = status["nodes"][0]["uuid"]
    assert "desired 1   joined 1   busy 0   idle 1" in ok(server, "status")
    assert node in ok(server, "show")
    assert node in ok(server, "show", node)
    assert "tosca_simple_yaml" in ok(server, "show", "--template")
    assert node in ok(server, "logs", node)
    assert "alice" in ok(server, "events")
    assert ok(server, "explain")
    assert ok(server, "explain", node)
    assert "No change." in ok(server, "plan")
    assert "✓ site site" in ok(server, "doctor")

    changed = server.run("plan", template, "--update", uuid)
    assert changed.exit_code in (exitcodes.OK, exitcodes.CHANGES), changed.output
    version = changed.stderr.partition("--if-version ")[2].split()[0]
    of_the_plan = ("up", template, "--update", uuid, "--if-version", version)
    ok(server, *of_the_plan, "--wait", "--timeout", "60")
    late = server.run(*of_the_plan)
    assert late.exit_code == exitcodes.ERROR
    assert "changed by somebody else meanwhile" in late.stderr
    assert "vacuo plan TEMPLATE --update ID" in late.stderr
    assert (
        json.loads(ok(server, "show", uuid, "-o", "json"))["deployment"]["version"]
        == int(version) + 1
    )

    gone = server.run("down", "--wait", "--timeout", "60")
    assert gone.exit_code == exitcodes.OK, gone.output
    assert node in gone.stderr
    assert "DELETE_COMPLETE" in gone.stdout
    assert "You have no deployment" in server.run("list").stderr
    assert uuid[:8] in ok(server, "list", "--all")


def test_a_job_is_explained(server: Recorded, world: ApiWorld, template: str) -> None:
    ok(server, "up", template, "--wait", "--timeout", "60")
    [job] = world.world.submit(1, cores=64)
    assert ok(server, "explain", job.id)


def test_logs_follow_to_the_end_of_the_deployment(
    server: Recorded, world: ApiWorld, template: str
) -> None:
    ok(server, "up", template, "--wait", "--timeout", "60")
    uuid = ok(server, "list", "--output", "name").strip()
    ok(server, "down")
    lines = ok(server, "logs", uuid, "--follow", "-o", "json").splitlines()
    sequences = [json.loads(line)["event"]["sequence"] for line in lines]
    assert sequences == sorted(set(sequences))
    with pytest.raises(NotFound):
        world.repository.deployment(DeploymentId("none"))


def test_a_deployment_of_somebody_else_does_not_exist(
    server: Recorded, world: ApiWorld, template: str
) -> None:
    uuid = world.create("bob")["uuid"]
    result = server.run("show", uuid)
    assert result.exit_code == exitcodes.ERROR
    assert "bob" not in result.output
    assert "You have no deployment" in server.run("list").stderr


def test_a_token_that_is_none_is_refused_with_a_way_out(server: Recorded) -> None:
    server.environment["BEARER_TOKEN"] = "e30.e30.e30"
    result = server.run("list")
    assert result.exit_code == exitcodes.UNAUTHORISED
    assert "vacuo login" in result.stderr


def test_a_template_that_is_refused_shows_its_problems(server: Recorded, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("- a list\n")
    result = server.run("up", str(path))
    assert result.exit_code == exitcodes.ERROR
    assert "template:1:1: The template is not a mapping." in result.stderr


def test_show_request_is_what_the_server_understands(server: Recorded, template: str) -> None:
    result = server.run("plan", template, "--show-request")
    line = next(line for line in result.stderr.splitlines() if line.startswith("curl"))
    assert line.startswith(f"curl -X POST {server.url}/plan ")
    assert server.environment["BEARER_TOKEN"] not in result.output


def test_a_node_is_drained_and_another_comes(
    server: Recorded, world: ApiWorld, template: str
) -> None:
    ok(server, "up", template, "--wait")
    [before] = json.loads(ok(server, "show", "-o", "json"))["deployment"]["nodes"]
    name = before["uuid"]
    gone = json.loads(ok(server, "drain", name[:-1], "--wait", "--timeout", "120", "-o", "json"))
    assert (gone["node"]["uuid"], gone["node"]["phase"]) == (name, "GONE")
    assert "asked to leave by alice" in server.run("logs", name).output
    [after] = json.loads(ok(server, "show", "-o", "json"))["deployment"]["nodes"]
    assert after["uuid"] != name
    refused = server.run("drain", name)
    assert refused.exit_code == exitcodes.ERROR
    assert "gone already" in refused.stderr
