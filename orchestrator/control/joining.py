"""How nodes get what lets them join a pool; where the pool asks for it, in the owner's name."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from orchestrator.batch.base import TOKEN_FILE, BatchPool, JoinCredential
from orchestrator.configure.base import SecretFile
from orchestrator.control.granting import worker_token
from orchestrator.control.ports import Ports
from orchestrator.errors import LoginUnusable, PortError, Retryable, StoreUnavailable, Terminal
from orchestrator.identity.delegation import SomebodyElse
from orchestrator.identity.token_endpoint import GrantEnded, GrantRefused
from orchestrator.model import Deployment, Node, NodeName, PoolName
from orchestrator.reasons import Reason, reason

log = logging.getLogger(__name__)


def pool_of(ports: Ports, name: PoolName | None) -> BatchPool:
    """The pool of that name; :class:`Terminal` where the server has none."""
    pool = ports.pools.get(name) if name else None
    if pool is None:
        raise Terminal(f"The server has no pool named {name}.")
    return pool


def join_credential(
    ports: Ports, deployment: Deployment, pool: BatchPool, node: NodeName
) -> JoinCredential:
    """A fresh credential for ``node``; raises what the pool does, and
    :class:`~orchestrator.errors.LoginUnusable`."""
    wanted = pool.token_wanted()
    if wanted is None:
        return pool.join_credential(deployment.id, node)
    if ports.delegation is None:
        raise LoginUnusable("this server keeps no logins of people", "login-missing")
    try:
        token = ports.delegation.token(deployment.owner, wanted)
    except StoreUnavailable as error:
        raise Retryable(str(error), error.after) from None
    return pool.join_credential(deployment.id, node, token)


def next_credential(
    ports: Ports, deployment: Deployment, nodes: Sequence[Node], node: Node
) -> SecretFile:
    """What takes the place of the credential with which ``node`` joined, and where it belongs;
    raises what :func:`join_credential` and :func:`~orchestrator.control.granting.granted` do."""
    if node.pool:
        pool = pool_of(ports, node.pool)
        credential = join_credential(ports, deployment, pool, node.name)
        return SecretFile(credential.file, f"{credential.token}\n")
    token = worker_token(ports.own_pools, deployment, nodes, node)
    return SecretFile(TOKEN_FILE, f"{token}\n")


def get_login(ports: Ports, deployment: Deployment, bearer: str) -> bool:
    """Get a login of the deployment's owner, whose access token ``bearer`` is, where a pool of its
    wants one and the issuer exchanges tokens; whether it was got.  Where it does not come, the
    deployment waits and says so: the owner can bring one."""
    pools = (ports.pools.get(group.pool) for group in deployment.spec.groups if group.pool)
    if ports.delegation is None or not any(pool and pool.token_wanted() for pool in pools):
        return False
    try:
        ports.delegation.exchange(deployment.owner, bearer)
    except (GrantEnded, GrantRefused, SomebodyElse, PortError, StoreUnavailable) as error:
        log.warning("no login of %s was got by exchange: %s", deployment.owner, error)
        return False
    return True


def why_unjoinable(ports: Ports, deployment: Deployment, name: PoolName) -> Reason | None:
    """Why no node of ``deployment`` can be given what it needs to join the pool; None if it can."""
    wanted = ports.pools[name].token_wanted()
    if wanted is None:
        return None
    try:
        if ports.delegation is None:
            raise LoginUnusable("this server keeps no logins of people", "login-missing")
        ports.delegation.look(deployment.owner, wanted)
    except LoginUnusable as error:
        return reason(error.code, pool=name, why=str(error))
    except (PortError, StoreUnavailable) as error:
        return reason("login-unknown", pool=name, why=str(error))
    return None
