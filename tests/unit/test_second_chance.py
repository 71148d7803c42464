"""Which failed tests run once more, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed import second_chance

FAILED = int(pytest.ExitCode.TESTS_FAILED)


@pytest.fixture
def after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """What becomes of a run in which ``tests`` failed; alone, a test passes if its name says so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:cacheprovider")
    code = "def test_passes_alone(): pass\ndef test_fails_again(): assert False\n"
    for name in second_chance.REAL:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / f"test_{Path(name).name}.py").write_text(code)
    second_chance.CACHE.parent.mkdir(parents=True)

    def run(*tests: str, status: int = FAILED) -> int:
        second_chance.CACHE.write_text(json.dumps(dict.fromkeys(tests, True)))
        return second_chance.main(status)

    return run


def test_a_real_test_that_passes_alone_is_named(
    after: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    test = "tests/e2e/test_e2e.py::test_passes_alone"
    assert after(test) == 0
    assert capfd.readouterr().out.split("UNSTEADY", 1)[1].strip().endswith(test)


@pytest.mark.parametrize(
    "also", [(), ("tests/conformance/test_conformance.py::test_passes_alone",)]
)
def test_a_real_test_that_fails_again_has_failed(
    after: Callable[..., int], capfd: pytest.CaptureFixture[str], also: tuple[str, ...]
) -> None:
    assert after("tests/e2e/test_e2e.py::test_fails_again", *also) == FAILED
    assert "UNSTEADY" not in capfd.readouterr().out


@pytest.mark.parametrize(
    "tests",
    [
        ("tests/unit/test_x.py::test_y",),
        ("tests/e2e/test_e2e.py::test_passes_alone", "tests/scenarios/test_x.py::test_y"),
        tuple(f"tests/e2e/test_{n}.py::test_y" for n in range(second_chance.MOST_FILES + 1)),
    ],
    ids=["a unit test", "a scenario among them", "many files"],
)
def test_no_other_failure_has_a_second_chance(
    after: Callable[..., int], capfd: pytest.CaptureFixture[str], tests: tuple[str, ...]
) -> None:
    assert after(*tests) == FAILED
    assert capfd.readouterr().out == ""


def test_a_run_that_did_not_end_as_it_should_has_no_second_chance(
    after: Callable[..., int],
) -> None:
    interrupted = int(pytest.ExitCode.INTERRUPTED)
    assert after("tests/e2e/test_e2e.py::test_passes_alone", status=interrupted) == interrupted
