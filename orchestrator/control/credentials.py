"""When a host gets its next credential for its pool: at half of the life of the one it has.  Pure.

A startd shows its token only when it opens a session, so one that has ended is not noticed until
the collector starts anew; then the host could not come back, and its jobs would be lost with it.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.control.planning import Pass
from orchestrator.control.values import WORKER_CREDENTIAL, attributes_in
from orchestrator.model import (
    Attribute,
    Node,
    NodeGroup,
    NodeState,
    OutcomeKind,
    RenewCredential,
)
from orchestrator.reasons import reason

JOIN_CREDENTIAL = "join_credential"
# How long a host's credential for a pool of its own deployment is good, in seconds.
OWN_POOL_SECONDS = 3600
IN_POOL = frozenset({NodeState.JOINING, NodeState.JOINED, NodeState.DRAINING})
RETRY_SECONDS = 30.0
# A host that fetches it by itself asks twice a minute, unless a run of its own goes on.
FETCH_SECONDS = 300.0
# A pass must not be held up by hosts that do not answer; the others have half a life left.
AT_ONCE = 16


def is_given_one(group: NodeGroup) -> bool:
    """Whether the hosts of ``group`` are configured with a credential for a pool: the group's, or
    one that the deployment makes for itself."""
    name = JOIN_CREDENTIAL if group.pool else WORKER_CREDENTIAL
    return _source(group, name) is not None


def _source(group: NodeGroup, name: str) -> Attribute | None:
    variables = (service.variables for service in group.services)
    return next((found for found in attributes_in(list(variables)) if name in found.path), None)


def renew_credentials(work: Pass) -> None:
    """Settle what was decided before, and decide the next; those that end first come first."""
    due = []
    for node in list(work.after.values()):
        if node.state not in IN_POOL or node.instance is None or node.address is None:
            continue
        if node.pool in work.seen.unjoinable:
            continue  # it has what it has; why there is no other is told for the pool
        lifetime = work.seen.credential_seconds.get(node.pool) if node.pool else OWN_POOL_SECONDS
        if not lifetime or not (node.credential_at or is_given_one(work.group_of(node))):
            continue
        node = work.after[node.name] = _settled(work, node, lifetime)
        if _is_due(work, node, lifetime):
            due.append(node)
    due.sort(key=lambda node: (node.credential_at, node.name))
    for node in due[:AT_ONCE]:
        work.after[node.name] = replace(node, renewal_at=work.now)
        work.actions.append(RenewCredential(node.name))


def _settled(work: Pass, node: Node, lifetime: float) -> Node:
    """The node as its last renewal left it; says why where that did not go through."""
    if not node.renewal_at:
        return node
    outcome = work.seen.renewals.get(node.name)
    if outcome is None:
        if work.now >= node.credential_at + lifetime:
            _complain(work, node, "the host has not asked for it")
        return node
    if outcome.kind is OutcomeKind.DONE:
        # It was issued after it was decided: the time is on the safe side.
        return replace(node, credential_at=node.renewal_at, renewal_at=0.0)
    _complain(work, node, outcome.why or "what became of it is not known")
    return node


def _complain(work: Pass, node: Node, why: str) -> None:
    source = _source(work.group_of(node), WORKER_CREDENTIAL)
    pool = node.pool or (source.template if source else node.group)
    work.reasons.append(reason("credential-renewal-failed", node=node.name, pool=pool, why=why))


def _is_due(work: Pass, node: Node, lifetime: float) -> bool:
    if not node.renewal_at:
        return work.now >= node.credential_at + lifetime / 2
    pending = work.seen.renewals.get(node.name) is None
    pause = FETCH_SECONDS if pending else min(RETRY_SECONDS, lifetime / 8)
    return work.now >= node.renewal_at + pause
