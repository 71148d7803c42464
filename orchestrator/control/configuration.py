"""Configuration runs: one Ansible run for a batch of hosts, in the background.

A run belongs to an intent.  Each host's end is recorded as it happens; a host that the run never
finished (the server died, the iterator broke) is recorded as failed here, or found LOST later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from orchestrator.configure.base import HostToConfigure, RoleCall, TaskStatus
from orchestrator.control.concealing import Scalar, unsealed
from orchestrator.control.granting import granted
from orchestrator.control.joining import join_credential, next_credential, pool_of
from orchestrator.control.ports import Ports
from orchestrator.control.pulling import Pulling
from orchestrator.control.tell import tell
from orchestrator.control.told import event_of
from orchestrator.control.values import (
    Scope,
    Unresolved,
    is_secret,
    policy_attributes,
    resolve,
    secrets_in,
)
from orchestrator.errors import PortError, Retryable, Terminal
from orchestrator.identity.secrets import SecretStore
from orchestrator.model import (
    Action,
    ConfigureNodes,
    Deployment,
    DeploymentId,
    Event,
    EventKind,
    Intent,
    Node,
    NodeGroup,
    NodeName,
    NodeState,
    Outcome,
    OutcomeKind,
    RenewCredential,
    RunState,
    Secret,
    SecretPlace,
    Service,
    UserData,
)
from orchestrator.store.repository import Repository

log = logging.getLogger(__name__)

RUNS_AT_ONCE = 4
HOST_KEY_TRIES = 40
HOST_KEY_PAUSE_SECONDS = 0.25
ENDED = {
    TaskStatus.FINISHED: RunState.SUCCEEDED,
    TaskStatus.FAILED: RunState.FAILED,
    TaskStatus.UNREACHABLE: RunState.FAILED,
    TaskStatus.DISTRUSTED: RunState.DISTRUSTED,
}


class Configuration:
    """Starts runs and records what becomes of each host."""

    def __init__(
        self,
        ports: Ports,
        repository: Repository,
        wake: Callable[[DeploymentId], None],
        clock: Callable[[], float] = time.time,
        threads: Executor | None = None,
        secrets: SecretStore | None = None,
    ) -> None:
        self._secrets = secrets
        self._ports = ports
        self._repository = repository
        self._wake = wake
        self._clock = clock
        self.pulling = Pulling(ports, repository, self.host, wake, clock)
        self._threads = threads or ThreadPoolExecutor(RUNS_AT_ONCE, thread_name_prefix="configure")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def user_data(self, node: Node) -> UserData:
        """What the node is given at its creation, so that it can be configured."""
        if self.pulling.does(node):
            return self.pulling.order(node)
        return self._ports.configurator.bootstrap()

    def start(
        self,
        deployment: Deployment,
        nodes: Sequence[Node],
        intent: Intent,
        action: ConfigureNodes,
    ) -> None:
        """Begin the run in the background; hosts that configure themselves only need to know."""
        own = [node for node in nodes if node.name in action.nodes and self.pulling.does(node)]
        self.pulling.offer(intent.id, own)
        names = {node.name for node in own}
        left = replace(action, nodes=tuple(name for name in action.nodes if name not in names))
        self._threads.submit(self._run, deployment, nodes, intent, left)

    def leaves_to_node(self, action: Action, nodes: Mapping[NodeName, Node]) -> bool:
        """Whether the node of the action carries it out by itself."""
        return isinstance(action, RenewCredential) and self.pulling.does(nodes[action.node])

    def renew_credential(self, deployment: Deployment, nodes: Sequence[Node], node: Node) -> None:
        """Put a fresh credential on the node, whose services find it there by themselves."""
        file = next_credential(self._ports, deployment, nodes, node)
        host = HostToConfigure(node.name, node.address or "", self._known_host_keys(node), ())
        self._ports.configurator.put_secret(host, file)

    def _run(
        self,
        deployment: Deployment,
        nodes: Sequence[Node],
        intent: Intent,
        action: ConfigureNodes,
    ) -> None:
        left = set(action.nodes)
        why = "the run ended early"
        try:
            hosts = []
            for node in nodes:
                if node.name in left:
                    hosts += self._prepared(deployment, nodes, node, intent, left)
            if hosts:
                self._follow(deployment, hosts, intent, left)
        except PortError as error:
            why = str(error)
        except Exception as error:
            log.exception("a configuration run ended in an unexpected error")
            why = f"unexpected {type(error).__name__}"
        for name in sorted(left):
            self._ended(deployment, intent, name, RunState.FAILED, why)
        self._repository.finish(intent.id, Outcome(OutcomeKind.DONE), self._clock())
        self._wake(deployment.id)

    def _prepared(
        self,
        deployment: Deployment,
        nodes: Sequence[Node],
        node: Node,
        intent: Intent,
        left: set[NodeName],
    ) -> list[HostToConfigure]:
        """The host, ready to be configured; one that cannot be does not hold the others."""
        try:
            return [self._reached(deployment, nodes, node)]
        except (PortError, Unresolved) as error:
            left.discard(node.name)
            self._ended(deployment, intent, node.name, RunState.FAILED, str(error))
            return []

    def _follow(
        self,
        deployment: Deployment,
        hosts: Sequence[HostToConfigure],
        intent: Intent,
        left: set[NodeName],
    ) -> None:
        for task in self._ports.configurator.apply(hosts, intent.id):
            if task.status not in ENDED:
                self._repository.append([event_of(deployment.id, task)])
                continue
            left.discard(task.node)
            state = ENDED[task.status]
            why = "" if state is RunState.SUCCEEDED else f"{task.task}: {task.message}"
            self._ended(deployment, intent, task.node, state, why, (event_of(deployment.id, task),))
            self._wake(deployment.id)

    def _ended(
        self,
        deployment: Deployment,
        intent: Intent,
        node: NodeName,
        state: RunState,
        why: str,
        events: Sequence[Event] = (),
    ) -> None:
        now = self._clock()
        if state is RunState.FAILED and not events:
            message = f"configuration failed: {why}"
            events = [
                Event(
                    now,
                    EventKind.TASK,
                    deployment.id,
                    message,
                    node=node,
                    failed=True,
                    phase=NodeState.CONFIGURING,
                )
            ]
        self._repository.finish_run(intent.id, node, state, why, now, events)
        tell(events)

    # --- what a host is to become ---------------------------------------------------------------

    def _reached(
        self, deployment: Deployment, nodes: Sequence[Node], node: Node
    ) -> HostToConfigure:
        if node.instance is None or node.address is None:
            raise Terminal(f"Node {node.name} has no address.")
        return self.host(deployment, nodes, node, self._host_keys(node))

    def host(
        self,
        deployment: Deployment,
        nodes: Sequence[Node],
        node: Node,
        host_keys: tuple[str, ...],
    ) -> HostToConfigure:
        """What the node is to become, every value known; raises :class:`Unresolved`."""
        group = deployment.spec.group(node.group)
        own = self._own(deployment, node, group)
        given = granted(self._ports.own_pools, deployment, nodes, node)
        opened = self._opened(deployment, group)
        scope = Scope(deployment.spec, nodes, node, own, given, opened)
        roles = tuple(_role(service, scope) for service in group.services)
        return HostToConfigure(node.name, node.address or "", host_keys, roles)

    def _opened(self, deployment: Deployment, group: NodeGroup) -> Mapping[Secret, Scalar]:
        """The secret parameters that services of the group are given."""
        wanted = {s for service in group.services for s in secrets_in(service.variables)}
        if not wanted:
            return {}
        if self._secrets is None:
            raise Terminal("This server keeps no secrets.")
        found = ((s, self._secrets.get(place_of(deployment, s))) for s in wanted)
        return {secret: unsealed(text.decode()) for secret, text in found if text is not None}

    def _own(self, deployment: Deployment, node: Node, group: NodeGroup) -> Mapping[str, Any]:
        """The attributes that only the host itself may see: how it joins its pool."""
        if group.pool is None:
            return {}
        pool = pool_of(self._ports, group.pool)
        own: dict[str, Any] = dict(pool.join_attributes())
        credential = join_credential(self._ports, deployment, pool, node.name)
        own["join_credential"] = credential.token
        own["administrator_key"] = credential.drain_key
        own.update(policy_attributes(group))
        return own

    def _known_host_keys(self, node: Node) -> tuple[str, ...]:
        """Those that the site tells at once: a pass does not wait for them."""
        if node.instance is None:
            return ()
        return tuple(self._ports.providers[node.site].host_keys(node.instance))

    def _host_keys(self, node: Node) -> tuple[str, ...]:
        if node.instance is None:
            return ()
        provider = self._ports.providers[node.site]
        for _ in range(HOST_KEY_TRIES):
            try:
                return tuple(provider.host_keys(node.instance))
            except Retryable:
                time.sleep(HOST_KEY_PAUSE_SECONDS)
        return tuple(provider.host_keys(node.instance))


def place_of(deployment: Deployment, secret: Secret) -> SecretPlace:
    """Where the content of a secret parameter is kept: another of the same name elsewhere."""
    name = f"parameter {secret.name} {secret.mark}"
    return SecretPlace.of(deployment.owner, name, deployment.id)


def _role(service: Service, scope: Scope) -> RoleCall:
    return RoleCall(
        role=service.role,
        service=service.template,
        variables={name: resolve(value, scope) for name, value in service.variables.items()},
        secret=frozenset(name for name, value in service.variables.items() if is_secret(value)),
    )
