"""Configuration by Ansible: one run of ansible-runner over ssh for a batch of hosts.

Mitogen makes it several times faster where it works; where it does not (it lags new releases of
Ansible) the first run finds out and Ansible's own strategy takes over, for good.

Below the data directory: ``ansible/id_ed25519`` is the key that hosts let in, ``ansible/runs`` the
runs that go on now (removed as they end, secrets and all), ``ansible/logs`` the last ones' output.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import logging
import os
import queue
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.configure import bundle, run_files, ssh, supervisor
from orchestrator.configure.base import (
    Bundle,
    HostToConfigure,
    PullOrder,
    SecretFile,
    TaskEvent,
    TaskStatus,
)
from orchestrator.configure.run_events import Progress, redactor
from orchestrator.configure.run_files import RunSettings
from orchestrator.errors import Terminal
from orchestrator.model import UserData
from orchestrator.settings import Settings

log = logging.getLogger(__name__)

NAMESPACE, COLLECTION = "vacuo", "site"
LOGS_KEPT = 50
HOSTS_AT_ONCE = 20
POLL_SECONDS = 0.2
END_SECONDS = 15.0
LONGEST_SOCKET_PATH = 107  # <sys/un.h>, less the final NUL
SOCKET_NAME_LENGTH = 30  # Ansible's hash, and what ssh appends while it makes the socket
# All that Ansible's processes get of the server's environment, and what the runner adds to it.
ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "TZ")
RUNNER_ENVIRONMENT = (
    "ANSIBLE_CALLBACK_PLUGINS",
    "ANSIBLE_STDOUT_CALLBACK",
    "AWX_ISOLATED_DATA_DIR",
)


class AnsibleConfigurator:
    """A :class:`~orchestrator.configure.base.Configurator`; safe to use from several threads.

    ``extra_roles`` are fully qualified names of roles that may be run beside those of our own
    collection, found below ``extra_collections``.  ``mitogen`` False never tries it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        extra_roles: Sequence[str] = (),
        extra_collections: Sequence[Path] = (),
        mitogen: bool = True,
    ) -> None:
        self._directory = settings.data_directory.absolute() / "ansible"
        self._limit_seconds = settings.limits.configure_seconds
        self._mitogen_plugins = _mitogen_plugins() if mitogen else ""
        for name in ("runs", "logs", f"collections/ansible_collections/{NAMESPACE}"):
            (self._directory / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._collections = [self._directory / "collections", *extra_collections]
        roles = self._link_collection()
        self._roles = (*(f"{NAMESPACE}.{COLLECTION}.{role}" for role in roles), *extra_roles)
        self._remove_leftovers()

    @property
    def mitogen_in_use(self) -> bool:
        """Whether the next run tries Mitogen."""
        return bool(self._mitogen_plugins)

    def bootstrap(self, order: PullOrder | None = None) -> UserData:
        keys = (_public_line(self._private_key()),)
        return bundle.user_data(order, keys) if order else UserData(authorized_keys=keys)

    def bundle(self, host: HostToConfigure) -> Bundle:
        run_files.check_calls(host, self._roles)
        return bundle.pack(host, _collection_source())

    def roles_digest(self) -> str:
        return bundle.roles_digest(_collection_source())

    def preparation(self, role: str) -> str | None:
        namespace, collection, name = role.split(".")
        if (namespace, collection) != (NAMESPACE, COLLECTION):
            return None
        tasks = _collection_source() / "roles" / name / "tasks"
        return "prepare" if (tasks / "prepare.yml").is_file() else None

    def key_file(self) -> str:
        return str(self._private_key())

    def put_secret(self, host: HostToConfigure, file: SecretFile) -> None:
        ssh.put(host, file, self._private_key())

    def answers(self, address: str) -> bool:
        return ssh.answers(address)

    def apply(self, hosts: Sequence[HostToConfigure], run: str) -> Iterator[TaskEvent]:
        """See the port.  A host that must not reach Ansible fails by itself; the others go on."""
        accepted = []
        for host in hosts:
            try:
                run_files.check(host, self._roles)
            except Terminal as error:
                yield TaskEvent(host.node, time.time(), "", "check", TaskStatus.FAILED, str(error))
            else:
                accepted.append(host)
        if accepted:
            yield from self._apply(accepted, run)

    def _apply(self, hosts: Sequence[HostToConfigure], run: str) -> Iterator[TaskEvent]:
        plugins = self._mitogen_plugins
        left = list(hosts)
        if plugins:
            left = yield from self._attempt(left, run, plugins)
        if left:
            for event in self._attempt(left, run, ""):
                if self._mitogen_plugins and event.status in (TaskStatus.OK, TaskStatus.CHANGED):
                    # The same hosts take it from Ansible alone: Mitogen it was.
                    log.warning("Mitogen does not work here; Ansible goes on without it")
                    self._mitogen_plugins = ""
                yield event

    def _attempt(
        self, hosts: Sequence[HostToConfigure], run: str, mitogen: str
    ) -> Generator[TaskEvent, None, list[HostToConfigure]]:
        """One run of ansible-runner; with Mitogen, returns the hosts that it could not do."""
        progress = Progress(hosts)
        refused: set[str] = set()
        with self._run_directory(run) as directory, contextlib.ExitStack() as stack:
            control = stack.enter_context(_control_directory(directory))
            settings = RunSettings(
                directory=directory,
                private_key=self._private_key(),
                collections=":".join(map(str, self._collections)),
                control_directory=control,
                strategy="mitogen_free" if mitogen else "ansible.builtin.free",
                strategy_plugins=mitogen,
                forks=min(HOSTS_AT_ONCE, len(hosts)),
            )
            playbook = run_files.write(settings, hosts)
            going = _Run(directory, playbook, self._limit_seconds)
            stack.callback(self._keep_log, directory, run, redactor(hosts))
            stack.callback(going.end)
            for raw in going.events():
                event = progress.take(raw)
                if event is None:
                    continue
                if mitogen and progress.mitogen_fault(event):
                    refused.add(event.node)
                else:
                    yield event
            if mitogen and not progress.any_task_ran and not going.overdue:
                refused.update(progress.left)
            progress.left -= refused
            yield from progress.give_up(going.why(progress.complaint))
        return [host for host in hosts if host.node in refused]

    # --- what stays between runs ----------------------------------------------------------------

    def _private_key(self) -> Path:
        """The key pair of this server, made once."""
        path = self._directory / "id_ed25519"
        if not path.exists():
            _make_key(path)
        return path

    def _link_collection(self) -> list[str]:
        """Make our collection known to Ansible under its name; returns its roles."""
        source = _collection_source()
        link = self._directory / "collections/ansible_collections" / NAMESPACE / COLLECTION
        if not link.is_symlink() or link.readlink() != source:
            with tempfile.TemporaryDirectory(dir=link.parent) as directory:
                fresh = Path(directory) / COLLECTION
                fresh.symlink_to(source)
                fresh.replace(link)
        return sorted(path.parent.name for path in source.glob("roles/*/meta"))

    @contextlib.contextmanager
    def _run_directory(self, run: str) -> Iterator[Path]:
        """A directory of its own for one run, 0700, gone afterwards: it holds secrets.

        It is locked while the run goes on, so that :meth:`_remove_leftovers` of another server
        on the same data directory leaves it alone.
        """
        prefix = re.sub(r"[^A-Za-z0-9_.-]", "_", run)[:80] + "-"
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=self._directory / "runs"))
        try:
            with (path / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        """Remove what runs of a server that was killed left behind."""
        for path in (self._directory / "runs").iterdir():
            with contextlib.suppress(OSError), _opened(path / "lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)

    def _keep_log(self, directory: Path, run: str, redact: Callable[[str], str]) -> None:
        logs = self._directory / "logs"
        output = directory / "artifacts" / "run" / "stdout"
        with contextlib.suppress(OSError):
            text = output.read_text(errors="replace")
            kept = logs / (re.sub(r"[^A-Za-z0-9_.-]", "_", run)[:80] + ".log")
            kept.touch(mode=0o600)
            with kept.open("a") as target:
                target.write(redact(text))
            by_age = sorted(logs.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
            for old in by_age[LOGS_KEPT:]:
                old.unlink(missing_ok=True)


class _Run:
    """One process of Ansible with its supervisor, and the thread of ansible-runner around it."""

    def __init__(self, directory: Path, playbook: Path, limit_seconds: float) -> None:
        self._directory = directory
        self._playbook = playbook
        self._events: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._deadline = time.monotonic() + limit_seconds
        self._limit_seconds = limit_seconds
        self._ending = threading.Event()
        self._fault = ""
        self.overdue = False
        self._thread = threading.Thread(target=self._follow, name="ansible-run", daemon=True)
        self._thread.start()

    def events(self) -> Iterator[Mapping[str, Any]]:
        """The runner's events as they come, until the run has ended or its time is up."""
        while True:
            try:
                wait = max(0.0, self._deadline - time.monotonic())
                event = self._events.get(timeout=wait)
            except queue.Empty:
                self.overdue = True
                return
            if event is None:
                return
            yield event

    def why(self, complaint: str) -> str:
        """Why the run ended before a host did."""
        if self.overdue:
            return f"it was not done after {self._limit_seconds:g} s"
        return self._fault or complaint or "Ansible ended before the host was done"

    def end(self) -> None:
        """End the run and all its processes; returns when they are gone."""
        self._ending.set()
        pid_file = self._directory / "supervisor.pid"
        deadline = time.monotonic() + END_SECONDS
        while self._thread.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(pid_file.read_text()), signal.SIGTERM)
            self._thread.join(POLL_SECONDS)

    def _follow(self) -> None:
        try:
            self._run()
        except Exception as error:
            log.exception("ansible-runner failed")
            self._fault = f"ansible-runner failed: {type(error).__name__}"
        finally:
            self._events.put(None)

    def _run(self) -> None:
        # Imported here: it takes a tenth of a second, and only servers need it.
        from ansible_runner.interface import init_runner

        runner = init_runner(
            private_data_dir=str(self._directory),
            playbook=str(self._playbook),
            inventory=str(self._directory / "inventory.yml"),
            ident="run",
            quiet=True,
            settings={"pexpect_timeout": POLL_SECONDS, "suppress_ansible_output": True},
            event_handler=self._took,
            cancel_callback=self._abandoned,
        )
        runner.config.env = self._environment(runner.config.env)
        runner.config.command = self._command()
        runner.config.cwd = str(self._directory)
        runner.run()

    def _took(self, event: Mapping[str, Any]) -> bool:
        self._events.put(event)
        return False  # nothing is written down: it may hold what must not be shown

    def _abandoned(self) -> bool:
        # The supervisor ends the run; this is for one that never came up.
        return self._ending.is_set() and not (self._directory / "supervisor.pid").exists()

    def _command(self) -> list[str]:
        guard = [sys.executable, "-I", "-S", supervisor.__file__]
        inventory = str(self._directory / "inventory.yml")
        # The package, not the script on PATH: a virtual environment need not be activated.
        ansible = [sys.executable, "-m", "ansible.cli.playbook", "-i", inventory]
        return [*guard, str(self._directory / "supervisor.pid"), *ansible, str(self._playbook)]

    def _environment(self, runners: Mapping[str, str]) -> dict[str, str]:
        own = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        own |= {name: runners[name] for name in RUNNER_ENVIRONMENT if name in runners}
        return own | {
            "ANSIBLE_CONFIG": str(self._directory / "ansible.cfg"),
            # The runner would switch it off where nobody says otherwise.
            "ANSIBLE_HOST_KEY_CHECKING": "True",
            "LC_ALL": "C.UTF-8",
        }


def _make_key(path: Path) -> None:
    """Write a fresh private key, 0600; of several that try at once, one wins and all use it."""
    private = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        fresh = Path(directory) / path.name
        fresh.touch(mode=0o600)
        fresh.write_bytes(private)
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)


def _public_line(path: Path) -> str:
    """The public half of a private key, as ``authorized_keys`` has it."""
    key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return public.decode() + " vacuo"


@contextlib.contextmanager
def _control_directory(run: Path) -> Iterator[Path]:
    """A directory for ssh's sockets: the run's own, unless their names would be too long there."""
    own = run / "c"
    if len(str(own)) + SOCKET_NAME_LENGTH <= LONGEST_SOCKET_PATH:
        own.mkdir(mode=0o700)
        yield own
    else:
        with tempfile.TemporaryDirectory(prefix="vacuo-") as short:
            yield Path(short)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    with path.open("a") as handle:
        yield handle


def _collection_source() -> Path:
    """Our collection: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "_data" / "ansible", package.parent / "ansible"):
        if (candidate / "galaxy.yml").is_file():
            return candidate
    raise Terminal("This installation lacks its Ansible collection; install the package again.")


def _mitogen_plugins() -> str:
    """Where Mitogen's strategies are, or an empty string."""
    found = importlib.util.find_spec("ansible_mitogen")
    if found is None or not found.submodule_search_locations:
        return ""
    return str(Path(found.submodule_search_locations[0]) / "plugins" / "strategy")
