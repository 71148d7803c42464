"""Whose deployments: what a list shows, what is counted together, and how much that may be.

Groups of users are paths such as ``/cms/uscms`` and belong to the issuer that tells of them: the
same path of two issuers is two groups.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from orchestrator.errors import LimitExceeded
from orchestrator.model.identifiers import Principal
from orchestrator.model.wished import DeploymentSpec


@dataclass(frozen=True)
class Sight:
    """Whose deployments somebody sees: all, or those of ``owner`` and those that somebody of the
    same issuer shares with one of ``groups`` (each one named, those above and below too)."""

    owner: Principal
    groups: frozenset[str] = frozenset()
    everything: bool = False


@dataclass(frozen=True)
class Account:
    """The deployments that are counted together: those of ``owner``; or, where ``group`` is given,
    those that people of its issuer share with that group or one below it."""

    issuer: str
    subject: str | None = None
    group: str | None = None

    def __str__(self) -> str:
        return self.group or f"{self.subject}@{self.issuer}"


@dataclass(frozen=True)
class Use:
    """What deployments may grow to: the maxima of their groups of hosts, all together."""

    deployments: int = 0
    nodes: int = 0
    cores: int = 0

    def __add__(self, other: Use) -> Use:
        return Use(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Use)))

    @staticmethod
    def of(spec: DeploymentSpec) -> Use:
        """What one deployment may grow to."""
        nodes = sum(group.maximum for group in spec.groups)
        cores = sum(group.maximum * group.requirements.cores for group in spec.groups)
        return Use(1, nodes, cores)


@dataclass(frozen=True)
class Allowance:
    """How much the deployments of ``account`` may be together; None is no limit."""

    account: Account
    deployments: int | None = None
    nodes: int | None = None
    cores: int | None = None

    def check(self, others: Use, before: Use, asked: Use) -> None:
        """Raise :class:`LimitExceeded` if a deployment may not become ``asked``, from ``before``,
        beside the ``others`` of the account.

        What does not grow is let be: a limit that was lowered keeps nobody from using less.
        """
        for field in fields(Use):
            limit: int | None = getattr(self, field.name)
            used, was, wanted = (getattr(use, field.name) for use in (others, before, asked))
            if limit is not None and wanted > was and used + wanted > limit:
                raise LimitExceeded(
                    field.name, used=used, asked=wanted, limit=limit, of=str(self.account)
                )
