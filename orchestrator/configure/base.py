"""The port to configuration: from a host that boots to a host that serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from orchestrator.model import NodeName, UserData


@dataclass(frozen=True)
class RoleCall:
    """One role on one host.  ``variables`` are plain values, all late ones resolved; those named
    in ``secret`` must never be shown.  Only an image build calls another ``entry`` than main."""

    role: str
    service: str
    variables: Mapping[str, Any] = field(repr=False)
    secret: frozenset[str] = frozenset()
    entry: str = "main"  # the role's tasks file


@dataclass(frozen=True)
class HostToConfigure:
    """One host, how to reach it with certainty who answers, and what to make of it."""

    node: NodeName
    address: str
    host_keys: tuple[str, ...]
    roles: tuple[RoleCall, ...]


@dataclass(frozen=True)
class SecretFile:
    """A file of a host, for its root alone, by its absolute path."""

    path: str
    content: str = field(repr=False)


class TaskStatus(StrEnum):
    OK = "ok"
    CHANGED = "changed"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    DISTRUSTED = "distrusted"  # it showed another ssh key than the one we know; it got nothing
    FINISHED = "finished"  # the last event of a host that went through without failure

    @property
    def failed(self) -> bool:
        """Whether the host's run went wrong with this event."""
        return self in (TaskStatus.FAILED, TaskStatus.UNREACHABLE, TaskStatus.DISTRUSTED)

    @property
    def ends(self) -> bool:
        """Whether no event of the host comes after it."""
        return self.failed or self is TaskStatus.FINISHED


@dataclass(frozen=True)
class TaskEvent:
    """One task on one host, as it ends; ``message`` is safe to show."""

    node: NodeName
    at: float
    role: str
    task: str
    status: TaskStatus
    message: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class PullOrder:
    """Where a host that configures itself asks for its bundle, and what it shows once."""

    url: str
    credential: str = field(repr=False)


@dataclass(frozen=True)
class Bundle:
    """All that a host needs to configure itself, secrets too, as a tar.gz; and its SHA-256."""

    archive: bytes = field(repr=False)
    sha256: str


@dataclass(frozen=True)
class Confinement:
    """Whether what runs on this machine for hosts is kept from the rest of it, and how, or why
    not."""

    confined: bool
    detail: str


class Configurator(Protocol):
    """Two ways lead to the same host: :meth:`apply` reaches it over ssh, and a host that was
    created with the files of :meth:`bootstrap` for a :class:`PullOrder` fetches its
    :meth:`bundle` and applies it by itself."""

    def bootstrap(self, order: PullOrder | None = None) -> UserData:
        """What a host must be given at its creation: so that :meth:`apply` can reach it, or with
        an ``order`` so that it configures itself."""
        ...

    def bundle(self, host: HostToConfigure) -> Bundle:
        """What ``host`` needs to do by itself what :meth:`apply` would do.

        Raises :class:`~orchestrator.errors.Terminal` for what must not reach Ansible.
        """
        ...

    def roles_digest(self) -> str:
        """Stands for the content of all roles: the same digest, the same roles."""
        ...

    def preparation(self, role: str) -> str | None:
        """The tasks file of ``role`` that an image build runs; None where nothing of it can be
        done beforehand."""
        ...

    def key_file(self) -> str:
        """The private ssh key that :meth:`bootstrap` lets in, as a path on this machine."""
        ...

    def confinement(self) -> Confinement | None:
        """How runs are kept from the rest of this machine; None where nothing runs on it."""
        ...

    def put_secret(self, host: HostToConfigure, file: SecretFile) -> None:
        """Replace a file on a host that is configured, whole or not at all, without a run.

        Raises :class:`~orchestrator.errors.Retryable` where the host cannot be reached or does not
        take it, :class:`~orchestrator.errors.Terminal` for what must not be sent.
        """
        ...

    def answers(self, address: str) -> bool:
        """Whether the host at ``address`` can be configured now; at most a second."""
        ...

    def apply(self, hosts: Sequence[HostToConfigure], run: str) -> Iterator[TaskEvent]:
        """Configure all hosts in one run; events arrive as tasks end.

        Every host gets exactly one last event: FINISHED, FAILED, UNREACHABLE or DISTRUSTED.
        ``run`` names the run in logs and artifacts.  Closing the iterator ends the run.
        """
        ...
