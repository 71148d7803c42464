"""What a host is given of the pools that its own deployment makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.batch.own_pools import OwnPools
from orchestrator.control.credentials import OWN_POOL_SECONDS
from orchestrator.control.values import (
    POOL_SECRETS,
    WORKER_CREDENTIAL,
    Scope,
    attributes_in,
    resolve,
)
from orchestrator.errors import Terminal
from orchestrator.model import Deployment, DeploymentSpec, Node, Service


def granted(
    pools: OwnPools | None, deployment: Deployment, nodes: Sequence[Node], node: Node
) -> Mapping[tuple[str, str], str]:
    """The secrets of pools of the template that services of ``node`` refer to, by (node template of
    the pool, attribute).

    :raises Unresolved: the pool's trust domain is not known yet.
    :raises Terminal: the attribute is of a template that is no pool.
    """
    spec = deployment.spec
    services = spec.group(node.group).services
    wanted = {
        (found.template, found.path[0])
        for service in services
        for found in attributes_in(service.variables)
        if found.path[0] in POOL_SECRETS
    }
    if not wanted:
        return {}
    if pools is None:
        raise Terminal("This server keeps no keys for pools of deployments.")
    given = {}
    for pool, attribute in sorted(wanted):
        if attribute == "signing_key":
            given[pool, attribute] = pools.signing_key(deployment.id, pool)
        else:
            domain = _trust_domain(spec, nodes, pool)
            given[pool, attribute] = pools.worker_token(
                deployment.id, pool, domain, node.name, OWN_POOL_SECONDS
            )
    return given


def worker_token(
    pools: OwnPools | None, deployment: Deployment, nodes: Sequence[Node], node: Node
) -> str:
    """A fresh token with which ``node`` joins the pool that its deployment makes; raises what
    :func:`granted` does."""
    given = granted(pools, deployment, nodes, node)
    tokens = [token for (_, attribute), token in given.items() if attribute == WORKER_CREDENTIAL]
    if not tokens:
        raise Terminal(f"Node {node.name} joins no pool.")
    return tokens[0]


def _trust_domain(spec: DeploymentSpec, nodes: Sequence[Node], pool: str) -> str:
    service = _service(spec, pool)
    role = service.role.rpartition(".")[2] if service else ""
    value = service.variables.get(f"{role}_trust_domain") if service else None
    if value is None:
        raise Terminal(f"{pool} is no pool that a host could join.")
    return str(resolve(value, Scope(spec, nodes)))


def _service(spec: DeploymentSpec, template: str) -> Service | None:
    everything = (service for group in spec.groups for service in group.services)
    return next((service for service in everything if service.template == template), None)
