"""What the API asks of the control side: submit, change, delete, preview, explain.

Nothing here decides who may do what: that is the API's, with ``identity.policy``.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.control import assembly, callbacks, joining
from orchestrator.control.concealing import Scalar, conceal, sealable
from orchestrator.control.configuration import place_of
from orchestrator.control.explain import (
    Explanation,
    GroupState,
    explain_deployment,
    explain_job,
    explain_node,
)
from orchestrator.control.foresight import foresee
from orchestrator.control.health import Health
from orchestrator.control.loop import Loop
from orchestrator.control.observe import Observer
from orchestrator.control.ports import Ports
from orchestrator.control.preview import make_preview
from orchestrator.control.previewed import Preview
from orchestrator.control.pulling import Pulling
from orchestrator.control.updating import UPDATABLE, impossible
from orchestrator.control.values import secrets_in
from orchestrator.errors import Conflict, NotFound, PortError
from orchestrator.identity.delegation import Delegation
from orchestrator.identity.secrets import SecretStore, fingerprint
from orchestrator.model import (
    Allowance,
    Deployment,
    DeploymentId,
    DeploymentSpec,
    DeploymentStatus,
    Event,
    GroupName,
    JobId,
    Node,
    NodeName,
    NodeState,
    Patience,
    Principal,
    Secret,
    SecretPlace,
)
from orchestrator.reasons import Reason, reason
from orchestrator.settings import Settings
from orchestrator.store.repository import Repository
from orchestrator.tosca.sandbox import Compiler


@dataclass(frozen=True)
class Submission:
    """A template and its parameters, as a person sent them."""

    template: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    callback: str | None = None
    user_group: str | None = None
    idempotency_key: str | None = None
    correlation: str = ""

    @property
    def fingerprint(self) -> str:
        """The same for the same wish: what an idempotency key stands for."""
        content = [self.template, self.parameters, self.callback, self.user_group]
        # What is stored must not help in guessing a secret: this one is slow to make.
        return fingerprint(
            SecretPlace("", "submission"), json.dumps(content, sort_keys=True).encode()
        )


@dataclass(frozen=True)
class SshTarget:
    """How to reach a node: ``key_file`` is a path on the server's machine."""

    user: str
    address: str
    host_keys: tuple[str, ...]
    key_file: str


