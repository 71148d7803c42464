"""Waiting: only changes without a terminal, a tree on one; Ctrl-C leaves and says how to resume."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cli_server import (
    ID,
    NODE,
    TOKEN,
    Recorded,
    Request,
    deployment,
    event,
    listing,
    problem,
    resource,
    stream,
)

from orchestrator.cli import exitcodes
from orchestrator.cli.view import changes, view
from orchestrator.cli.watch import interruptible

PATH = f"/deployments/{ID}"
PATIENCE = 60.0


def story(server: Recorded, *looks: tuple[Any, Any]) -> None:
    """The server shows each (deployment, resources) once, and the last one for ever."""
    seen = {"number": -1}

    def current() -> tuple[Any, Any]:
        return looks[min(max(seen["number"], 0), len(looks) - 1)]

    def one(request: Request) -> Any:
        seen["number"] += 1
        return current()[0]

    def events(request: Request) -> Any:
        since = int(request.query.get("since", 0))
        found = [event(n, f"line {n}") for n in range(1, 60) if n > since]

        def slowly() -> Iterator[str]:
            for one_event in found:
                yield from stream(one_event, end=False)
                time.sleep(0.05)
            yield from stream()

        return slowly()

    server.answers[f"GET {PATH}"] = one
    server.answers[f"GET {PATH}/resources"] = lambda request: current()[1]
    server.answers[f"GET {PATH}/events"] = events


def test_without_a_terminal_only_changes_are_printed(server: Recorded, template: str) -> None:
    waits = deployment()
    story(
        server,
        (waits, listing(resource())),
        (waits, listing(resource())),
        (waits, listing(resource(phase="JOINED", reason=None))),
        (
            deployment(status="CREATE_COMPLETE", statusReason=None),
            listing(resource(phase="JOINED", reason=None)),
        ),
    )
    result = server.run("up", template, "--wait")
    assert result.exit_code == exitcodes.OK, result.output
    told = [line.split(" ", 1)[1] for line in result.stderr.splitlines() if ":" in line[:3]]
    assert told == [
        f"CREATE_IN_PROGRESS Node {NODE} boots; its ssh does not answer yet.",
        f"{NODE} BOOTING: Node {NODE} boots; its ssh does not answer yet.",
        f"{NODE} BOOTING → JOINED after 0s",
        "CREATE_COMPLETE",
    ]
    assert result.stdout.splitlines()[0].startswith(f"{ID} CREATE_COMPLETE")
    assert "cache_url = http://10.93.0.5:3128" in result.stdout


def test_a_deployment_that_fails_ends_with_one_and_says_why(
    server: Recorded, template: str
) -> None:
    failed = deployment(
        status="CREATE_FAILED", statusReason="No site can.", statusReasonCode="no-offer"
    )
    story(server, (failed, listing()))
    result = server.run("up", template, "--wait")
    assert result.exit_code == exitcodes.ERROR
    assert "No site can." in result.stderr
    assert "vacuo explain" in result.stderr
    assert "no-offer" in result.stderr


def test_an_update_waits_for_its_own_end(server: Recorded, template: str) -> None:
    story(
        server,
        (deployment(), listing()),
        (deployment(status="UPDATE_IN_PROGRESS"), listing()),
        (deployment(status="UPDATE_COMPLETE"), listing()),
    )
    result = server.run("up", template, "--update", ID[:4], "--wait")
    assert result.exit_code == exitcodes.OK, result.output
    assert "UPDATE_COMPLETE" in result.stdout
    assert server.requests("POST", "/deployments") == []


def test_down_waits_until_nothing_is_left(server: Recorded) -> None:
    leaving = deployment(status="DELETE_IN_PROGRESS")
    story(
        server,
        (deployment(), listing(resource(phase="JOINED"))),
        (leaving, listing(resource(phase="DRAINING"))),
        (deployment(status="DELETE_COMPLETE", reasons=[], groups=[]), listing()),
    )
    result = server.run("down", ID, "--wait")
    assert result.exit_code == exitcodes.OK, result.output
    assert f"{NODE} DRAINING → GONE" in result.stderr
    assert "DELETE_COMPLETE" in result.stdout


def test_waiting_ends_at_its_timeout_with_a_code_of_its_own(
    server: Recorded, template: str
) -> None:
    story(server, (deployment(), listing()))
    result = server.run("up", template, "--wait", "--timeout", "0")
    assert result.exit_code == exitcodes.TIMED_OUT
    assert f"vacuo status {ID[:8]} --watch" in result.stderr


def test_a_server_that_restarts_is_waited_for_and_told_of_once(
    server: Recorded, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.cli.watch._LOOK_SECONDS", 0.01)
    away = problem(503, "unavailable")
    story(
        server,
        (deployment(), listing()),
        (away, away),
        (away, away),
        (deployment(status="CREATE_COMPLETE"), listing()),
    )
    result = server.run("up", template, "--wait")
    assert result.exit_code == exitcodes.OK, result.output
    assert result.stderr.count("The server does not answer") == 1


def test_a_refusal_in_the_middle_is_no_restart(server: Recorded, template: str) -> None:
    story(server, (problem(401, "token-expired", attempt=""), listing()))
    result = server.run("up", template, "--wait")
    assert result.exit_code == exitcodes.UNAUTHORISED
    assert "vacuo login" in result.stderr


def command(server: Recorded, *words: str) -> tuple[list[str], dict[str, str]]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(server.home),
        "VACUO_SERVER": server.url,
        "BEARER_TOKEN": TOKEN,
        "TERM": "xterm",
        "COLUMNS": "120",
        "LINES": "40",
    }
    return [sys.executable, "-m", "orchestrator.cli.main", *words], environment


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ctrl_c_detaches_and_says_how_to_resume(server: Recorded, template: str) -> None:
    story(server, (deployment(), listing(resource())))
    words, environment = command(server, "up", template, "--wait")
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        until(lambda: len(server.requests("GET", f"{PATH}/resources")) > 1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == exitcodes.DETACHED, errors
    assert (
        f"Detached: the work goes on at the server. To see it again, run: vacuo status {ID[:8]}"
        in errors
    )
    assert "Traceback" not in errors
    assert server.requests("DELETE", PATH) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_in_the_middle_of_a_destructor_is_not_forgotten() -> None:
    class Destroyed:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(PATIENCE)

    before = signal.getsignal(signal.SIGINT)
    with interruptible() as interrupted:
        Destroyed()  # Python tells of the exception and goes on
        assert interrupted.is_set()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_terminal_sees_a_tree_of_deployment_group_and_node(
    server: Recorded, template: str
) -> None:
    joined = listing(resource(phase="JOINED", reason=None))
    story(
        server,
        (deployment(), listing(resource())),
        (deployment(), listing(resource())),
        (deployment(status="CREATE_COMPLETE", statusReason=None), joined),
    )
    words, environment = command(server, "up", template, "--wait")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        words, env=environment, stdin=slave, stdout=subprocess.PIPE, stderr=slave
    )
    os.close(slave)
    shown = b""
    try:
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the other end is closed: the command has ended
                break
            if not part:
                break
            shown += part
        assert process.wait(PATIENCE) == exitcodes.OK
    finally:
        process.kill()
        os.close(master)
    text = shown.decode()
    assert "├" in text or "└" in text
    assert "workers" in text
    assert "BOOTING" in text
    assert "JOINED" in text
    assert process.stdout is not None
    assert "CREATE_COMPLETE" in process.stdout.read().decode()


def test_the_same_look_twice_is_no_change() -> None:
    seen = view(deployment(), [resource()], {})
    assert changes(seen, seen, 0.0) == []


def test_what_an_update_does_to_a_node_is_a_change() -> None:
    before = view(deployment(), [resource(phase="JOINED")], {})
    after = view(deployment(), [resource(phase="JOINED", refreshing=True)], {})
    assert [line.split(" ", 1)[1] for line in changes(before, after, 0.0)] == [
        f"{NODE} JOINED refreshing"
    ]
    assert [line.split(" ", 1)[1] for line in changes(after, before, 0.0)] == [
        f"{NODE} JOINED as wished"
    ]


def test_a_new_reason_is_a_change_and_is_told_once() -> None:
    before = view(deployment(statusReason=None, reasons=[]), [], {})
    why = {"code": "at-maximum", "sentence": "Group workers is full.", "nextCommand": ""}
    after = view(deployment(statusReason=None, reasons=[why]), [], {})
    assert [line.split(" ", 1)[1] for line in changes(before, after, 0.0)] == [
        "Group workers is full."
    ]
    assert changes(after, after, 0.0) == []
