from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.settings import Limits, Settings
from orchestrator.tosca import catalogue, confined
from orchestrator.tosca.problems import TemplateInvalid
from orchestrator.tosca.sandbox import Compiler
from orchestrator.tosca.sources import Gathering, ImportSources
from tests.unit.tosca_support import SOUND, compiled, spoilt

HOSTILE = (sys.executable, str(Path(__file__).with_name("tosca_hostile_worker.py")))
PATIENCE = 60.0


@pytest.fixture(scope="module")
def compiler() -> Iterator[Compiler]:
    found = Compiler(Limits())
    yield found
    found.close()


def _hostile(seconds: float = 1.0) -> Compiler:
    return Compiler(Limits(template_seconds=seconds), workers=1, command=HOSTILE)


def _confined(data_directory: Path) -> tuple[str, ...]:
    settings = Settings(data_directory=data_directory, sandbox="required")
    return confined.command(settings, HOSTILE, [Path(HOSTILE[1]).parent])


def _refusal(compiler: Compiler, how: str) -> UserError:
    with pytest.raises(UserError) as caught:
        compiler.compile(how, {})
    return caught.value


def _eventually(holds: object) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if holds():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_the_sandbox_gives_exactly_what_compiling_gives(compiler: Compiler) -> None:
    for template in catalogue.templates():
        text = template.path.read_text()
        assert compiler.compile(text, {}) == compiled(text)


def test_problems_come_out_as_they_are(compiler: Compiler) -> None:
    with pytest.raises(TemplateInvalid) as caught:
        compiler.compile(spoilt("num_cpus", "num_cpu"), {}, "mine.yaml")
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == ("mine.yaml", 21)


def test_a_template_is_described_with_its_inputs(compiler: Compiler) -> None:
    required = spoilt("      default: 2\n", "      description: How many.\n")
    (cores,) = compiler.describe(required).inputs
    assert (cores.name, cores.type, cores.required) == ("cores", "integer", True)
    assert cores.constraints == (("in_range", [1, 8]),)
    assert compiler.describe(SOUND).description == "One worker node."
    assert compiler.describe(SOUND).inputs[0].default == 2


def test_a_template_that_cannot_be_described_says_why(compiler: Compiler) -> None:
    with pytest.raises(TemplateInvalid):
        compiler.describe(spoilt("type: integer", "type: int"))


def test_ten_megabytes_are_refused_without_being_read() -> None:
    compiler = Compiler(Limits(), command=("/nonexistent",))
    with pytest.raises(TemplateInvalid) as caught:
        compiler.compile("a: b\n" * 2_000_000, {})
    assert "1000000 is the most" in caught.value.problems[0].sentence


def test_parameters_have_limits_too(compiler: Compiler) -> None:
    deep: object = 1
    for _ in range(10_000):
        deep = [deep]
    for inputs in ({"a": deep}, {"a": "x" * 2_000_000}, {"a": object()}, {"a": float("nan")}):
        with pytest.raises(TemplateInvalid) as caught:
            compiler.compile(SOUND, inputs)
        assert caught.value.problems[0].path == "parameters"


def test_text_that_is_no_text_is_refused(compiler: Compiler) -> None:
    with pytest.raises(TemplateInvalid):
        compiler.compile("a: \ud800", {})


def test_bombs_are_refused_with_a_sentence(compiler: Compiler) -> None:
    merge = "a0: &a0 {k: 1}\n" + "".join(
        f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
    )
    pattern = spoilt("type: integer", "type: string")
    pattern = spoilt("default: 2", f"default: {'a' * 60}b", pattern)
    pattern = spoilt("in_range: [1, 8]", "pattern: '(a+)+$'", pattern)
    assert "values" in str(_refusal(compiler, merge))
    assert "takes too long to find out" in str(_refusal(compiler, pattern))


def test_a_small_template_may_not_take_long() -> None:
    compiler = _hostile(600.0)
    error = _refusal(compiler, "spin")
    assert error.code == "template-too-expensive"
    assert "processor time" in error.why
    compiler.close()


@pytest.mark.parametrize("how", ["sleep", "spin", "eat", "die", "exit"])
def test_a_child_that_misbehaves_is_ended_and_the_next_template_is_read(how: str) -> None:
    compiler = _hostile()
    error = _refusal(compiler, how)
    assert error.code == "template-too-expensive"
    assert error.why
    with pytest.raises(TypeError, match="gave no DeploymentSpec"):
        compiler.compile("well", {})
    compiler.close()


@pytest.mark.parametrize("how", ["stop the worker", "kill the worker"])
def test_a_worker_that_is_gone_is_replaced(how: str) -> None:
    compiler = _hostile(0.5)
    assert _refusal(compiler, how).code == "template-too-expensive"
    with pytest.raises(TypeError, match="gave no DeploymentSpec"):
        compiler.compile("well", {})
    compiler.close()


def test_a_fault_of_ours_reaches_the_log_and_not_the_user(
    caplog: pytest.LogCaptureFixture,
) -> None:
    compiler = _hostile()
    error = _refusal(compiler, "fault")
    assert error.status == 500
    assert "secret" not in str(error)
    assert "/secret/path" in caplog.text
    compiler.close()


def test_the_child_can_write_no_file() -> None:
    compiler = _hostile()
    _refusal(compiler, "write")
    target = Path("/tmp/vacuo-should-not-be")
    assert not target.exists() or target.stat().st_size == 0
    target.unlink(missing_ok=True)
    compiler.close()


