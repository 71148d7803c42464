"""A small view of this machine for processes that work on what others wrote, by bubblewrap.

Such a process sees the system's programs, this Python and what it is given, read-only; it has
process ids, mounts and a ``/tmp`` of its own, no capabilities, and no way to gain any.  Whatever is
not named is not there.  It ends with whoever started it, and its own processes end with it.

Where the server is root the process is nobody's: a number that no account has.  Elsewhere it keeps
the server's number in a namespace of its own, in which that number has no power.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.errors import UserError, VacuoError
from orchestrator.reasons import reason

# systemd's table of user ids leaves 65520 to 65533 unused, and a container has them too.
USER_ID = 65521
ACCOUNT = f"vacuo-run:x:{USER_ID}:{USER_ID}::/tmp:/bin/sh\n"
GROUP = f"vacuo-run:x:{USER_ID}:\n"
SCRATCH = Path("/tmp")  # noqa: S108 - the sandbox's own

PROBE_SECONDS = 30.0
_SYSTEM = Path("/usr")
_LINKED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# What programs need to run, to find hosts by name and to check certificates; no keys, no accounts.
_ETC = (
    "alternatives", "crypto-policies", "gai.conf", "host.conf", "hosts", "ld.so.cache",
    "ld.so.conf", "ld.so.conf.d", "localtime", "nsswitch.conf", "pki/ca-trust", "pki/tls/certs",
    "pki/tls/cert.pem", "pki/tls/openssl.cnf", "protocols", "resolv.conf", "services", "ssl/certs",
    "ssl/openssl.cnf",
)  # fmt: skip
_SEPARATE = (
    "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try", "--new-session",
    "--die-with-parent",
)  # fmt: skip
_DROP = (
    "setpriv", f"--reuid={USER_ID}", f"--regid={USER_ID}", "--clear-groups", "--inh-caps=-all",
    "--bounding-set=-all", "--no-new-privs", "--",
)  # fmt: skip
_NAMESPACE = ("--unshare-user", "--uid", str(USER_ID), "--gid", str(USER_ID))
# Root's number may write there, whatever its namespace; bubblewrap covers less than this.
_COVERED = tuple(
    word
    for name in ("acpi", "bus", "fs", "irq", "scsi", "sys", "sysrq-trigger")
    for word in ("--ro-bind-try", f"/proc/{name}", f"/proc/{name}")
)
_PROBE = """
import importlib, os, sys
importlib.import_module(sys.argv[1])
for path in sys.argv[2:]:
    if not os.access(path, os.R_OK):
        sys.exit(f"it cannot read {path}")
"""


class Unavailable(VacuoError):
    """There can be no sandbox on this machine, and why."""


@dataclass(frozen=True)
class View:
    """What of this machine is seen inside besides the system and Python.

    ``readable`` has the paths inside, and what is seen there.  ``writable`` are directories at
    their own paths.  What is ``hidden`` is empty even where something readable holds it.
    """

    readable: Mapping[Path, Path] = field(default_factory=dict)
    writable: Sequence[Path] = ()
    hidden: Sequence[Path] = ()
    network: bool = False


@dataclass(frozen=True)
class Sandbox:
    """A way of using bubblewrap that works on this machine; made by :func:`find`."""

    program: str
    privileges: tuple[str, ...]
    prefix: tuple[str, ...] = ()

    @property
    def other_user(self) -> bool:
        """Whether processes inside have a number that is not the server's."""
        return bool(self.prefix)

    def command(self, view: View, command: Sequence[str], directory: Path = SCRATCH) -> list[str]:
        """``command`` in the sandbox, begun in ``directory``."""
        network = () if view.network else ("--unshare-net",)
        return [
            *(self.program, *_SEPARATE, *network, *self.privileges),
            *_system(),
            *(() if self.other_user else _COVERED),
            *_mounts(view),
            *("--remount-ro", "/", "--chdir", str(directory), "--"),
            *self.prefix,
            *command,
        ]

    def entrust(self, directory: Path, writable: Sequence[Path] = ()) -> None:
        """Let processes inside read all that is in ``directory`` now, and write ``writable``."""
        if not self.other_user:
            return
        for path in (directory, *directory.rglob("*")):
            os.chown(path, -1, USER_ID, follow_symlinks=False)
            path.chmod(0o750 if path.is_dir() else 0o640)
        for path in writable:
            os.chown(path, USER_ID, USER_ID, follow_symlinks=False)


