"""From what the server knows to what goes over the wire.  Pure; links begin with ``base``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from orchestrator import reasons
from orchestrator.api import models
from orchestrator.control.explain import Explanation, GroupState
from orchestrator.control.health import Check
from orchestrator.control.service import SshTarget
from orchestrator.model import (
    Deployment,
    DeploymentSpec,
    Event,
    GroupName,
    Node,
    NodeGroup,
    NodeState,
)

COMPUTE = "tosca.nodes.Compute"
_STATES = {
    NodeState.PLANNED: "INITIAL",
    NodeState.REQUESTED: "CREATING",
    NodeState.BOOTING: "CREATING",
    NodeState.CONFIGURING: "CONFIGURING",
    NodeState.JOINING: "STARTING",
    NodeState.JOINED: "STARTED",
    NodeState.DRAINING: "STOPPING",
    NodeState.DELETING: "DELETING",
    NodeState.GONE: "DELETING",
}


def time(at: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time(at: float | None) -> str | None:
    return None if at is None else time(at)


def reason(why: reasons.Reason) -> models.Reason:
    return models.Reason(code=why.code, sentence=why.sentence, next_command=why.next_command)


def _reason(why: reasons.Reason | None) -> models.Reason | None:
    return None if why is None else reason(why)


def path_of(id: str) -> str:
    return f"/deployments/{quote(id, safe='')}"


# --- deployments --------------------------------------------------------------------------------


def group(group: NodeGroup, nodes: Sequence[Node] = ()) -> models.Group:
    phases = Counter(
        node.state.value
        for node in nodes
        if node.group == group.name and node.state is not NodeState.GONE
    )
    return models.Group(
        name=group.name,
        pool=group.pool,
        site=group.site,
        minimum=group.minimum,
        maximum=group.maximum,
        cores=group.requirements.cores,
        memory_mb=group.requirements.memory_mb,
        disk_gb=group.requirements.disk_gb,
        image=group.requirements.image,
        services=[
            models.Service(template=service.template, type=service.type, role=service.role)
            for service in group.services
        ],
        nodes=dict(phases),
    )


def listed(deployment: Deployment, nodes: Sequence[Node], base: str) -> models.ListedDeployment:
    """A deployment as lists show it."""
    here = base + path_of(deployment.id)
    parts = ("resources", "template", "log", "plan", "explain", "events")
    sites = {node.site for node in nodes if node.state is not NodeState.GONE}
    why = deployment.status_reason
    return models.ListedDeployment(
        uuid=deployment.id,
        creation_time=time(deployment.created_at),
        update_time=time(deployment.updated_at),
        status=deployment.status,
        status_reason=why.sentence if why else None,
        status_reason_code=why.code if why else None,
        outputs=dict(deployment.outputs),
        callback=deployment.callback,
        user_group=deployment.user_group,
        cloud_provider_name=sites.pop() if len(sites) == 1 else None,
        created_by=models.CreatedBy(
            issuer=deployment.owner.issuer, subject=deployment.owner.subject
        ),
        description=deployment.spec.description,
        reasons=[reason(why) for why in deployment.reasons],
        forced=deployment.forced,
        version=deployment.generation,
        groups=[group(entry, nodes) for entry in deployment.spec.groups],
        links=[
            models.Link(rel="self", href=here),
            *(models.Link(rel=part, href=f"{here}/{part}") for part in parts),
        ],
    )


def deployment(
    deployment: Deployment,
    nodes: Sequence[Node],
    states: Mapping[GroupName, GroupState],
    base: str,
) -> models.Deployment:
    """A deployment with what the last pass saw of its groups."""
    plain = listed(deployment, nodes, base)
    groups = [
        models.GroupNow(
            **entry.model_dump(by_alias=False),
            **asdict(states.get(GroupName(entry.name), GroupState())),
        )
        for entry in plain.groups
    ]
    return models.Deployment(**plain.model_dump(by_alias=False, exclude={"groups"}), groups=groups)


def resource(node: Node, spec: DeploymentSpec, base: str) -> models.Resource:
    above = base + path_of(node.deployment)
    here = f"{above}/resources/{quote(node.name, safe='')}"
    return models.Resource(
        uuid=node.name,
        creation_time=time(node.created_at),
        update_time=time(node.since),
        physical_id=node.instance,
        state=_STATES[node.state],
        tosca_node_name=node.group,
        tosca_node_type=COMPUTE,
        required_by=[entry.name for entry in spec.groups if node.group in entry.uses],
        phase=node.state,
        group=node.group,
        site=node.site,
        flavour=node.flavour,
        image=node.image,
        cores=node.cores,
        memory_mb=node.memory_mb,
        address=node.address,
        joined_at=_time(node.joined_at),
        pool=node.pool,
        missing_since=_time(node.missing_since),
        idle_since=_time(node.idle_since),
        attempts=node.attempts,
        outdated=node.outdated,
        refreshing=node.refreshing,
        reason=_reason(node.reason),
        links=[
            models.Link(rel="self", href=here),
            models.Link(rel="deployment", href=above),
            models.Link(rel="ssh", href=f"{here}/ssh"),
        ],
    )


def ssh(target: SshTarget) -> models.Ssh:
    return models.Ssh(
        user=target.user,
        address=target.address,
        port=22,
        host_keys=list(target.host_keys),
        key_file=target.key_file or None,
    )


def page(
    url: str, query: Mapping[str, object], number: int, size: int, total: int
) -> tuple[list[models.Link], models.PageInfo]:
    """Links and numbers of page ``number``; ``query`` is what else was asked for."""
    pages = -(-total // size)
    last = max(pages - 1, 0)
    targets = {"self": number, "first": 0, "last": last}
    if number > 0:
        targets["prev"] = min(number - 1, last)
    if number < last:
        targets["next"] = number + 1
    links = [
        models.Link(rel=rel, href=f"{url}?{urlencode({**query, 'page': target, 'size': size})}")
        for rel, target in targets.items()
    ]
    info = models.PageInfo(size=size, total_elements=total, total_pages=pages, number=number)
    return links, info


# --- plans and explanations ---------------------------------------------------------------------


def imports(found: Sequence[tuple[str, str]]) -> list[models.Imported]:
    return [models.Imported(name=name, sha256=digest) for name, digest in found]


def validated(spec: DeploymentSpec) -> models.Validated:
    return models.Validated(
        description=spec.description,
        groups=[group(entry) for entry in spec.groups],
        outputs=sorted(spec.outputs),
        imports=imports(spec.imports),
    )


def explanation(found: Explanation) -> models.Explanation:
    return models.Explanation(
        subject=found.subject,
        cause=reason(found.cause),
        evidence=[
            models.Reason(code="", sentence=entry, next_command="")
            if isinstance(entry, str)
            else reason(entry)
            for entry in found.evidence
        ],
        next_command=found.next_command,
    )


def check(found: Check) -> models.Check:
    return models.Check(
        name=found.name, ok=found.ok, detail=found.detail, reason=_reason(found.reason)
    )


def ready(problems: Sequence[reasons.Reason]) -> models.Ready:
    """``store`` and ``engine`` always; anything else that is wrong under its code."""
    checks = {"store": "store-unavailable", "engine": "engine-stopped"}
    found = {why.code: why for why in problems}
    entries = {name: found.pop(code, None) for name, code in checks.items()} | found
    return models.Ready(
        ready=not problems,
        checks=[
            models.ReadyCheck(name=name, ok=why is None, reason=_reason(why))
            for name, why in entries.items()
        ],
    )


# --- events -------------------------------------------------------------------------------------


def event(event: Event) -> models.Event:
    return models.Event(**{**asdict(event), "at": time(event.at)})


def line(event: Event) -> str:
    """An event as a line of the log; a message of several lines is indented under its first."""
    words = [time(event.at), event.node or "-", event.phase or "-", f"{event.kind.value}:"]
    message = event.message.rstrip().replace("\r", "").replace("\n", "\n    ")
    return " ".join([*words, message]) + (" [failed]" if event.failed else "")
