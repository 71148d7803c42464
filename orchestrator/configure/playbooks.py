"""Foreign playbooks and Galaxy roles that an administrator has pinned, and how hosts get them.

A pin is a source as templates write it, a file of this machine and the file's SHA-256.  The files
go to the host as text, among the variables of the role ``vacuo.site.playbook``, and run there:
nothing of them is evaluated on this machine.  What a template says can only choose among pins.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from orchestrator.configure.base import (
    Bundle,
    Configurator,
    Confinement,
    HostToConfigure,
    PullOrder,
    RoleCall,
    SecretFile,
    TaskEvent,
)
from orchestrator.errors import Terminal
from orchestrator.model import UserData
from orchestrator.settings import ForeignPlaybook

log = logging.getLogger(__name__)

ROLE = "vacuo.site.playbook"
FILE_BYTES = 4_000_000
ROLE_FILES = 1000
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_ROLE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# What of a role Ansible reads; the rest of an archive (tests, documents, .travis.yml) stays here.
_ROLE_PARTS = ("defaults", "files", "handlers", "library", "meta", "tasks", "templates", "vars")


def pins(configured: Sequence[ForeignPlaybook]) -> dict[str, str]:
    """Source to SHA-256 of every pin whose file is there and unchanged; others are logged."""
    found = {}
    for one in configured:
        try:
            _content(one)
        except Terminal as error:
            log.warning("a pinned playbook cannot be used", extra={"why": str(error)})
        else:
            found[one.source] = one.sha256
    return found


class WithPlaybooks:
    """A :class:`~orchestrator.configure.base.Configurator` whose hosts are given the pinned files
    that their calls of :data:`ROLE` name; all else is done by ``inner``."""

    def __init__(self, inner: Configurator, configured: Sequence[ForeignPlaybook]) -> None:
        self._inner = inner
        self._pinned = {one.source: one for one in configured}

    def bootstrap(self, order: PullOrder | None = None) -> UserData:
        return self._inner.bootstrap(order)

    def bundle(self, host: HostToConfigure) -> Bundle:
        return self._inner.bundle(self.completed(host))

    def roles_digest(self) -> str:
        return self._inner.roles_digest()

    def preparation(self, role: str) -> str | None:
        return self._inner.preparation(role)

    def confinement(self) -> Confinement | None:
        return self._inner.confinement()

    def put_secret(self, host: HostToConfigure, file: SecretFile) -> None:
        self._inner.put_secret(host, file)

    def key_file(self) -> str:
        return self._inner.key_file()

    def answers(self, address: str) -> bool:
        return self._inner.answers(address)

    def apply(self, hosts: Sequence[HostToConfigure], run: str) -> Iterator[TaskEvent]:
        return self._inner.apply([self._or_without(host) for host in hosts], run)

    def completed(self, host: HostToConfigure) -> HostToConfigure:
        """``host`` with the files of its playbooks; raises :class:`Terminal` for one that is not
        pinned, or is not what was pinned."""
        calls = tuple(self._call(call) if call.role == ROLE else call for call in host.roles)
        return dataclasses.replace(host, roles=calls)

    def _or_without(self, host: HostToConfigure) -> HostToConfigure:
        """In a run of many, a host that lacks a playbook must not keep the others waiting: the
        role refuses a step without its file."""
        try:
            return self.completed(host)
        except Terminal as error:
            log.warning("a host lacks its playbooks", extra={"node": host.node, "why": str(error)})
            calls = (_emptied(call) if call.role == ROLE else call for call in host.roles)
            return dataclasses.replace(host, roles=tuple(calls))

    def _call(self, call: RoleCall) -> RoleCall:
        steps = call.variables.get("playbook_steps") or []
        roles = call.variables.get("playbook_roles") or []
        files = [
            {"path": f"steps/{number}.yml", "content": self._text(str(step.get("source")))}
            for number, step in enumerate(steps)
        ]
        for source in roles:
            files += self._role_files(str(source))
        return dataclasses.replace(call, variables={**call.variables, "playbook_files": files})

    def _pin(self, source: str) -> ForeignPlaybook:
        if source not in self._pinned:
            raise Terminal(f"The playbook {source[:200]} is not one that this server may run.")
        return self._pinned[source]

    def _text(self, source: str) -> str:
        return _decoded(_content(self._pin(source)), source)

    def _role_files(self, source: str) -> list[dict[str, str]]:
        name = source.partition(",")[0]
        if not _ROLE_NAME.fullmatch(name):
            raise Terminal(f"{source[:200]} is not the name of a role.")
        files = role_files(_content(self._pin(source)), source)
        return [
            {"path": f"roles/{name}/{path}", "content": text}
            for path, text in sorted(files.items())
        ]


def role_files(archive: bytes, source: str) -> dict[str, str]:
    """The files of a Galaxy role's tar.gz, by path below the role; raises :class:`Terminal`."""
    found: dict[str, str] = {}
    left = FILE_BYTES
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            members = [member for member in tar if member.isfile()]
            root = _root_of([member.name for member in members])
            for member in members:
                path = member.name.removeprefix("./").removeprefix(root)
                if path.partition("/")[0] not in _ROLE_PARTS:
                    continue
                left -= member.size
                if left < 0 or len(found) >= ROLE_FILES:
                    raise Terminal(f"The role {source[:200]} is too large to be sent to hosts.")
                if not _PATH.fullmatch(path):
                    raise Terminal(f"The role {source[:200]} has a file whose name is not plain.")
                handle = tar.extractfile(member)
                found[path] = _decoded(handle.read() if handle else b"", source)
    except (tarfile.TarError, OSError, EOFError):
        raise Terminal(f"The file of the role {source[:200]} is not a tar.gz archive.") from None
    if not any(path.startswith("tasks/main.") for path in found):
        raise Terminal(f"The archive of {source[:200]} holds no role: it has no tasks/main.yml.")
    return found


def _root_of(names: Sequence[str]) -> str:
    """The directory in which an archive has its role, as GitHub and Galaxy make them."""
    for name in sorted(names, key=len):
        path = PurePosixPath(name.removeprefix("./"))
        if path.parts[-2:-1] == ("tasks",) and path.stem == "main":
            return "".join(f"{part}/" for part in path.parts[:-2])
    return ""


def _content(pin: ForeignPlaybook) -> bytes:
    try:
        with pin.file.open("rb") as file:
            content = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise Terminal(f"{pin.file} of {pin.source}: {error.strerror or 'unreadable'}.") from None
    if len(content) > FILE_BYTES:
        raise Terminal(f"{pin.file} of {pin.source} has more than {FILE_BYTES} bytes.")
    if hashlib.sha256(content).hexdigest() != pin.sha256:
        raise Terminal(f"{pin.file} is not what was pinned for {pin.source}: its SHA-256 differs.")
    return content


def _decoded(content: bytes, source: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Terminal(f"{source[:200]} has a file that is not text in UTF-8.") from None


def _emptied(call: RoleCall) -> RoleCall:
    variables: Mapping[str, Any] = {**call.variables, "playbook_files": []}
    return dataclasses.replace(call, variables=variables)
