"""What ansible-runner tells, turned into the events of the port."""

from __future__ import annotations

from typing import Any

from orchestrator.configure.base import HostToConfigure, RoleCall, TaskStatus
from orchestrator.configure.run_events import HIDDEN, Progress
from orchestrator.configure.run_files import FAILED_TASK, FINISHED_TASK
from orchestrator.model import NodeName

SECRET = "eyJhbGciOiJIUzI1NiJ9.secret"


def hosts(*names: str) -> list[HostToConfigure]:
    call = RoleCall(
        "vacuo.site.x",
        "x",
        {"x_token": SECRET, "x_tokens": {"a": [SECRET + "2"]}},
        frozenset({"x_token", "x_tokens"}),
    )
    return [HostToConfigure(NodeName(name), "10.0.0.1", (), (call,)) for name in names or ("a",)]


def event(kind: str, host: str = "a", task: str = "Do it", **more: Any) -> dict[str, Any]:
    data = {"host": host, "task": task, "role": "x", "duration": 0.5}
    return {"event": f"runner_on_{kind}", "event_data": data | more}


def test_a_task_that_changed_something_says_so() -> None:
    progress = Progress(hosts(), clock=lambda: 7.0)
    seen = progress.take(event("ok", res={"changed": True}))
    assert seen is not None
    assert (seen.status, seen.role, seen.task) == (TaskStatus.CHANGED, "x", "Do it")
    assert (seen.at, seen.seconds) == (7.0, 0.5)


def test_a_host_ends_once_when_its_last_task_is_done() -> None:
    progress = Progress(hosts())
    last = progress.take(event("ok", task=FINISHED_TASK))
    assert last is not None
    assert last.status is TaskStatus.FINISHED
    assert progress.take(event("ok")) is None
    assert progress.give_up("late") == []


def test_a_failure_is_the_hosts_last_event_once_nothing_mended_it() -> None:
    progress = Progress(hosts())
    assert progress.take(event("failed", res={"msg": "no room", "stderr": "disk full"})) is None
    last = progress.take(event("ok", task=FAILED_TASK))
    assert last is not None
    assert (last.status, last.task) == (TaskStatus.FAILED, "Do it")
    assert last.message == "no room\ndisk full"
    assert progress.give_up("late") == []


def test_a_failure_that_the_role_mended_does_not_end_the_host() -> None:
    progress = Progress(hosts())
    progress.take(event("failed", res={"msg": "no"}))
    progress.take(event("ok", task="Mend it"))
    last = progress.take(event("ok", task=FINISHED_TASK))
    assert last is not None
    assert last.status is TaskStatus.FINISHED


def test_an_unreachable_host_ends_at_once() -> None:
    progress = Progress(hosts())
    last = progress.take(event("unreachable", res={"msg": "no route"}))
    assert last is not None
    assert (last.status, last.message) == (TaskStatus.UNREACHABLE, "no route")
    assert progress.give_up("late") == []


def test_a_run_that_breaks_off_ends_every_host_that_is_left() -> None:
    progress = Progress(hosts("a", "b", "c"))
    progress.take(event("ok", host="a", task=FINISHED_TASK))
    progress.take(event("failed", host="b", res={"msg": "broken"}))
    ends = {e.node: e for e in progress.give_up("killed")}
    assert {node: e.message for node, e in ends.items()} == {"b": "broken", "c": "killed"}
    assert all(e.status is TaskStatus.FAILED for e in ends.values())


def test_no_secret_is_ever_in_an_event() -> None:
    progress = Progress(hosts())
    told = f"could not use {SECRET} nor {SECRET}2"
    progress.take(event("failed", task=f"with {SECRET}", res={"msg": told, "stdout": told}))
    last = progress.take(event("ok", task=FAILED_TASK))
    assert last is not None
    assert SECRET not in repr(last)
    assert HIDDEN in last.message
    progress = Progress(hosts())
    progress.take({"event": "verbose", "stdout": f"ERROR! {SECRET}"})
    assert SECRET not in progress.complaint


def test_a_hidden_result_says_that_it_is_hidden() -> None:
    progress = Progress(hosts())
    progress.take(event("failed", res={"censored": "…"}))
    last = progress.take(event("ok", task=FAILED_TASK))
    assert last is not None
    assert "hidden" in last.message


def test_a_task_that_only_includes_others_is_not_worth_an_event() -> None:
    progress = Progress(hosts())
    told = event("ok", task="Set squid up, or remove it")
    told["event_data"]["task_action"] = "ansible.builtin.include_tasks"
    assert progress.take(told) is None
    assert progress.any_task_ran


def test_services_of_other_hosts_are_not_worth_an_event() -> None:
    progress = Progress(hosts())
    assert progress.take(event("skipped", role=None)) is None
    seen = progress.take(event("skipped"))
    assert seen is not None
    assert seen.status is TaskStatus.SKIPPED
