"""The way of one node, one step a pass: pure, total, and never backwards.

Each state has one function.  It is given the node and what was seen of it and answers with the
node as it is now and the actions that follow.  Nothing here leads to a deletion unless the
evidence is fresh: an unknown observation leaves the node where it is, with a Reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from orchestrator.control.refresh import after_refresh
from orchestrator.model import (
    Action,
    CreateInstance,
    DeleteInstance,
    DrainNode,
    Instance,
    InstanceState,
    Machine,
    Node,
    NodeGroup,
    NodeState,
    Observed,
    Outcome,
    OutcomeKind,
    Patience,
    Reschedule,
    Run,
    RunState,
)
from orchestrator.reasons import Reason, reason

# A request whose outcome is not known is repeated (its name makes it the same request) after this.
REPEAT_CREATE_SECONDS = 5.0
# A site may list a new instance late; after this an absent one is taken for never made.
LISTING_LAG_SECONDS = 60.0
REPEAT_DELETE_SECONDS = 3.0
REPEAT_DRAIN_SECONDS = 5.0
CONFIGURE_BACKOFF_SECONDS = 5.0

FAILURES = frozenset(
    {
        "create-failed",
        "boot-timed-out",
        "configure-failed",
        "host-key-unknown",
        "join-timed-out",
    }
)
BEFORE_JOINED = frozenset(
    {NodeState.REQUESTED, NodeState.BOOTING, NodeState.CONFIGURING, NodeState.JOINING}
)
LIVE = BEFORE_JOINED | {NodeState.JOINED}
# A node in one of these is configured anew where it stands: its state stays, its jobs run on.
CONFIGURED = frozenset({NodeState.JOINING, NodeState.JOINED})
STOPPED = frozenset({InstanceState.STOPPED, InstanceState.FAILED})


@dataclass(frozen=True)
class Sight:
    """All that a pass saw of one node.

    ``instance`` and ``machine`` are observations of presence: a fresh one whose value is empty
    says that the thing is certainly absent.  ``machine`` is None for a host without a pool.
    """

    instance: Observed[tuple[Instance, ...]]
    machine: Observed[tuple[Machine, ...]] | None
    reachable: bool
    run: Run | None
    create: Outcome | None

    @property
    def listed(self) -> Instance | None:
        return self.instance.value[0] if self.instance.is_known and self.instance.value else None

    @property
    def certainly_absent(self) -> bool:
        return self.instance.is_fresh and not self.instance.value

    @property
    def in_pool(self) -> Machine | None:
        known = self.machine is not None and self.machine.is_known
        return self.machine.value[0] if known and self.machine and self.machine.value else None

    @property
    def certainly_not_in_pool(self) -> bool:
        return self.machine is not None and self.machine.is_fresh and not self.machine.value


@dataclass(frozen=True)
class Step:
    """Where a node is after a pass; ``ready`` asks for a configuration run."""

    node: Node
    actions: tuple[Action, ...] = ()
    ready: bool = False


@dataclass(frozen=True)
class Context:
    group: NodeGroup
    now: float
    patience: Patience
    forced: bool = False


def advance(node: Node, sight: Sight, context: Context) -> Step:
    """One step of ``node``."""
    if node.state in (NodeState.PLANNED, NodeState.GONE):
        return Step(node)
    lost = _vanished(node, sight, context) or _powered_off(node, sight, context)
    if lost:
        return lost
    if node.refreshing and node.state in CONFIGURED:
        return _refreshing(node, sight, context)
    return _STEPS[node.state](node, sight, context)


def retire(node: Node, context: Context, why: Reason) -> Step:
    """The node is no longer wanted: let its jobs finish, or delete it where it has none."""
    if node.state in (NodeState.DELETING, NodeState.GONE):
        return Step(node)
    if node.state is NodeState.DRAINING:
        return _delete(node, context, why) if context.forced else Step(node)
    if node.state is NodeState.JOINED and context.group.pool and not context.forced:
        return _drain(node, context, why)
    return _delete(node, context, why)


def enter(node: Node, state: NodeState, now: float, why: Reason | None = None) -> Node:
    return replace(node, state=state, since=now, reason=why, retry_at=0.0)


def failed(node: Node) -> bool:
    """Whether the node ended, or ends, because something went wrong with it."""
    return node.reason is not None and node.reason.code in FAILURES


# --- what can happen in any state ---------------------------------------------------------------


def _vanished(node: Node, sight: Sight, context: Context) -> Step | None:
    """The site says for certain that the instance is not there."""
    if not sight.certainly_absent or node.state is NodeState.REQUESTED:
        return None
    if node.state is NodeState.DELETING:
        if node.instance is None and _may_still_appear(node, sight, context):
            return None
        return Step(enter(node, NodeState.GONE, context.now, node.reason))
    why = reason("node-lost", node=node.name, site=node.site)
    return Step(enter(node, NodeState.GONE, context.now, why))


def _may_still_appear(node: Node, sight: Sight, context: Context) -> bool:
    if sight.create is None:
        return context.now - node.since < LISTING_LAG_SECONDS
    settled = sight.create.kind is OutcomeKind.FAILED
    return not settled and context.now - node.created_at < LISTING_LAG_SECONDS


def _powered_off(node: Node, sight: Sight, context: Context) -> Step | None:
    """The host switched itself off: after its startd left, or because it broke."""
    instance = sight.listed
    if node.state is NodeState.DELETING or not sight.instance.is_fresh:
        return None
    if instance is None or instance.state not in STOPPED:
        return None
    node = replace(node, instance=instance.id)
    pool = context.group.pool
    if pool and node.state in (NodeState.JOINING, NodeState.JOINED, NodeState.DRAINING):
        why = reason("left-the-pool", node=node.name, pool=pool)
    else:
        why = reason("node-lost", node=node.name, site=node.site)
    return _delete(node, context, why)


def _delete(node: Node, context: Context, why: Reason) -> Step:
    node = enter(node, NodeState.DELETING, context.now, why)
    if node.instance is None:
        return Step(node)
    node = replace(node, retry_at=context.now + REPEAT_DELETE_SECONDS)
    return Step(node, (_deletion(node, why),))


def _delete_where_seen(node: Node, sight: Sight, context: Context, why: Reason) -> Step:
    """Nothing is deleted at a site that does not answer: the node stays what it is until then."""
    return _delete(node, context, why) if sight.instance.is_fresh else _wait(node, sight, why)


def _deletion(node: Node, why: Reason) -> DeleteInstance:
    if node.instance is None:
        raise ValueError(f"node {node.name} has no instance to delete")
    return DeleteInstance(node.site, node.instance, node.name, why)


def _drain(node: Node, context: Context, why: Reason) -> Step:
    because = reason("draining", node=node.name, why=why.sentence)
    node = enter(node, NodeState.DRAINING, context.now, because)
    node = replace(node, retry_at=context.now + REPEAT_DRAIN_SECONDS)
    return Step(node, (DrainNode(node.name),))


def _wait(node: Node, sight: Sight, why: Reason | None) -> Step:
    """Stay, and say why: that a site cannot be seen outranks what one waits for there."""
    if not sight.instance.is_fresh and sight.instance.reason:
        why = sight.instance.reason
    return Step(replace(node, reason=why) if why != node.reason else node)


# --- one function a state -----------------------------------------------------------------------


def _requested(node: Node, sight: Sight, context: Context) -> Step:
    if sight.listed:
        node = replace(node, instance=sight.listed.id, address=sight.listed.address)
        if sight.create and sight.create.kind is OutcomeKind.FAILED:
            return _delete(node, context, _create_failed(node, sight.create))  # made by half
        return Step(enter(node, NodeState.BOOTING, context.now))
    if not sight.certainly_absent or sight.create is None:
        asked = reason("machine-requested", node=node.name, site=node.site)
        return _wait(node, sight, asked)
    if sight.create.kind is OutcomeKind.FAILED:
        why = _create_failed(node, sight.create)
        return Step(enter(node, NodeState.GONE, context.now, why))
    if context.now - node.since > context.patience.boot_seconds:
        why = reason("node-lost", node=node.name, site=node.site)
        return Step(enter(node, NodeState.GONE, context.now, why))
    why = reason("outcome-unknown", site=node.site, node=node.name)
    if sight.create.kind is OutcomeKind.UNKNOWN and node.retry_at <= context.now:
        again = replace(node, retry_at=context.now + REPEAT_CREATE_SECONDS, reason=why)
        return Step(again, (CreateInstance(node.name),))
    return _wait(node, sight, why)


def _create_failed(node: Node, outcome: Outcome) -> Reason:
    return reason("create-failed", site=node.site, node=node.name, why=outcome.why)


def _booting(node: Node, sight: Sight, context: Context) -> Step:
    if sight.listed and sight.listed.address != node.address:
        node = replace(node, address=sight.listed.address)
    if sight.reachable and sight.instance.is_fresh:
        return Step(node, ready=True)
    overdue = context.now - node.created_at > context.patience.boot_seconds
    if overdue and sight.instance.is_fresh:
        seconds = round(context.patience.boot_seconds)
        return _delete(node, context, reason("boot-timed-out", node=node.name, seconds=seconds))
    return _wait(node, sight, reason("booting", node=node.name))


def configure(node: Node, digest: str, now: float) -> Node:
    """The node enters its next configuration run; the plan collects such nodes into one action."""
    return replace(
        enter(node, NodeState.CONFIGURING, now, reason("configuring", node=node.name)),
        attempts=node.attempts + 1,
        configured_as=digest,
    )


def _refreshing(node: Node, sight: Sight, context: Context) -> Step:
    """The node goes its way, and beside it a run changes its configuration."""
    run = _run_of(node, sight)
    if run and run.state is RunState.DISTRUSTED:
        node = replace(node, refreshing=False)
        if context.group.pool and node.state is NodeState.JOINED:
            return _drain(node, context, _distrusted(node))
        return _delete_where_seen(node, sight, context, _distrusted(node))
    node, why, ready = after_refresh(node, run, context.now)
    step = _STEPS[node.state](node, sight, context)
    if step.node.state not in CONFIGURED:
        return step
    if why and sight.instance.is_fresh:
        step = replace(step, node=replace(step.node, reason=why))
    return replace(step, ready=ready and sight.instance.is_fresh)


def _run_of(node: Node, sight: Sight) -> Run | None:
    return sight.run if sight.run and sight.run.attempt == node.attempts else None


def _configuring(node: Node, sight: Sight, context: Context) -> Step:
    run = _run_of(node, sight)
    if run is None or run.state is RunState.LOST:
        node = replace(node, reason=reason("configure-lost", node=node.name))
        return Step(node, ready=sight.instance.is_fresh)
    if run.state is RunState.RUNNING:
        return _wait(node, sight, reason("configuring", node=node.name))
    if run.state is RunState.SUCCEEDED:
        return _in_service(node, context)
    if run.state is RunState.DISTRUSTED:
        return _delete_where_seen(node, sight, context, _distrusted(node))
    why = reason("configure-failed", node=node.name, why=run.why or "see its log")
    if node.attempts >= context.patience.configure_attempts:
        return _delete_where_seen(node, sight, context, why)
    if node.retry_at == 0.0:
        wait = CONFIGURE_BACKOFF_SECONDS * node.attempts
        return Step(replace(node, retry_at=context.now + wait, reason=why))
    return Step(node, ready=node.retry_at <= context.now and sight.instance.is_fresh)


def _distrusted(node: Node) -> Reason:
    return reason("host-key-unknown", node=node.name, site=node.site)


def _in_service(node: Node, context: Context) -> Step:
    pool = context.group.pool
    if pool is None:
        node = enter(node, NodeState.JOINED, context.now)
        return Step(replace(node, joined_at=context.now))
    why = reason("joining", node=node.name, pool=pool)
    return Step(enter(node, NodeState.JOINING, context.now, why))


def _joining(node: Node, sight: Sight, context: Context) -> Step:
    pool = context.group.pool
    if sight.in_pool and pool:
        node = enter(node, NodeState.JOINED, context.now)
        return Step(replace(node, joined_at=context.now), (Reschedule(pool),))
    overdue = context.now - node.since > context.patience.join_seconds
    if overdue and sight.certainly_not_in_pool and sight.instance.is_fresh:
        seconds = round(context.patience.join_seconds)
        why = reason("join-timed-out", node=node.name, pool=pool, seconds=seconds)
        return _delete(node, context, why)
    if sight.machine is not None and not sight.machine.is_fresh:
        return _wait(node, sight, sight.machine.reason)
    return _wait(node, sight, reason("joining", node=node.name, pool=pool))


def _joined(node: Node, sight: Sight, context: Context) -> Step:
    policy = context.group.vacuum
    if policy and context.group.pool and context.now - node.created_at > policy.lifetime_seconds:
        why = reason("lifetime-reached", node=node.name, seconds=policy.lifetime_seconds)
        return retire(node, context, why)
    if sight.machine is None:
        return _wait(node, sight, None)
    if sight.machine.is_fresh:
        if sight.in_pool:
            return _at_work(node, sight.in_pool, sight, context)
        return _out_of_pool(node, sight, context)
    return _wait(node, sight, sight.machine.reason)


def _at_work(node: Node, machine: Machine, sight: Sight, context: Context) -> Step:
    since = None if machine.jobs else (node.idle_since or context.now)
    if since != node.idle_since or node.missing_since is not None:
        node = replace(node, idle_since=since, missing_since=None)
    unfit = reason("node-unfit", node=node.name, why=machine.unfit) if machine.unfit else None
    return _wait(node, sight, unfit)


def _out_of_pool(node: Node, sight: Sight, context: Context) -> Step:
    if node.missing_since is None:
        return Step(replace(node, missing_since=context.now))
    gone_for = context.now - node.missing_since
    if gone_for <= context.patience.lost_seconds or not sight.instance.is_fresh:
        return _wait(node, sight, node.reason)
    pool = context.group.pool
    why = reason("machine-lost", node=node.name, pool=pool, seconds=round(gone_for))
    return _delete(node, context, why)


def _draining(node: Node, sight: Sight, context: Context) -> Step:
    """Done when the machine has gone, or says that it takes no more jobs and has none."""
    machine = sight.in_pool if sight.machine and sight.machine.is_fresh else None
    empty = machine is not None and machine.draining and not machine.jobs
    overdue = context.now - node.since > context.patience.drain_seconds
    if sight.certainly_not_in_pool or empty or overdue or context.forced:
        why = reason("no-longer-wanted", node=node.name, group=context.group.name)
        return _delete(node, context, node.reason or why)
    if node.retry_at <= context.now:
        again = replace(node, retry_at=context.now + REPEAT_DRAIN_SECONDS)
        return Step(again, (DrainNode(node.name),))
    return Step(node)


def _deleting(node: Node, sight: Sight, context: Context) -> Step:
    if sight.listed and node.instance is None:
        node = replace(node, instance=sight.listed.id)
    why = node.reason or reason("deleting", node=node.name, site=node.site)
    if node.instance is None or node.retry_at > context.now:
        return _wait(node, sight, why)
    return Step(
        replace(node, retry_at=context.now + REPEAT_DELETE_SECONDS), (_deletion(node, why),)
    )


_STEPS: dict[NodeState, Callable[[Node, Sight, Context], Step]] = {
    NodeState.REQUESTED: _requested,
    NodeState.BOOTING: _booting,
    NodeState.CONFIGURING: _configuring,
    NodeState.JOINING: _joining,
    NodeState.JOINED: _joined,
    NodeState.DRAINING: _draining,
    NodeState.DELETING: _deleting,
}
