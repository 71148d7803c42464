"""The helper process: deadlines, deaths, and errors that keep their class."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.batch.child import ChildProcess
from orchestrator.errors import Retryable, Terminal, Unauthorised

MODULE = """
import os, time
from orchestrator.batch.child import serve
from orchestrator.errors import Retryable, Terminal, Unauthorised

def echo(value):
    print("noise that is no answer")
    return value

def sleep(seconds):
    time.sleep(seconds)

def die():
    os._exit(3)

def fail(kind):
    raise {"unauthorised": Unauthorised, "terminal": Terminal, "retryable": Retryable}[kind]("no")

def stumble():
    return 1 / 0

operations = (echo, sleep, die, fail, stumble)
serve({each.__name__: each for each in operations}, lambda error: Terminal(type(error).__name__))
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator[ChildProcess]:
    (tmp_path / "helper_of_the_test.py").write_text(MODULE)
    paths = [str(tmp_path), *sys.path]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "PATH": os.environ["PATH"]}
    child = ChildProcess("helper_of_the_test", environment)
    yield child
    child.close()


def test_an_answer_comes_back_whole(child: ChildProcess) -> None:
    value = {"text": "line\nbreak ✓ " + "x" * 200_000, "number": 1.5, "none": None}
    assert child.call("echo", {"value": value}, 30) == value


def test_a_call_past_its_deadline_is_given_up_and_the_next_one_works(child: ChildProcess) -> None:
    child.call("echo", {"value": 0}, 30)
    with pytest.raises(Retryable):
        child.call("sleep", {"seconds": 600}, 0.2)
    assert child.call("echo", {"value": 1}, 30) == 1


def test_a_death_is_retryable_and_the_next_call_works(child: ChildProcess) -> None:
    with pytest.raises(Retryable):
        child.call("die", {}, 30)
    assert child.call("echo", {"value": 1}, 30) == 1


@pytest.mark.parametrize(
    ("kind", "error"),
    [("unauthorised", Unauthorised), ("terminal", Terminal), ("retryable", Retryable)],
)
def test_an_error_keeps_its_class(child: ChildProcess, kind: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="no"):
        child.call("fail", {"kind": kind}, 30)


def test_an_accident_is_explained(child: ChildProcess) -> None:
    with pytest.raises(Terminal, match="ZeroDivisionError"):
        child.call("stumble", {}, 30)


def test_threads_get_their_own_answers(child: ChildProcess) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda n: child.call("echo", {"value": n}, 30), range(200))
        assert list(answers) == list(range(200))
