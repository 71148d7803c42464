"""Hostile code that got to run on the controller, all other guards having failed: what it finds.

The real Ansible runs a role with a plugin that tries everything, in the sandbox that the
configurator uses; the plugin reports over the network, which is also the proof that it ran.
Where this machine has no sandbox these tests fail: install bubblewrap.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator import sandbox
from orchestrator.configure.ansible import AnsibleConfigurator
from orchestrator.configure.ansible_run import details
from orchestrator.configure.base import RoleCall, TaskStatus
from orchestrator.errors import UserError
from orchestrator.sandbox import View
from orchestrator.settings import Pool, Settings
from tests.unit.test_configure_safe_path import host

ROLE = "test.hostile.attack"
PATIENCE_SECONDS = 120.0
SECRET = "the-server-alone-has-this"

PLUGIN = """
import json, pathlib, socket
from ansible.plugins.lookup import LookupBase

class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        here, names = pathlib.Path(__file__), {}
        plan = json.loads(here.with_name("plan.json").read_text())
        exec(here.with_name("attempts.py").read_text(), names)
        with socket.create_connection(("127.0.0.1", plan["port"]), timeout=60) as report:
            report.sendall(json.dumps(names["attack"](plan)).encode())
            report.shutdown(socket.SHUT_WR)
            report.recv(1)  # the test looks at us from outside now
        return ["done"]
"""

# Each attempt returns what it got, or raises OSError.
# Should the sandbox have a hole, the machine of whoever runs the tests must survive it.
ATTEMPTS = r"""
import ctypes, fcntl, os, pathlib, signal, socket, termios

libc = ctypes.CDLL(None, use_errno=True)