def test_a_worker_that_died_idle_is_not_noticed(compiler: Compiler) -> None:
    compiler.warm()
    for worker in list(compiler._idle):
        os.kill(worker._process.pid, signal.SIGKILL)
    assert compiler.compile(SOUND, {}).groups


def test_many_threads_get_their_own_answers(compiler: Compiler) -> None:
    def one(number: int) -> bool:
        if number % 2:
            spec = compiler.compile(SOUND, {"cores": number % 8 + 1})
            return spec.group("worker").requirements.cores == number % 8 + 1
        with pytest.raises(TemplateInvalid) as caught:
            compiler.compile(SOUND, {"cores": 100 + number})
        return str(100 + number) in caught.value.problems[0].sentence

    with ThreadPoolExecutor(12) as threads:
        assert all(threads.map(one, range(60)))


def test_a_full_house_is_said_to_be_full() -> None:
    compiler = _hostile(1.5)
    blocker = threading.Thread(target=lambda: _refusal(compiler, "stop the worker"))
    blocker.start()
    assert _eventually(lambda: compiler._slots._value == 0)
    error = _refusal(compiler, "well")
    assert (error.code, error.status) == ("template-busy", 503)
    blocker.join(PATIENCE)
    compiler.close()


def test_a_forked_process_starts_workers_of_its_own(compiler: Compiler) -> None:
    compiler.compile(SOUND, {})
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if not compiler._all and compiler.compile(SOUND, {}).groups:
                compiler.close()
                code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert compiler.compile(SOUND, {}).groups


def _family(ancestors: list[int]) -> dict[int, int]:
    """The processes below ``ancestors``, and these, with their parents."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(stat[1])
    found = {pid: parents[pid] for pid in ancestors if pid in parents}
    while more := {p: of for p, of in parents.items() if of in found and p not in found}:
        found |= more
    return found


def _program(pid: int) -> bool:
    """Whether the process is the hostile worker itself, and not what keeps it in."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:2] == list(HOSTILE)
    return False


_PARENT = """
import sys, threading
from orchestrator.settings import Limits
from orchestrator.tosca.sandbox import Compiler
compiler = Compiler(Limits(template_seconds=300), workers=2, command=sys.argv[1:])
threading.Thread(target=compiler.compile, args=("sleep", {}), daemon=True).start()
compiler.warm()
while len(compiler._all) < 2:
    pass
print(*[worker._process.pid for worker in compiler._all], flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize("in_sandbox", [False, True])
def test_nothing_is_left_when_the_parent_is_killed(in_sandbox: bool, tmp_path: Path) -> None:
    command = _confined(tmp_path) if in_sandbox else HOSTILE
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, *command], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert len(workers) == 2

    def busy() -> bool:
        """Whether a worker has a child: both are the same program."""
        mine = {pid: parent for pid, parent in _family(workers).items() if _program(pid)}
        return len(mine) == 3 and any(parent in mine for parent in mine.values())

    assert _eventually(busy), "two workers and one busy child"
    family = _family(workers)
    parent.kill()
    parent.wait(PATIENCE)
    assert _eventually(lambda: not any(map(_alive, family)))
    parent.stdout.close()


def test_closing_ends_the_workers() -> None:
    compiler = Compiler(Limits(), workers=1)
    compiler.compile(SOUND, {})
    (worker,) = compiler._all
    compiler.close()
    assert _eventually(lambda: not _alive(worker._process.pid))
    assert compiler.compile(SOUND, {}).groups
    compiler.close()


# --- in its sandbox ------------------------------------------------------------------------------


def test_the_child_has_no_file_of_the_server_and_no_network(tmp_path: Path) -> None:
    secret = tmp_path / "vacuo.db"
    secret.write_text("the server alone has this")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        places = [str(secret), "/etc/shadow", f"/proc/{os.getpid()}/environ"]
        places.append(str(listener.getsockname()[1]))
        found = {
            name: _looked(_hostile_with(command), places)
            for name, command in (("open", HOSTILE), ("confined", _confined(tmp_path)))
        }
    assert str(secret) in found["open"]
    assert places[-1] in found["open"]
    assert found["confined"] == []


def _hostile_with(command: tuple[str, ...]) -> Compiler:
    return Compiler(Limits(), workers=1, command=command)


def _looked(compiler: Compiler, places: list[str]) -> list[str]:
    request = {"operation": "describe", "template": f"look {' '.join(places)}", "file": "t"}
    found = compiler._ask({**request, "origin": ""}, Gathering(ImportSources()))
    compiler.close()
    assert isinstance(found, list)
    return found


def test_the_servers_own_worker_reads_all_templates_in_its_sandbox(tmp_path: Path) -> None:
    command = confined.command(Settings(data_directory=tmp_path, sandbox="required"))
    assert "bwrap" in command[0]
    found = Compiler(Limits(), command=command)
    for template in catalogue.templates():
        text = template.path.read_text()
        assert found.compile(text, {}) == compiled(text)
    found.close()


def test_a_worker_in_its_sandbox_outlives_the_thread_that_asked_for_it(tmp_path: Path) -> None:
    compiler = _hostile_with(_confined(tmp_path))
    thread = threading.Thread(target=compiler.warm)
    thread.start()
    thread.join(PATIENCE)
    (worker,) = compiler._all
    for _ in range(3):
        assert _looked_again(compiler) == []
        assert compiler._all == {worker}
    compiler.close()


def _looked_again(compiler: Compiler) -> list[str]:
    request = {"operation": "describe", "template": "look /nowhere", "file": "t", "origin": ""}
    found = compiler._ask(request, Gathering(ImportSources()))
    assert isinstance(found, list)
    return found
