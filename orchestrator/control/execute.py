"""Carry out the actions of a plan.  Dumb on purpose: every decision was made before.

Each action is an intent in the store already.  What came of it is recorded; what is not known is
recorded as unknown, for the next listing to settle.  Configuration runs outlive the pass: they go
on in the background and report when each host is done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent import futures

from orchestrator.control.configuration import Configuration
from orchestrator.control.ports import Ports
from orchestrator.control.tell import tell
from orchestrator.errors import OutcomeUnknown, PortError, QuotaExceeded, Retryable
from orchestrator.model import (
    Action,
    ConfigureNodes,
    CreateInstance,
    DeleteInstance,
    Deployment,
    DeploymentId,
    DrainNode,
    Event,
    EventKind,
    Intent,
    Node,
    NodeName,
    Outcome,
    OutcomeKind,
    RenewCredential,
    Reschedule,
    RevokeCredentials,
)
from orchestrator.providers.base import InstanceRequest
from orchestrator.store.repository import Repository

log = logging.getLogger(__name__)

AT_ONCE = 8


class Executor:
    """Carries out intents through ``ports``; configuration runs go on in ``configuration``."""

    def __init__(
        self,
        ports: Ports,
        repository: Repository,
        configuration: Configuration,
        clock: Callable[[], float] = time.time,
        threads: futures.Executor | None = None,
    ) -> None:
        self._ports = ports
        self._repository = repository
        self._configuration = configuration
        self._clock = clock
        self._threads = threads or futures.ThreadPoolExecutor(AT_ONCE, thread_name_prefix="execute")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._configuration.close()

    def carry_out(
        self, deployment: Deployment, nodes: Sequence[Node], intents: Sequence[Intent]
    ) -> None:
        """Carry out all ``intents``, several at a time; configuration runs are only started."""
        by_name = {node.name: node for node in nodes}
        waiting = []
        for intent in intents:
            if isinstance(intent.action, ConfigureNodes):
                self._configuration.start(deployment, nodes, intent, intent.action)
            elif self._configuration.leaves_to_node(intent.action, by_name):
                continue  # the node asks for it, and says when it has it
            else:
                waiting.append(self._threads.submit(self._one, deployment, by_name, intent))
        for future in waiting:
            future.result()

    def _one(self, deployment: Deployment, nodes: dict[NodeName, Node], intent: Intent) -> None:
        outcome = _outcome_of(lambda: self._act(deployment, nodes, intent.action))
        events = _events(deployment.id, intent.action, outcome, self._clock())
        self._repository.finish(intent.id, outcome, self._clock(), events)
        tell(events)

    def _act(self, deployment: Deployment, nodes: dict[NodeName, Node], action: Action) -> None:
        match action:
            case CreateInstance(name):
                node = nodes[name]
                request = InstanceRequest(
                    name=node.name,
                    owner=deployment.id,
                    node=node.name,
                    flavour=node.flavour,
                    image=node.image,
                    user_data=self._configuration.user_data(node),
                )
                self._ports.providers[node.site].create(request)
            case DeleteInstance(site, instance, _, _):
                self._ports.providers[site].delete(instance)
            case DrainNode(name):
                pool = nodes[name].pool
                if pool:
                    self._ports.pools[pool].drain(deployment.id, name)
            case RenewCredential(name):
                self._configuration.renew_credential(deployment, [*nodes.values()], nodes[name])
            case Reschedule(pool):
                self._ports.pools[pool].reschedule()
            case RevokeCredentials(pool):
                if pool in self._ports.pools:
                    self._ports.pools[pool].revoke(deployment.id)
            case ConfigureNodes():
                raise TypeError("configuration runs in the background")


def _outcome_of(act: Callable[[], None]) -> Outcome:
    try:
        act()
    except OutcomeUnknown as error:
        return Outcome(OutcomeKind.UNKNOWN, str(error))
    except Retryable as error:
        # It was refused before anything happened, as far as the port can tell.
        return Outcome(OutcomeKind.FAILED, str(error), error.after)
    except QuotaExceeded as error:
        return Outcome(OutcomeKind.FAILED, str(error), 30.0)
    except PortError as error:
        return Outcome(OutcomeKind.FAILED, str(error))
    except Exception as error:
        # A fault of ours in one action must not keep the others from being carried out.
        log.exception("an action ended in an unexpected error")
        return Outcome(OutcomeKind.UNKNOWN, f"unexpected {type(error).__name__}")
    return Outcome(OutcomeKind.DONE)


def _events(
    deployment: DeploymentId, action: Action, outcome: Outcome, now: float
) -> Sequence[Event]:
    """Only what did not go through is worth a line: the rest shows in the nodes' states."""
    if outcome.kind is OutcomeKind.DONE:
        return ()
    node = getattr(action, "node", None)
    what = type(action).__name__
    message = f"{what} {outcome.kind.value}: {outcome.why}"
    event = Event(
        now, EventKind.ACTION, deployment, message, node=node, failed=True, code="action-failed"
    )
    return (event,)