def called(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def read(path):
    path = pathlib.Path(path)
    return os.listdir(path) if path.is_dir() else path.read_bytes().decode(errors="replace")[:2000]

def write(path):
    pathlib.Path(path).write_text("it-was-written")

def may_write(path):
    os.close(os.open(path, os.O_WRONLY))

def connect(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)

def hurt(pid):
    os.kill(pid, signal.SIGTERM)

def trace(pid):
    called(libc.ptrace(16, pid, None, None))

def mount(path):
    called(libc.mount(b"x", path.encode(), b"tmpfs", 0, None))

def push_back():
    fcntl.ioctl(1, termios.TIOCSTI, b"x")

def attack(plan):
    tries = {f"read {path}": (read, path) for path in plan["read"]}
    tries |= {f"write {path}": (write, path) for path in plan["write"]}
    tries |= {f"connect {path}": (connect, path) for path in plan["connect"]}
    tries |= {
        "trace": (trace, plan["victim"]),
        "environment": (read, f"/proc/{plan['victim']}/environ"),
        "arguments": (read, f"/proc/{plan['victim']}/cmdline"),
        "memory": (read, f"/proc/{plan['victim']}/mem"),
        "kernel": (may_write, "/proc/sys/kernel/core_pattern"),
        "reboot": (may_write, "/proc/sysrq-trigger"),
        "root": (os.setuid, 0),
        "namespace": (lambda _: called(libc.unshare(0x10000000)), 0),
        "mount": (mount, plan["data"]),
        "unmount": (lambda path: called(libc.umount2(path.encode(), 2)), plan["data"]),
        "device": (lambda _: os.mknod("/tmp/disk", 0o060600, os.makedev(8, 0)), 0),
        "terminal": (lambda _: push_back(), 0),
        "signal": (hurt, plan["victim"]),
    }
    result = {}
    for name, (attempt, argument) in tries.items():
        if plan["only"] and name not in plan["only"]:
            continue
        try:
            result[name] = attempt(argument)
        except OSError as error:
            result[name] = {"failed": error.strerror or str(error)}
    status = dict(line.split(":\t", 1) for line in read("/proc/self/status").splitlines())
    facts = {"status": status, "environment": dict(os.environ), "data": {}}
    for top, names, files in os.walk(plan["data"]):
        facts["data"][top] = [*names, *files]
    facts["pids"] = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    write(plan["scratch"])
    return {"tries": result, "facts": facts}
"""


@dataclass
class Server:
    """A server's files and a process that has its environment, and what the run reported."""

    directory: Path
    victim: subprocess.Popen[bytes]
    listener: socket.socket
    plan: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    users: set[int] = field(default_factory=set)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def settings(self, policy: str = "required") -> Settings:
        pool = Pool(
            name="p", collector="c:9618", token_file=self.directory / "installed/pool.token"
        )
        return Settings.model_validate(
            {"data_directory": self.data, "sandbox": policy, "pools": [pool.model_dump()]}
        )

    def attacked(self, policy: str = "required") -> dict[str, Any]:
        """What hostile code in a run of Ansible reported."""
        collections = self._collections()
        configurator = AnsibleConfigurator(
            self.settings(policy),
            extra_roles=[ROLE],
            # Something that is shown and holds a file that the settings name.
            extra_collections=[collections, self.directory / "installed"],
            mitogen=False,
        )
        other = self.data / "ansible/runs/another-run/host_vars"
        other.mkdir(parents=True, exist_ok=True)
        (other / "node.yml").write_text(SECRET)
        reader = threading.Thread(target=self._listen, args=(str(self.data / "ansible/runs"),))
        reader.start()
        one = host({}, address="127.0.0.9", roles=(RoleCall(ROLE, "x", {}),))
        events = list(configurator.apply([one], "attacked"))
        if events[-1].status is not TaskStatus.FINISHED:
            self.listener.shutdown(socket.SHUT_RDWR)  # nobody will report any more
        reader.join(PATIENCE_SECONDS)
        assert self.report, f"the code did not run: {events}"
        assert events[-1].status is TaskStatus.FINISHED, events
        return self.report

    def _collections(self) -> Path:
        path = self.directory / "collections"
        role = path / "ansible_collections/test/hostile/roles/attack/tasks"
        plugins = path / "ansible_collections/test/hostile/plugins/lookup"
        for one in (role, plugins):
            one.mkdir(parents=True, exist_ok=True)
        message = "{{ lookup('test.hostile.attack') }}"
        task = {"name": "Attack", "ansible.builtin.debug": {"msg": message}}
        (role / "main.yml").write_text(json.dumps([task]))
        (plugins / "attack.py").write_text(PLUGIN)
        (plugins / "attempts.py").write_text(ATTEMPTS)
        (plugins / "plan.json").write_text(json.dumps(self.plan))
        return path

    def _listen(self, runs: str) -> None:
        self.listener.settimeout(PATIENCE_SECONDS)
        with contextlib.suppress(OSError), self.listener.accept()[0] as connection:
            connection.settimeout(PATIENCE_SECONDS)
            content = b"".join(iter(lambda: connection.recv(65536), b""))
            self.users = users_of("ansible.cli.playbook", runs)
            self.report.update(json.loads(content))


def users_of(program: str, runs: str) -> set[int]:
    """The users, as this machine knows them, of the Pythons that run a play below ``runs``."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (path / "cmdline").read_text().split("\0")
            if arguments[1:3] == ["-m", program] and any(runs in one for one in arguments):
                found.add(path.stat().st_uid)
    return found


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    tmp_path.chmod(0o755)
    monkeypatch.setenv("VACUO_MASTER_KEY_OLD", SECRET)
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", SECRET])
    engine = socket.socket(socket.AF_UNIX)
    # The path of a socket is short; pytest's directories are not.
    with contextlib.ExitStack() as stack:
        stack.callback(victim.wait)
        stack.callback(victim.kill)
        stack.callback(engine.close)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        made = Server(tmp_path, victim, listener)
        secrets = [
            made.data / "vacuo.db",
            made.data / "master-keys/1.key",
            made.data / "pools/p/drain-secret",
            made.data / "ansible/id_ed25519-of-another-server",
            tmp_path / "installed/pool.token",
            tmp_path / "settings/vacuo.yaml",
            tmp_path / "home/.ssh/id_ed25519",
        ]
        for path in secrets:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(SECRET)
        socket_path = str(made.data / "e")
        engine.bind(socket_path)
        engine.listen()
        made.plan = {
            "only": [],
            "scratch": f"/tmp/vacuo-test-{uuid.uuid4().hex}",
            "port": listener.getsockname()[1],
            "victim": victim.pid,
            "data": str(made.data),
            "read": [
                *map(str, secrets),
                str(made.data / "ansible/runs/another-run/host_vars/node.yml"),
                str(made.data / "ansible/id_ed25519"),
                str(tmp_path / "home"),
                *("/etc/shadow", "/root", "/home", "/var", "/run", "/sys/kernel", "/dev/kmsg"),
                *("/proc/kcore", f"/proc/{os.getpid()}/environ"),
            ],
            "write": [
                str(made.data / "written"),
                str(tmp_path / "written"),
                str(tmp_path / "collections/written"),
                str(Path(sys.prefix) / "written"),
                *("/usr/written", "/etc/written", "/written"),
            ],
            "connect": [socket_path],
        }
        yield made
        for path in (made.plan["scratch"], *made.plan["write"]):
            Path(path).unlink(missing_ok=True)


def _way_to_python(name: str) -> list[str]:
    """All that may be seen of a directory that this Python is in: the way to it."""
    directory = Path(name.removeprefix("read "))
    homes = {Path(sys.prefix), Path(sys.base_prefix)}
    return sorted({p.relative_to(directory).parts[0] for p in homes if directory in p.parents})


def ways() -> list[int]:
    """The strictest way, and the one of a server that is not root."""
    return [0, 2] if os.geteuid() == 0 else [0]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ways())
def test_code_that_runs_on_the_controller_gets_at_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, way: int
) -> None:
    possible = list(sandbox._ways(shutil.which("bwrap") or "bwrap"))
    monkeypatch.setattr(sandbox, "_ways", lambda program: iter([possible[way]]))
    report = server.attacked()
    # What it wrote into its own scratch space is no success; it is looked for outside, below.
    own = f"write {server.directory}"
    had = {
        name: got
        for name, got in report["tries"].items()
        if not failed(got) and not name.startswith(own) and got != _way_to_python(name)
    }
    assert had == {}
    assert SECRET not in json.dumps(report)
    assert server.victim.poll() is None
    facts = report["facts"]
    status = facts["status"]
    capabilities = {name: int(text, 16) for name, text in status.items() if name[:3] == "Cap"}
    assert capabilities == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0)
    assert status["NoNewPrivs"] == "1"
    assert set(status["Uid"].split()) == {str(sandbox.USER_ID)}
    assert max(facts["pids"]) < 1000, "it sees its own processes alone"
    assert "VACUO_MASTER_KEY_OLD" not in facts["environment"]
    # Of the data directory: the run, and the roles.
    assert {*facts["data"][str(server.data)]} - {"written"} == {"ansible"}
    assert sorted(facts["data"][str(server.data / "ansible")]) == ["collections", "runs"]
    assert len(facts["data"][str(server.data / "ansible/runs")]) == 1
    # Its scratch space is its own, and nothing of it is left.
    assert not Path(server.plan["scratch"]).exists()
    assert not list(server.directory.rglob("written"))
    assert server.users == {sandbox.USER_ID if possible[way].other_user else os.geteuid()}


def failed(got: Any) -> bool:
    return isinstance(got, dict) and "failed" in got


@pytest.mark.timeout(300)
def test_without_the_sandbox_the_same_code_gets_at_all_of_it(server: Server) -> None:
    database, token = server.data / "vacuo.db", server.directory / "installed/pool.token"
    written, engine = server.data / "written", server.data / "e"
    steps = [f"read {database}", f"read {token}", f"write {written}", f"connect {engine}"]
    server.plan["only"] = [*steps, "environment", "arguments", "signal"]
    tries = server.attacked("off")["tries"]
    assert [name for name, got in tries.items() if failed(got)] == []
    assert tries[steps[0]] == tries[steps[1]] == SECRET
    assert SECRET in tries["arguments"]
    assert SECRET in tries["environment"]
    assert written.read_text() == "it-was-written"
    assert server.victim.wait(60) == -signal.SIGTERM


def test_a_sandbox_that_is_required_and_cannot_be_had_lets_nothing_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError) as refused:
        AnsibleConfigurator(Settings(data_directory=tmp_path, sandbox="required"))
    assert refused.value.code == "no-sandbox"
    assert "there is no program bwrap" in refused.value.why
    assert refused.value.attempt == "apt install bubblewrap"


def test_a_sandbox_that_does_not_work_here_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho bwrap: No permissions to create new namespace >&2; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = AnsibleConfigurator(Settings(data_directory=tmp_path)).confinement()
    assert found is not None
    assert not found.confined
    assert "No permissions to create new namespace" in found.detail
    (told,) = [one.getMessage() for one in caplog.records if "sandbox" in one.getMessage()]
    assert "No permissions to create new namespace" in told


def test_on_this_machine_runs_are_in_the_strictest_sandbox(tmp_path: Path) -> None:
    found = AnsibleConfigurator(Settings(data_directory=tmp_path)).confinement()
    assert found is not None
    assert found.confined, f"{found.detail}: install bubblewrap (setup/bootstrap.sh does)"
    assert ("nobody's user" in found.detail) is (os.geteuid() == 0)


def test_what_is_hidden_is_hidden_within_what_is_shown(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    shown = tmp_path / "shown"
    for name in ("public", "secrets/key", "deep/er/token"):
        (shown / name).parent.mkdir(parents=True, exist_ok=True)
        (shown / name).write_text(SECRET)
    hidden = [shown / "secrets", shown / "deep/er/token", tmp_path / "elsewhere"]
    view = View({shown: shown}, hidden=hidden)
    command = sandbox.find(view, "json").command(view, ["grep", "-rl", SECRET, str(tmp_path)])
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [str(shown / "public")]


def test_a_sandbox_without_network_has_none(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code = (
            f"import socket; socket.create_connection(('127.0.0.1', {listener.getsockname()[1]}))"
        )
        for network in (True, False):
            view = View(network=network)
            command = sandbox.find(view, "json").command(view, [sys.executable, "-c", code])
            done = subprocess.run(command, capture_output=True, timeout=60)
            assert (done.returncode == 0) is network


# --- what a run may write, the server reads with care --------------------------------------------


def test_only_plain_files_of_events_are_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"event_data": SECRET}))
    events = tmp_path / "events"
    events.mkdir()
    (events / "a-partial.json").write_text('{"event_data": {"host": "n"}}')
    (events / "b-partial.json").symlink_to(secret)
    os.mkfifo(events / "c-partial.json")
    (events / "d-partial.json").mkdir()
    (events / "e-partial.json").write_text("[" * 100_000)
    (events / "f-partial.json").write_text('["a list"]')
    (tmp_path / "0-partial.json").write_text('{"outside": true}')
    handle = os.open(events, os.O_RDONLY)
    try:
        assert details(handle, {"uuid": "a"}) == {"event_data": {"host": "n"}}
        assert not (events / "a-partial.json").exists()
        for name in ("a", "b", "c", "d", "e", "f", "../0", "", ["a"], None):
            assert details(handle, {"uuid": name}) == {}
    finally:
        os.close(handle)
    assert secret.exists()
    assert (tmp_path / "0-partial.json").exists()