def choose(policy: str, view: View, module: str) -> tuple[Sandbox | None, str]:
    """What :func:`find` finds, as the setting ``sandbox`` is; or None, and why there is none.

    Raises :class:`UserError` where one is required and cannot be had.
    """
    if policy == "off":
        return None, "it is switched off in the configuration"
    try:
        return find(view, module), ""
    except Unavailable as error:
        if policy != "required":
            return None, str(error)
        found = reason("no-sandbox", why=str(error))
        raise UserError(
            "The sandbox that the configuration requires cannot be had.",
            found.sentence,
            found.next_command,
            code=found.code,
        ) from None


def find(view: View, module: str) -> Sandbox:
    """The strictest sandbox that works here: a Python in it can import ``module`` and read what
    ``view`` has.  Raises :class:`Unavailable`."""
    program = shutil.which("bwrap")
    if program is None:
        raise Unavailable("there is no program bwrap")
    why = ""
    for sandbox in _ways(program):
        probe = [sys.executable, "-c", _PROBE, module, *map(str, view.readable)]
        why = _trouble(sandbox.command(view, probe))
        if not why:
            return sandbox
    raise Unavailable(why)


def _ways(program: str) -> Iterator[Sandbox]:
    """Ways to use bubblewrap, the strictest first."""
    namespaces_end_here = (*_NAMESPACE, "--disable-userns")  # bubblewrap 0.8
    if os.geteuid() == 0:
        kept = ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP")
        dropped = ("--cap-drop", "ALL", *kept)
        again = (program, *namespaces_end_here, "--dev-bind", "/", "/", "--")
        yield Sandbox(program, dropped, (*_DROP, *again))
        yield Sandbox(program, dropped, _DROP)
    yield Sandbox(program, (*namespaces_end_here, "--cap-drop", "ALL"))
    yield Sandbox(program, (*_NAMESPACE, "--cap-drop", "ALL"))


def _trouble(command: Sequence[str]) -> str:
    """Why ``command`` does not work, or nothing."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            env={**environment, "LC_ALL": "C.UTF-8"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    if done.returncode == 0:
        return ""
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return said[-1][:300] if said else f"it ended with status {done.returncode}"


# --- what is seen ---------------------------------------------------------------------------------


def _system() -> list[str]:
    arguments = ["--ro-bind", str(_SYSTEM), str(_SYSTEM)]
    for name in _LINKED:
        path = Path("/", name)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), str(path)]
        else:
            arguments += ["--ro-bind-try", str(path), str(path)]
    arguments += _directory(Path("/etc"))
    for name in _ETC:
        arguments += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    for scratch in ("/dev/shm", str(SCRATCH)):  # noqa: S108 - the sandbox's own
        arguments += ["--perms", "1777", "--tmpfs", scratch]
    return arguments


def _mounts(view: View) -> list[str]:
    """Parents first: what is mounted later covers what is there."""
    mounts = {path: ["--ro-bind", str(path), str(path)] for path in _python()}
    shown = (_SYSTEM, *mounts, *view.readable)
    for path in map(Path.absolute, view.hidden):
        if path.exists() and any(path.is_relative_to(one) for one in shown):
            mounts[path] = (
                ["--tmpfs", str(path)] if path.is_dir() else ["--ro-bind", os.devnull, str(path)]
            )
    mounts |= {path: ["--ro-bind", str(of), str(path)] for path, of in view.readable.items()}
    mounts |= {path: ["--bind", str(path), str(path)] for path in view.writable}
    for path in [parent for mount in mounts for parent in mount.parents[:-1]]:
        mounts.setdefault(path, _directory(path))
    return [word for path in sorted(mounts, key=lambda p: len(p.parts)) for word in mounts[path]]


def _directory(path: Path) -> list[str]:
    return ["--perms", "0755", "--dir", str(path)]


def _python() -> set[Path]:
    """Where this Python and its packages are, as far as the system does not have them."""
    packages = (path for path in sys.path if path.endswith(("site-packages", "dist-packages")))
    found = {*map(Path, (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix))}
    found |= {*map(Path, packages)}
    found |= {Path(site.getusersitepackages())} if site.ENABLE_USER_SITE else set()
    return {
        path.absolute()
        for path in found
        if path.is_dir() and path.parent != path and not path.absolute().is_relative_to(_SYSTEM)
    }
