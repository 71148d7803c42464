"""Resources: the nodes of a deployment, and how to reach one."""

from __future__ import annotations

from flask import Blueprint

from orchestrator.api import models, present
from orchestrator.api.deployments import base
from orchestrator.api.requests import caller, correlation, deployment, orchestrator
from orchestrator.api.specification import operation
from orchestrator.errors import NotFound
from orchestrator.identity.policy import Access
from orchestrator.model import Node, NodeName

blueprint = Blueprint("resources", __name__)


@operation(
    blueprint,
    "GET",
    "/deployments/<id>/resources",
    Access.SEE,
    answers={200: models.ResourceList},
)
def list_resources(id: str, query: models.ResourcesQuery) -> models.ResourceList:
    """The nodes of the deployment, oldest first."""
    here = deployment()
    nodes: tuple[Node, ...] = ()
    if query.type in (None, present.COMPUTE):
        nodes = orchestrator().repository.nodes(here.id, include_gone=query.all)
    if query.group is not None:
        nodes = tuple(node for node in nodes if node.group == query.group)
    first = query.page * query.size
    given = {"type": query.type, "group": query.group, "all": "true" if query.all else None}
    asked = {name: value for name, value in given.items() if value is not None}
    url = f"{base()}{present.path_of(here.id)}/resources"
    links, info = present.page(url, asked, query.page, query.size, len(nodes))
    content = [
        present.resource(node, here.spec, base()) for node in nodes[first : first + query.size]
    ]
    return models.ResourceList(content=content, links=links, page=info)


@operation(
    blueprint,
    "GET",
    "/deployments/<id>/resources/<rid>",
    Access.SEE,
    answers={200: models.Resource},
)
def get_resource(id: str, rid: str, query: models.NoQuery) -> models.Resource:
    """One node."""
    here = deployment()
    for node in orchestrator().repository.nodes(here.id, include_gone=True):
        if node.name == rid:
            return present.resource(node, here.spec, base())
    raise NotFound("The deployment has no such node.", f"vacuo show {here.id}")


@operation(
    blueprint,
    "GET",
    "/deployments/<id>/resources/<rid>/ssh",
    Access.SECRETS,
    answers={200: models.Ssh},
    errors=(409, 502),
)
def get_resource_ssh(id: str, rid: str, query: models.NoQuery) -> models.Ssh:
    """How to reach the node over ssh, with its host keys."""
    return present.ssh(orchestrator().ssh_target(deployment().id, NodeName(rid)))


@operation(
    blueprint,
    "POST",
    "/deployments/<id>/resources/<rid>/actions",
    Access.DRAIN,
    answers={202: models.Resource},
    errors=(409,),
)
def act_on_resource(
    id: str, rid: str, json: models.ActionBody, query: models.NoQuery
) -> tuple[models.Resource, int]:
    """Ask the node to leave when its jobs have ended."""
    here = deployment()
    node = orchestrator().drain(
        here.id, NodeName(rid), actor=str(caller().principal), correlation=correlation()
    )
    return present.resource(node, here.spec, base()), 202