class Orchestrator:
    """The control side of one server."""

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        ports: Ports,
        compiler: Compiler,
        loop: Loop,
        observer: Observer,
        wake: Callable[[DeploymentId], None],
        engine_alive: Callable[[], bool],
        clock: Callable[[], float] = time.time,
        *,
        pulling: Pulling,
        secrets: SecretStore | None = None,
    ) -> None:
        self.secrets = secrets or assembly.secret_store(settings, repository)
        self.settings = settings
        self.pulling = pulling
        self.repository = repository
        self._ports = ports
        self._compiler = compiler
        self._loop = loop
        self._observer = observer
        self._wake = wake
        self.health = Health(settings, repository, ports, engine_alive)
        self._clock = clock

    # --- wishes --------------------------------------------------------------------------------

    def validate(self, submission: Submission) -> DeploymentSpec:
        """The compiled template; raises :class:`orchestrator.tosca.problems.TemplateInvalid`."""
        return self._compiler.compile(submission.template, submission.parameters)

    def submit(
        self, owner: Principal, submission: Submission, allowances: Sequence[Allowance] = ()
    ) -> Deployment:
        """A new deployment, or the one that the idempotency key already made;
        :class:`orchestrator.errors.LimitExceeded` where it does not fit into ``allowances``."""
        now = self._clock()
        wished = replace(self._wished(owner, submission, now), id=DeploymentId(str(uuid.uuid4())))
        deployment = self._sealed(wished, now)
        event = Event.audit(
            now, owner, "created", deployment.id, correlation=submission.correlation
        )
        stored = self.repository.create(
            deployment,
            idempotency_key=submission.idempotency_key,
            fingerprint=submission.fingerprint,
            events=[event],
            allowances=allowances,
        )
        if stored.id != deployment.id:
            self._forget_secrets(deployment)
        self._wake(stored.id)
        return stored

    def _concealed(self, wished: Deployment) -> tuple[Deployment, Mapping[Secret, Scalar]]:
        """The wish without its secret parameters, and those."""

        def mark(name: str, text: str) -> str:
            place = SecretPlace.of(wished.owner, f"parameter {name}", wished.id)
            return fingerprint(place, text.encode())

        found = conceal(wished.spec, wished.parameters, mark)
        return replace(wished, spec=found.spec, parameters=found.parameters), found.secrets

    def _sealed(self, wished: Deployment, now: float) -> Deployment:
        """The wish as it is stored: its secrets are sealed before it is."""
        concealed, found = self._concealed(wished)
        for secret, content in found.items():
            text = sealable(content)
            self.secrets.put(place_of(wished, secret), text.encode(), "parameter", now)
        return concealed

    def _forget_secrets(self, deployment: Deployment) -> None:
        for secret in secrets_in(deployment.parameters):
            self.secrets.delete(place_of(deployment, secret))

    def _wished(self, owner: Principal, submission: Submission, now: float) -> Deployment:
        callbacks.refuse(self.settings.callbacks, submission.callback)
        return Deployment(
            id=DeploymentId("preview"),
            owner=owner,
            template=submission.template,
            parameters=submission.parameters,
            spec=self.validate(submission),
            status=DeploymentStatus.CREATE_IN_PROGRESS,
            created_at=now,
            updated_at=now,
            callback=submission.callback,
            user_group=submission.user_group,
        )

    def update(
        self,
        id: DeploymentId,
        submission: Submission,
        actor: str,
        generation: int | None = None,
        allowances: Sequence[Allowance] = (),
    ) -> Deployment:
        """A changed wish; the loop works towards it from wherever it is.

        :class:`orchestrator.errors.Conflict` while the deployment is being deleted, or where the
        wish could never come true; :class:`orchestrator.errors.ChangedMeanwhile` where
        ``generation`` is given and is not that of the wish as it stands;
        :class:`orchestrator.errors.LimitExceeded` where it does not fit into ``allowances``.
        """
        callbacks.refuse(self.settings.callbacks, submission.callback)
        current = self.repository.deployment(id)
        now = self._clock()
        plain = replace(current, spec=self.validate(submission), parameters=submission.parameters)
        wished, _ = self._concealed(plain)
        if not current.deleting:
            self._refuse_impossible(current, wished.spec)
        self._sealed(plain, now)
        changed = self.repository.change(
            id,
            only_if=UPDATABLE,
            if_generation=generation,
            allowances=allowances,
            template=submission.template,
            parameters=wished.parameters,
            spec=wished.spec,
            status=DeploymentStatus.UPDATE_IN_PROGRESS,
            status_reason=None,
            callback=submission.callback or current.callback,
            user_group=submission.user_group or current.user_group,
            updated_at=now,
            events=[Event.audit(now, actor, "updated", id, correlation=submission.correlation)],
        )
        self._wake(id)
        return changed

    def _refuse_impossible(self, current: Deployment, spec: DeploymentSpec) -> None:
        preview = self._preview(
            current.spec, replace(current, spec=spec), self.repository.nodes(current.id)
        )
        why = impossible(current.spec, spec, preview, self._ports.pools, self._ports.providers)
        if why:
            raise Conflict(
                "The deployment is left as it is: the template asks for what cannot be.",
                why,
                f"see what is there: vacuo plan TEMPLATE --update {current.id}",
            )

    def delete(self, id: DeploymentId, *, forced: bool, actor: str, correlation: str) -> Deployment:
        """Begin the deletion; ``forced`` does not wait for running jobs."""
        current = self.repository.deployment(id)
        if current.status is DeploymentStatus.DELETE_COMPLETE:
            raise NotFound(f"Deployment {id} is deleted already.")
        if current.deleting and (current.forced or not forced):
            raise Conflict(
                "The deployment is being deleted already.",
                attempt=f"follow it: vacuo status {id} --watch",
            )
        now = self._clock()
        word = "deletion asked for, by force" if forced else "deletion asked for"
        changed = self.repository.change(
            id,
            status=DeploymentStatus.DELETE_IN_PROGRESS,
            status_reason=None,
            forced=forced,
            updated_at=now,
            events=[Event.audit(now, actor, word, id, correlation=correlation)],
        )
        self._wake(id)
        return changed

    @property
    def delegation(self) -> Delegation | None:
        """The logins that the server keeps of people."""
        return self._ports.delegation

    def get_login(self, deployment: Deployment, bearer: str) -> None:
        """See to it that the deployment can act for its owner, whose access token is ``bearer``."""
        if joining.get_login(self._ports, deployment, bearer):
            self._wake(deployment.id)

    def drain(self, id: DeploymentId, name: NodeName, *, actor: str, correlation: str) -> Node:
        """Ask a node to leave when its jobs have ended; another takes its place where its group
        needs one.  To ask again changes nothing."""
        node = self._node(id, name)
        if node.state is NodeState.GONE:
            raise Conflict(f"Node {name} is gone already.", attempt=f"vacuo show {id}")
        now = self._clock()
        event = Event.audit(now, actor, "asked to leave", id, correlation=correlation)
        event = replace(event, node=name)
        if self.repository.drains.ask(id, name, actor, now, [event]):
            self._wake(id)
        return node

    # --- looking -------------------------------------------------------------------------------

    def preview(self, submission: Submission) -> Preview:
        """What a deployment of this submission would do first."""
        owner = Principal("preview", "preview")
        return self._preview(None, self._wished(owner, submission, self._clock()), ())

    def preview_of(self, id: DeploymentId, submission: Submission | None = None) -> Preview:
        """What the next pass would do, or what an update with ``submission`` would."""
        current = self.repository.deployment(id)
        wished = current
        if submission:
            spec = self.validate(submission)
            wished, _ = self._concealed(
                replace(current, spec=spec, parameters=submission.parameters)
            )
        return self._preview(current.spec, wished, self.repository.nodes(id))

    def _preview(
        self, before: DeploymentSpec | None, wished: Deployment, nodes: tuple[Node, ...]
    ) -> Preview:
        now = self._clock()
        seen = self._observer.observe(wished, nodes, now, everything=True)
        if before is None:
            # A login is got when the deployment is made, if not before.
            seen = replace(seen, unjoinable={})
        foresight = foresee(wished, nodes, seen, now, patience(self.settings))
        return make_preview(before, wished, nodes, seen, foresight)

    def group_states(self, id: DeploymentId) -> Mapping[GroupName, GroupState]:
        """What the last pass of this server saw; empty before there was one."""
        return self._loop.states.get(id, {})

    def explain(self, id: DeploymentId, subject: str | None = None) -> Explanation:
        """Why the deployment, one of its nodes, or a job in one of its pools is as it is."""
        deployment = self.repository.deployment(id)
        nodes = self.repository.nodes(id, include_gone=True)
        if subject is None or subject == id:
            return explain_deployment(deployment, nodes, self.group_states(id))
        node = next((node for node in nodes if node.name == subject), None)
        if node:
            failed = self.repository.events(deployment=id, node=node.name, failed=True)
            return explain_node(node, failed)
        found = explain_job(subject, self._why_idle(deployment, JobId(subject)))
        if found is None:
            raise NotFound(
                f"{subject} is neither a node of the deployment nor a job that waits.",
                attempt=f"list its nodes: vacuo show {id}",
            )
        return found

    def _why_idle(self, deployment: Deployment, job: JobId) -> list[Reason]:
        found: list[Reason] = []
        for name in {group.pool for group in deployment.spec.groups if group.pool}:
            pool = self._ports.pools.get(name)
            if pool is None:
                continue
            try:
                found += pool.why_idle(job)
            except PortError as error:
                found.append(reason("pool-unreachable", pool=name, why=str(error)))
        return found

    def console(self, id: DeploymentId, node: NodeName, lines: int) -> str:
        """The boot console of a node, read from its site now."""
        found = self._node(id, node)
        if found.instance is None:
            raise Conflict(f"Node {node} has no instance yet.", attempt=f"vacuo explain {node}")
        return self._ports.providers[found.site].console(found.instance, lines)

    def ssh_target(self, id: DeploymentId, node: NodeName) -> SshTarget:
        """Where and how to log in, with the host keys known beforehand."""
        found = self._node(id, node)
        if found.instance is None or found.address is None:
            raise Conflict(f"Node {node} has no address yet.", attempt=f"vacuo explain {node}")
        keys: Sequence[str] = self.repository.host_keys(id, node)
        if not keys:
            keys = self._ports.providers[found.site].host_keys(found.instance)
        key_file = self._ports.configurator.key_file()
        return SshTarget("root", found.address, tuple(keys), key_file)

    def _node(self, id: DeploymentId, name: NodeName) -> Node:
        for node in self.repository.nodes(id, include_gone=True):
            if node.name == name:
                return node
        raise NotFound(f"The deployment has no node {name}.", attempt=f"vacuo show {id}")


def patience(settings: Settings) -> Patience:
    """The limits that the planner goes by."""
    limits = settings.limits
    return Patience(
        boot_seconds=limits.boot_seconds,
        configure_attempts=limits.configure_attempts,
        join_seconds=limits.join_seconds,
        lost_seconds=limits.lost_seconds,
        drain_seconds=limits.drain_seconds,
        poll_seconds=limits.poll_seconds,
        nodes=limits.nodes_per_deployment,
    )
