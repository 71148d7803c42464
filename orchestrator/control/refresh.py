"""A node in service whose configuration changes where it stands.  Pure.

Its state stays what it is and its jobs run on; ``Node.refreshing`` says that a run of its own goes
on beside that, or failed and is tried again.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.model import Node, Run, RunState
from orchestrator.reasons import Reason, reason

BACKOFF_SECONDS = 5.0
BACKOFF_MAXIMUM_SECONDS = 300.0


def refresh(node: Node, digest: str) -> Node:
    """The node enters a run that changes its configuration to ``digest``."""
    again = node.refreshing and node.configured_as == digest
    return replace(
        node,
        attempts=node.attempts + 1,
        configured_as=digest,
        refreshing=True,
        failed_refreshes=node.failed_refreshes if again else 0,
        retry_at=0.0,
        reason=reason("reconfiguring", node=node.name),
    )


def after_refresh(node: Node, run: Run | None, now: float) -> tuple[Node, Reason | None, bool]:
    """The node as its last ``run`` left it, why, and whether it is time for another run.

    A run that fails is tried again for as long as it takes: the node may serve as it is, and to
    delete it would make a mistake in a template the end of every node.
    """
    if run is None or run.state is RunState.LOST:
        return node, reason("configure-lost", node=node.name), True
    if run.state is RunState.RUNNING:
        return node, reason("reconfiguring", node=node.name), False
    if run.state is RunState.SUCCEEDED:
        done = replace(node, refreshing=False, failed_refreshes=0, retry_at=0.0, reason=None)
        return done, None, False
    why = reason("reconfigure-failed", node=node.name, why=run.why or "see its log")
    if node.retry_at == 0.0:
        wait = BACKOFF_SECONDS * 2 ** min(node.failed_refreshes, 10)
        until = now + min(wait, BACKOFF_MAXIMUM_SECONDS)
        return replace(node, retry_at=until, failed_refreshes=node.failed_refreshes + 1), why, False
    return node, why, node.retry_at <= now
