"""What ClassAds mean to us: pure functions over their evaluated values.

Memory is in MiB and disk in KiB, as HTCondor has them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import yaml

from orchestrator import data
from orchestrator.model import DeploymentId, JobShape, Machine, NodeName, Requirements

Scalar = str | int | float | bool
Ad = Mapping[str, Any]

NODE = "VacuoNode"
DEPLOYMENT = "VacuoDeployment"
SITE = "VacuoSite"
SITE_SAID = "GLIDEIN_Site"  # by which jobs and gliders know a site
# What the probes of the role node_validation say.
FIT, WHY_UNFIT = "VacuoNodeFit", "VacuoNodeWhy"

IDLE, RUNNING, REMOVED, COMPLETED, HELD = 1, 2, 3, 4, 5  # JobStatus
VANILLA = 5  # JobUniverse of everything that a startd runs, containers too

MACHINE_ATTRIBUTES = (
    "Name",
    "Cpus",
    "Memory",
    "TotalSlotCpus",
    "TotalSlotMemory",
    "SlotType",
    "State",
    "Activity",
    "DaemonStartTime",
    "AuthenticatedIdentity",
    NODE,
    DEPLOYMENT,
    FIT,
    WHY_UNFIT,
)

_ARCHITECTURES = {"x86_64": "X86_64", "amd64": "X86_64", "aarch64": "aarch64", "arm64": "aarch64"}

# What a startd of ours accepts, as far as it can be known before there is one.
MACHINE_REQUIREMENTS = (
    "TARGET.RequestCpus <= MY.Cpus && TARGET.RequestMemory <= MY.Memory "
    "&& TARGET.RequestDisk <= MY.Disk"
)


@cache
def _wanted() -> tuple[tuple[tuple[str, ...], str], ...]:
    """By which attributes of a machine which ClassAd expression must hold: the role's own."""
    path = data.directory("ansible") / "roles" / "htcondor_execute" / "vars" / "main.yml"
    rules = yaml.safe_load(path.read_text(encoding="utf-8"))["_htcondor_execute_wanted"]
    return tuple((tuple(rule["by"]), " ".join(rule["holds"].split())) for rule in rules)


def start_of(start: str, advertised: Mapping[str, Scalar]) -> str:
    """The whole of what a startd that says ``advertised`` and has the expression ``start`` asks of
    a job, as far as it is known before there is one."""
    said = {name.lower() for name, value in advertised.items() if value}
    holds = [holds for by, holds in _wanted() if said & {name.lower() for name in by}]
    return " && ".join(f"({one})" for one in [start or "true", *holds])


def wherever(advertised: Mapping[str, Scalar], sites: Sequence[str]) -> list[dict[str, Scalar]]:
    """What a machine says of itself at each of ``sites``; what it says anyway comes first."""
    return [{**({SITE_SAID: s} if s else {}), **advertised} for s in sites or ("",)]


def template_ad(
    need: Requirements, advertised: Mapping[str, Scalar], trust_domain: str = ""
) -> dict[str, Scalar]:
    """The ad of a machine that does not exist yet: one empty partitionable slot with all of
    ``need`` that says ``advertised``."""
    disk = need.disk_gb * 1024 * 1024
    ad: dict[str, Scalar] = {
        "MyType": "Machine",
        "TargetType": "Job",
        "Name": "slot1@template",
        "Machine": "template",
        "OpSys": "LINUX",
        "Arch": _ARCHITECTURES.get(need.architecture, need.architecture),
        "Cpus": need.cores,
        "Memory": need.memory_mb,
        "Disk": disk,
        "PartitionableSlot": True,
        "SlotType": "Partitionable",
        "State": "Unclaimed",
        "Activity": "Idle",
        "Start": True,
        "HasFileTransfer": True,
        "HasJobDeferral": True,
        "HasPerFileEncryption": True,
        "HasReconnect": True,
        "HasTDP": True,
        "HasFileTransferPluginMethods": "data,dav,davs,file,ftp,http,https",
        "CondorVersion": "$CondorVersion: 23.9.6 2024-08-08 $",
        "UidDomain": trust_domain,
    }
    for total in ("Cpus", "Memory", "Disk"):
        ad[f"Total{total}"] = ad[f"TotalSlot{total}"] = ad[total]
    # Attributes are names without case: what is advertised replaces ours however it is spelt.
    said = {name.lower() for name in advertised}
    return {k: v for k, v in ad.items() if k.lower() not in said} | dict(advertised)


def shapes(groups: Iterable[tuple[int, int, int]]) -> tuple[JobShape, ...]:
    """Shapes from (cores, memory in MiB, jobs), equal ones added up, the largest first."""
    counts: Counter[tuple[int, int]] = Counter()
    for cores, memory, count in groups:
        counts[max(1, cores), max(0, memory)] += count
    return tuple(JobShape(*key, count) for key, count in sorted(counts.items(), reverse=True))


