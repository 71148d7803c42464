"""The port to a batch pool: demand, machines, credentials to join, drain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.model import (
    Demand,
    DeploymentId,
    JobId,
    Machine,
    NodeName,
    Requirements,
    TokenWanted,
)
from orchestrator.reasons import Reason

# Where the role htcondor_execute puts it; the startd looks there each time it has to show it.
TOKEN_FILE = "/etc/vacuo/htcondor_execute/secrets/tokens.d/vacuo"  # noqa: S105 - a path


@dataclass(frozen=True)
class JoinCredential:
    """What lets one node join: an IDTOKEN (HTCondor manual, "Introduction to IDTOKENS").

    ``drain_key`` is the base64 of a signing-key file of this node alone.  A startd that has it in
    its own ``SEC_PASSWORD_DIRECTORY``, named like the node, and that allows ``administrator`` of
    :meth:`BatchPool.join_attributes`, can be drained; empty where draining needs no key.
    """

    token: str = field(repr=False)
    identity: str
    expires_at: float
    drain_key: str = field(default="", repr=False)
    file: str = ""  # where a host has the token, so that it can be renewed there


class BatchPool(Protocol):
    """A pool of machines and its queues.  Unreachable raises
    :class:`orchestrator.errors.Retryable`; it is never an empty answer."""

    def demand(
        self,
        need: Requirements,
        advertised: Mapping[str, str | int | float | bool],
        start: str = "",
        sites: Sequence[str] = (),
    ) -> Demand:
        """The idle jobs that would match a machine with ``need`` that says ``advertised`` and lets
        only those start that satisfy the ClassAd expression ``start``; at whichever of ``sites``
        it comes up.  Its owners and the sites that jobs want count as they do for the startd."""
        ...

    def machines(self) -> Sequence[Machine]:
        """The machines that carry the name of a node of ours, their slots added up."""
        ...

    def token_wanted(self) -> TokenWanted | None:
        """The access token of the deployment's owner with which its nodes join; None where that
        is not how they join."""
        ...

    def join_credential(
        self, deployment: DeploymentId, node: NodeName, token: str = ""
    ) -> JoinCredential:
        """A fresh credential for one node: from the deployment's own signing key, or made of the
        ``token`` that is wanted."""
        ...

    def credential_seconds(self) -> float:
        """How long a credential is good; 0 where it need not be renewed."""
        ...

    def join_attributes(self) -> Mapping[str, str]:
        """What a node must know to join: ``collector``, ``trust_domain``, …; TOSCA attributes of
        every service that joins the pool."""
        ...

    def revoke(self, deployment: DeploymentId) -> None:
        """Make every credential of the deployment worthless; nothing there is a success."""
        ...

    def drain(self, deployment: DeploymentId, node: NodeName) -> None:
        """Let the node's jobs finish and take no new ones; a node that is not there is a
        success."""
        ...

    def reschedule(self) -> None:
        """Ask the schedds to look for matches now."""
        ...

    def why_idle(self, job: JobId) -> Sequence[Reason]:
        """Why a job waits, as the pool tells it."""
        ...
