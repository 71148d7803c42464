"""One pass over one deployment: observe, plan, record, execute."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from orchestrator.control.execute import Executor
from orchestrator.control.explain import GroupState, group_states
from orchestrator.control.observe import Observer
from orchestrator.control.plan import make_plan
from orchestrator.control.tell import tell
from orchestrator.control.values import outputs
from orchestrator.model import (
    Deployment,
    DeploymentId,
    DeploymentStatus,
    Event,
    EventKind,
    GroupName,
    Node,
    NodeName,
    Patience,
    Plan,
)
from orchestrator.reasons import FOR_THE_OWNER, LOGIN_REASONS, Reason
from orchestrator.store.repository import Repository

# A pass that takes longer than its lease has lost it; its later writes are refused.  No port takes
# longer than a minute to say that it does not answer.
LEASE_SECONDS = 180.0
# Nodes that are gone still tell of failures in a row, for as long as a back-off may look back.
REMEMBER_SECONDS = 3600.0


class Loop:
    """Runs passes.  ``holder`` names this process for leases and runs."""

    def __init__(
        self,
        repository: Repository,
        observer: Observer,
        executor: Executor,
        holder: str,
        patience: Patience,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._repository = repository
        self._observer = observer
        self._executor = executor
        self._holder = holder
        self._patience = patience
        self._clock = clock
        # What the last pass saw, for people to look at; decisions never read it.
        self.states: dict[DeploymentId, Mapping[GroupName, GroupState]] = {}

    def run_once(self, id: DeploymentId) -> float | None:
        """One pass; answers with the seconds until the next, or None when there is none to come.

        Raises :class:`orchestrator.errors.LeaseLost` when another process has the deployment.
        """
        lease = self._repository.acquire(id, self._holder, LEASE_SECONDS, self._clock())
        try:
            deployment = self._repository.deployment(id)
            if deployment.status is DeploymentStatus.DELETE_COMPLETE:
                self._forget(id)
                return None
            now = self._clock()
            before = self._repository.nodes(id, gone_since=now - REMEMBER_SECONDS)
            seen = self._observer.observe(deployment, before, now)
            plan = make_plan(deployment, before, seen, self._clock(), self._patience)
            nodes = _merged(before, plan.nodes)
            events = _events(deployment, before, plan, self._clock())
            intents = self._repository.save(
                lease,
                generation=deployment.generation,
                nodes=plan.nodes,
                actions=plan.actions,
                status=plan.status,
                status_reason=plan.status_reason,
                reasons=plan.reasons,
                outputs=outputs(deployment.spec, nodes),
                events=events,
                now=self._clock(),
            )
            tell(events)
            self.states[id] = group_states(deployment, nodes, seen, plan)
            self._executor.carry_out(deployment, nodes, intents)
            # A deletion that is complete is looked at once more: then it is forgotten.
            return plan.look_again
        finally:
            self._repository.release(lease)

    def _forget(self, id: DeploymentId) -> None:
        self.states.pop(id, None)
        self._observer.forget(id)


def _merged(before: Sequence[Node], changed: Sequence[Node]) -> tuple[Node, ...]:
    nodes = {node.name: node for node in before}
    nodes.update({node.name: node for node in changed})
    return tuple(nodes.values())


def _events(
    deployment: Deployment, before: Sequence[Node], plan: Plan, now: float
) -> tuple[Event, ...]:
    """What changed, in words: states of nodes, the status, and reasons that are new."""
    old: Mapping[NodeName, Node] = {node.name: node for node in before}
    events = []
    for node in plan.nodes:
        was = old.get(node.name)
        if was is None or was.state is not node.state or _told(was.reason, node.reason):
            events.append(_node_event(node, now))
    events += _owner_events(deployment, plan, now)
    if plan.status is not deployment.status:
        message = f"{plan.status.value}"
        if plan.status_reason:
            message += f": {plan.status_reason.sentence}"
        failed = plan.status.value.endswith("_FAILED")
        events.append(
            Event(
                now,
                EventKind.DEPLOYMENT,
                deployment.id,
                message,
                phase=plan.status.value,
                failed=failed,
            )
        )
    return tuple(events)


def _owner_events(deployment: Deployment, plan: Plan, now: float) -> list[Event]:
    """What the owner has to do, when it begins to be so; and that it is done."""
    before = {why.code for why in deployment.reasons} & LOGIN_REASONS
    after = [why for why in plan.reasons if why.code in LOGIN_REASONS]
    told = [
        Event(now, EventKind.DEPLOYMENT, deployment.id, why.sentence, failed=True, code=why.code)
        for why in after
        if why.code in FOR_THE_OWNER and why.code not in before
    ]
    if before & FOR_THE_OWNER and not after and not deployment.deleting:
        message = "A login of the owner is there again; what waited for it goes on."
        told.append(Event(now, EventKind.DEPLOYMENT, deployment.id, message))
    return told


def _told(was: Reason | None, now: Reason | None) -> bool:
    """Whether a reason is news: another code.  The same with other numbers is not."""
    return now is not None and (was is None or was.code != now.code)


def _node_event(node: Node, now: float) -> Event:
    message = node.state.value
    if node.reason:
        message += f": {node.reason.sentence}"
    return Event(
        at=now,
        kind=EventKind.NODE,
        deployment=node.deployment,
        message=message,
        node=node.name,
        phase=node.state.value,
        failed=node.reason is not None and node.reason.code.endswith("-failed"),
        code=node.reason.code if node.reason else "",
    )