def first_job(job_ids: str) -> tuple[int, int] | None:
    """The lowest job of an aggregated ad's ``JobIds`` (``"3.4 ... 3.7"``)."""
    word = job_ids.split(" ", 1)[0].rstrip(",")
    cluster, dot, process = word.partition(".")
    return (int(cluster), int(process)) if dot and (cluster + process).isdigit() else None


def machines(slots: Iterable[Ad], node_domain: str | None = None) -> list[Machine]:
    """Machines from slot ads, one for each node.

    With ``node_domain``, an ad counts only if the collector authenticated its sender as
    ``<node>@<node_domain>``: a startd cannot speak for another node.
    """
    by_node: defaultdict[tuple[str, str], list[Ad]] = defaultdict(list)
    for slot in slots:
        node, deployment = slot.get(NODE), slot.get(DEPLOYMENT)
        if not (isinstance(node, str) and isinstance(deployment, str) and node):
            continue
        if node_domain and slot.get("AuthenticatedIdentity") != f"{node}@{node_domain}":
            continue
        by_node[node, deployment].append(slot)
    return [_machine(*key, members) for key, members in sorted(by_node.items())]


def _machine(node: str, deployment: str, slots: Sequence[Ad]) -> Machine:
    # A partitionable slot tells its total and what is left of it; the dynamic slots cut from it
    # are part of that total.  Static slots stand for themselves.
    owners = [slot for slot in slots if slot.get("SlotType") != "Dynamic"]
    busy = [slot for slot in slots if _claimed(slot)]
    unfit = next((_unfit(slot) for slot in owners if slot.get(FIT) is False), "")
    # What starts no job is not free, whatever is left of it.
    free = [slot for slot in owners if not unfit and not _claimed(slot)]
    return Machine(
        name=str((owners or slots)[0].get("Name", node)).partition("@")[2] or node,
        node=NodeName(node),
        deployment=DeploymentId(deployment),
        cores=sum(_total(slot, "Cpus") for slot in owners),
        cores_free=sum(_number(slot, "Cpus") for slot in free),
        memory_mb=sum(_total(slot, "Memory") for slot in owners),
        memory_mb_free=sum(_number(slot, "Memory") for slot in free),
        jobs=len(busy),
        draining=bool(owners) and all(is_draining(slot) for slot in owners),
        started_at=float(min((_number(slot, "DaemonStartTime") for slot in slots), default=0)),
        unfit=unfit,
    )


def _unfit(slot: Ad) -> str:
    return str(slot.get(WHY_UNFIT) or "its probes do not say why")


def is_draining(slot: Ad) -> bool:
    """Whether the slot takes no new job because it was asked to drain."""
    return slot.get("State") == "Drained" or slot.get("Activity") == "Retiring"


def _claimed(slot: Ad) -> bool:
    # A claim without a running job is about to get one, or has just had one: it counts.
    return slot.get("State") in ("Claimed", "Preempting") and slot.get("SlotType") != (
        "Partitionable"
    )


def _total(slot: Ad, resource: str) -> int:
    total = slot.get(f"TotalSlot{resource}")
    return int(total) if isinstance(total, (int, float)) else _number(slot, resource)


def _number(slot: Ad, name: str) -> int:
    value = slot.get(name)
    return int(value) if isinstance(value, (int, float)) else 0


def clauses(expression: str) -> list[str]:
    """The parts of an expression that ``&&`` joins at its top, without parentheses around them."""
    expression = _unwrap(expression)
    parts, depth, start, quote, index = [], 0, 0, "", 0
    while index < len(expression):
        letter = expression[index]
        if quote:
            if letter == "\\":
                index += 1
            elif letter == quote:
                quote = ""
        elif letter in "\"'":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif depth == 0 and expression.startswith("||", index):
            return [expression]  # binds less than &&: the whole is one condition
        elif depth == 0 and expression.startswith("&&", index):
            parts.append(expression[start:index])
            start = index + 2
            index += 1
        index += 1
    parts.append(expression[start:])
    if len(parts) == 1:
        return [expression]
    return [clause for part in parts for clause in clauses(part)]


def _unwrap(expression: str) -> str:
    """Without the parentheses that enclose the whole of it."""
    expression = expression.strip()
    while expression.startswith("(") and expression.endswith(")"):
        depth, quoted = 0, False
        for index, letter in enumerate(expression):
            if letter == '"' and expression[index - 1] != "\\":
                quoted = not quoted
            depth += 0 if quoted else {"(": 1, ")": -1}.get(letter, 0)
            if depth == 0:
                break
        if index != len(expression) - 1:
            return expression
        expression = expression[1:-1].strip()
    return expression
