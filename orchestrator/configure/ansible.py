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
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import IO

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.configure import bundle, cell, run_files, ssh
from orchestrator.configure.ansible_run import IDENT, AnsibleRun
from orchestrator.configure.base import (
    Bundle,
    Confinement,
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


class AnsibleConfigurator:
    """A :class:`~orchestrator.configure.base.Configurator`; safe to use from several threads.

    ``extra_roles`` are fully qualified names of roles that may be run beside those of our own
    collection, found below ``extra_collections``.  What is ``hidden`` no run sees, as
    what belongs to the server by ``settings``.  ``mitogen`` False never tries it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        extra_roles: Sequence[str] = (),
        extra_collections: Sequence[Path] = (),
        hidden: Sequence[Path] = (),
        mitogen: bool = True,
    ) -> None:
        self._directory = settings.data_directory.resolve() / "ansible"
        self._limit_seconds = settings.limits.configure_seconds
        self._mitogen_plugins = _mitogen_plugins() if mitogen else ""
        for name in ("runs", "logs", f"collections/ansible_collections/{NAMESPACE}"):
            (self._directory / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._collections = [self._directory / "collections", *extra_collections]
        roles = self._link_collection()
        self._roles = (*(f"{NAMESPACE}.{COLLECTION}.{role}" for role in roles), *extra_roles)
        known = {self._link: _collection_source()} | {path: path for path in extra_collections}
        self._cell = cell.make(settings, known, hidden)
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

    def confinement(self) -> Confinement | None:
        if self._cell.sandbox is None:
            return Confinement(False, self._cell.why_open)
        user = "as nobody's user" if self._cell.sandbox.other_user else "as the server's user"
        return Confinement(True, f"Ansible runs in a sandbox, {user}.")

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
            scratch = stack.enter_context(self._cell.scratch(directory))
            settings = RunSettings(
                directory=directory,
                private_key=_copied_key(self._private_key(), directory),
                collections=":".join(map(str, self._collections)),
                scratch=scratch,
                strategy="mitogen_free" if mitogen else "ansible.builtin.free",
                strategy_plugins=mitogen,
                forks=min(HOSTS_AT_ONCE, len(hosts)),
            )
            playbook = run_files.write(settings, hosts)
            going = AnsibleRun(directory, playbook, self._cell, self._limit_seconds)
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

    @property
    def _link(self) -> Path:
        """Our collection, under the name by which Ansible finds it."""
        return self._directory / "collections/ansible_collections" / NAMESPACE / COLLECTION

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
        link = self._link
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
        output = directory / "artifacts" / IDENT / "stdout"
        with contextlib.suppress(OSError):
            text = output.read_text(errors="replace")
            kept = logs / (re.sub(r"[^A-Za-z0-9_.-]", "_", run)[:80] + ".log")
            kept.touch(mode=0o600)
            with kept.open("a") as target:
                target.write(redact(text))
            by_age = sorted(logs.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
            for old in by_age[LOGS_KEPT:]:
                old.unlink(missing_ok=True)


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


def _copied_key(path: Path, directory: Path) -> Path:
    """The run's own copy: it may not see where the key is kept."""
    copy = directory / path.name
    copy.touch(mode=0o600)
    copy.write_bytes(path.read_bytes())
    return copy


def _public_line(path: Path) -> str:
    """The public half of a private key, as ``authorized_keys`` has it."""
    key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return public.decode() + " vacuo"


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
