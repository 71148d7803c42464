"""The helper process that speaks HTCondor: the only place where ``htcondor2`` is imported.

Its configuration and its tokens are files named by ``CONDOR_CONFIG``; see
:mod:`orchestrator.batch.htcondor`, which writes them and calls the operations below.  Jobs'
expressions are evaluated here and not in the server, because anybody who may submit writes them.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import classad2
import htcondor2

from orchestrator.batch import ads
from orchestrator.batch.child import serve
from orchestrator.errors import PortError, Retryable, Terminal, Unauthorised

# Looking costs the schedd time that grows with its queue: we take this share of it.
SCHEDD_SHARE = 0.1
MINIMUM_AGE_SECONDS = 0.1
MAXIMUM_AGE_SECONDS = 5.0
LOCATE_SECONDS = 30.0
# A schedd whose ad has gone may be down with its jobs: it is not forgotten before this.
FORGET_SCHEDD_SECONDS = 900.0
# After its start a collector does not know the machines that it knew before.
SETTLE_SECONDS = 30.0
_ANALYSED_MACHINES = 1000

_SCHEDD_ADDRESS = ["MyAddress", "AddressV1", "CondorVersion", "CondorPlatform", "Name", "Machine"]
_COUNT_BY = ["JobStatus", "JobUniverse", "AutoClusterId"]
_SHAPE_BY = ["RequestCpus", "RequestMemory", "RequestDisk", "Requirements"]
_IDLE = f"JobStatus == {ads.IDLE} && JobUniverse == {ads.VANILLA}"

T = TypeVar("T")


@dataclass
class IdleJobs:
    """The idle jobs of one schedd, alike ones together: (ad, jobs, the lowest job's id)."""

    groups: list[tuple[classad2.ClassAd, int, tuple[int, int] | None]]
    told: frozenset[str]  # the attributes of jobs by which they were told apart, besides the usual
    seen_at: float
    cost: float

    def is_current(self, now: float, tell: frozenset[str]) -> bool:
        age = min(MAXIMUM_AGE_SECONDS, self.cost / SCHEDD_SHARE)
        return tell <= self.told and now - self.seen_at < max(MINIMUM_AGE_SECONDS, age)


@dataclass
class ScheddClient:
    """One schedd: where it is, and what was last seen in its queue."""

    name: str
    location: classad2.ClassAd
    listed_at: float
    idle: IdleJobs | None = None
    waiting_since: dict[tuple[int, int], float] = field(default_factory=dict)

    def query(self, *arguments: Any, **options: Any) -> list[classad2.ClassAd]:
        found: list[classad2.ClassAd] = self.ask(lambda schedd: schedd.query(*arguments, **options))
        return found

    def ask(self, question: Callable[[htcondor2.Schedd], T]) -> T:
        try:
            return question(htcondor2.Schedd(self.location))
        except htcondor2.HTCondorException as error:
            raise explain(error, f"Schedd {self.name}") from None

    def idle_jobs(self, tell: frozenset[str] = frozenset()) -> IdleJobs:
        """The idle jobs, told apart by what they ask for and by the attributes in ``tell``."""
        now = time.monotonic()
        if self.idle is None or not self.idle.is_current(now, tell):
            groups = self._count_idle(tell)
            after = time.monotonic()
            self.idle = IdleJobs(groups, tell, after, after - now)
        return self.idle

    def _count_idle(
        self, tell: frozenset[str]
    ) -> list[tuple[classad2.ClassAd, int, tuple[int, int] | None]]:
        if tell:
            # No autocluster need tell these apart before there is a machine that asks.
            return self._grouped([*_SHAPE_BY, *sorted(tell)])
        # The schedd's own autoclusters are ready made but count jobs of any status, so they are
        # counted by status apart, which is still five times cheaper than to build the groups anew.
        counts = self.query(_IDLE, _COUNT_BY, opts=htcondor2.QueryOpt.GroupBy)
        if not counts:
            return []
        if all(isinstance(ad.get("AutoClusterId"), int) for ad in counts):
            known = {
                ad.get("AutoClusterId"): ad
                for ad in self.query(opts=htcondor2.QueryOpt.AutoCluster)
            }
            if all(ad["AutoClusterId"] in known for ad in counts):
                return [_group(known[ad["AutoClusterId"]], ad) for ad in counts]
        # Jobs so new that they belong to no autocluster yet.
        return self._grouped(_SHAPE_BY)

    def _grouped(
        self, by: Sequence[str]
    ) -> list[tuple[classad2.ClassAd, int, tuple[int, int] | None]]:
        attributes = [*_COUNT_BY[:2], *by]
        found = self.query(_IDLE, attributes, opts=htcondor2.QueryOpt.GroupBy)
        return [_group(ad, ad) for ad in found]

    def idle_since(self, job: tuple[int, int]) -> float | None:
        """When the job became idle; asked once for each job."""
        if job not in self.waiting_since:
            constraint = f"ClusterId == {job[0]} && ProcId == {job[1]}"
            found = self.query(constraint, ["QDate", "EnteredCurrentStatus"])
            if not found:
                return None  # it has just left the queue
            since = found[0].get("EnteredCurrentStatus", found[0].get("QDate"))
            self.waiting_since = {job: float(since) if isinstance(since, int) else time.time()}
        return self.waiting_since[job]


def _group(
    shape: classad2.ClassAd, count: classad2.ClassAd
) -> tuple[classad2.ClassAd, int, tuple[int, int] | None]:
    ids = count.get("JobIds")
    return shape, int(count["JobCount"]), ads.first_job(ids) if isinstance(ids, str) else None


class PoolClient:
    """The operations; ``collector`` and ``names`` (of schedds; empty is all) come with each call,
    so that this process needs no arguments."""

    def __init__(self) -> None:
        self._schedds: dict[str, ScheddClient] = {}
        self._located_at = -LOCATE_SECONDS
        self._knew_machines = False
        self._asked_to_drain: set[str] = set()  # addresses of startds
        self._collector_started: int | None = None
        self._job_attributes: set[str] = set()  # that machines of ours ask about, in lower case

    # --- operations ---

    def demand(
        self, collector: str, names: Sequence[str], template: dict[str, ads.Scalar], start: str
    ) -> dict[str, Any]:
        """Shapes [cores, memory, jobs] of the idle jobs that match, and the oldest one's wait."""
        machine = classad2.ClassAd(template)
        requirements = f"{ads.MACHINE_REQUIREMENTS} && ({start or 'true'})"
        try:
            machine["Requirements"] = classad2.ExprTree(requirements)
        except classad2.ClassAdException:
            raise Terminal(f"{start!r} is not a ClassAd expression.") from None
        self._job_attributes |= _job_attributes(machine)
        groups, oldest = [], None
        for schedd in self._all_schedds(collector, names):
            idle = schedd.idle_jobs(frozenset(self._job_attributes))
            matching = [g for g in idle.groups if _matches(machine, g[0])]
            groups += [
                (_evaluate(ad, "RequestCpus", 1), _evaluate(ad, "RequestMemory", 0), count)
                for ad, count, _ in matching
            ]
            first = min((job for _, _, job in matching if job), default=None)
            since = schedd.idle_since(first) if first else None
            oldest = min((moment for moment in (oldest, since) if moment), default=None)
        return {"shapes": groups, "oldest_wait": max(0.0, time.time() - oldest) if oldest else 0.0}

    def machines(self, collector: str) -> list[dict[str, Any]]:
        """The slot ads of every startd that names a node of ours."""
        client = _collector(collector)
        if self._knew_machines:
            self._refuse_young_collector(client)
        constraint = f"{ads.NODE} =!= undefined"
        found = _ask_collector(
            lambda: client.query(htcondor2.AdType.Startd, constraint, list(ads.MACHINE_ATTRIBUTES))
        )
        self._knew_machines = self._knew_machines or bool(found)
        return [_plain(ad, ads.MACHINE_ATTRIBUTES) for ad in found]

    def drain(self, collector: str, deployment: str, node: str, reason: str) -> bool:
        """Ask the node's startd to drain; False if there is none."""
        client = _collector(collector)
        slot = self._slot_of(client, deployment, node)
        if slot is None:
            return False
        if ads.is_draining(_plain(slot, ("State", "Activity"))):
            return True
        address = slot["MyAddress"]
        try:
            htcondor2.Startd(slot).drainJobs(htcondor2.DrainType.Graceful, reason=reason)
        except htcondor2.HTCondorException as error:
            # A startd refuses a second request; its ad may not tell yet that it had the first.
            if address not in self._asked_to_drain:
                raise explain(error, f"The startd of node {node}") from None
        self._asked_to_drain.add(address)
        return True

    def reschedule(self, collector: str, names: Sequence[str]) -> None:
        """Ask every schedd to negotiate now."""
        for schedd in self._all_schedds(collector, names):
            schedd.ask(lambda found: found.reschedule())

    def why_idle(self, collector: str, names: Sequence[str], job: str) -> dict[str, Any] | None:
        """The facts from which the port tells why a job waits; None for an unknown job."""
        wanted, _, number = job.rpartition("#")
        cluster, _, process = number.partition(".")
        constraint = f"ClusterId == {int(cluster)} && ProcId == {int(process or 0)}"
        for schedd in self._all_schedds(collector, names):
            if wanted and wanted != schedd.name:
                continue
            for ad in schedd.query(constraint):
                return self._analyse(_collector(collector), ad)
        return None

    # --- schedds ---

    def _all_schedds(self, collector: str, names: Sequence[str]) -> list[ScheddClient]:
        """Every schedd that counts.

        :raises Retryable: one of them, or all, cannot be found: then nobody knows the demand.
        """
        now = time.monotonic()
        missing = [name for name in names if name not in self._schedds]
        if missing or not self._schedds or now - self._located_at > LOCATE_SECONDS:
            self._locate(collector, now)
        if names:
            missing = [name for name in names if name not in self._schedds]
            if missing:
                raise Retryable(f"The collector knows no schedd {', '.join(missing)}.")
            return [self._schedds[name] for name in names]
        if not self._schedds:
            raise Retryable("The collector knows no schedd.")
        return list(self._schedds.values())

    def _locate(self, collector: str, now: float) -> None:
        client = _collector(collector)
        listed = _ask_collector(
            lambda: client.query(htcondor2.AdType.Schedd, None, _SCHEDD_ADDRESS)
        )
        for ad in listed:
            known = self._schedds.get(ad["Name"])
            if known and known.location["MyAddress"] == ad["MyAddress"]:
                known.listed_at = now
            else:
                self._schedds[ad["Name"]] = ScheddClient(ad["Name"], ad, now)
        self._schedds = {
            name: schedd
            for name, schedd in self._schedds.items()
            if now - schedd.listed_at < FORGET_SCHEDD_SECONDS
        }
        self._located_at = now

    # --- machines ---

    def _refuse_young_collector(self, client: htcondor2.Collector) -> None:
        found = _ask_collector(
            lambda: client.query(
                htcondor2.AdType.Collector, None, ["DaemonStartTime", "MyCurrentTime"]
            )
        )
        started = [ad["DaemonStartTime"] for ad in found if "DaemonStartTime" in ad]
        if not started:
            return
        if self._collector_started is None:
            self._collector_started = min(started)
        age = time.time() - min(started)
        if min(started) != self._collector_started and age < SETTLE_SECONDS:
            raise Retryable(
                f"The collector started {age:.0f} s ago and does not know all its machines yet.",
                after=SETTLE_SECONDS - age,
            )
        self._collector_started = min(started)

    @staticmethod
    def _slot_of(
        client: htcondor2.Collector, deployment: str, node: str
    ) -> classad2.ClassAd | None:
        constraint = (
            f"{ads.NODE} == {classad2.quote(node)} && "
            f'{ads.DEPLOYMENT} == {classad2.quote(deployment)} && SlotType =!= "Dynamic"'
        )
        found = _ask_collector(lambda: client.query(htcondor2.AdType.Startd, constraint))
        return found[0] if found else None

    # --- analysis ---

    @staticmethod
    def _analyse(client: htcondor2.Collector, job: classad2.ClassAd) -> dict[str, Any]:
        slots = _ask_collector(
            lambda: client.query(htcondor2.AdType.Startd, 'SlotType =!= "Dynamic"')
        )[:_ANALYSED_MACHINES]
        empty = [_emptied(slot) for slot in slots]
        text = str(job.lookup("Requirements")) if "Requirements" in job else "true"
        unmet = []
        for clause in ads.clauses(text):
            condition = classad2.ExprTree(clause)
            if not any(_holds(condition, job, slot) for slot in empty):
                unmet.append(clause)
        fitting = [slot for slot in empty if _job_accepts(job, slot)]
        return {
            "status": job.get("JobStatus"),
            "hold_reason": _text(job, "HoldReason"),
            "rejected": _text(job, "LastRejMatchReason"),
            "waited": max(0, int(time.time()) - _evaluate(job, "EnteredCurrentStatus", 0)),
            "machines": len(slots),
            "unmet": unmet,
            "fitting": len(fitting),
            "accepting": sum(slot.symmetricMatch(job) for slot in fitting),
            "free": sum(slot.symmetricMatch(job) for slot in slots),
            "cores": _evaluate(job, "RequestCpus", 1),
            "memory_mb": _evaluate(job, "RequestMemory", 0),
        }


# --- talking to HTCondor --------------------------------------------------------------------------


def _collector(address: str) -> htcondor2.Collector:
    return htcondor2.Collector(address)


def _ask_collector(question: Callable[[], Iterable[classad2.ClassAd]]) -> list[classad2.ClassAd]:
    try:
        return list(question())
    except htcondor2.HTCondorException as error:
        raise explain(error, "The collector") from None


def explain(error: Exception, who: str = "HTCondor") -> PortError:
    """The port's error for ``error``: the library's own messages do not tell a refusal from a
    network that is down, but what it writes to its log on the way does."""
    detail = _log_lines()
    said = f"{error} {detail}"
    passing = re.search(r"deadline|timed? ?out|refused \(connect|failed to connect", said, re.I)
    refused = re.search(
        r"AUTHENTICATE:100[34]|DENIED|limited authorization|not authorized|permission", said, re.I
    )
    if refused and not passing:
        return Unauthorised(f"{who} refused Vacuo's credential: {detail or error}")
    return Retryable(f"{who} does not answer: {detail or error}")


# Standard error becomes this file: it is where the library logs, and nobody reads ours.
_LOG = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - as long as the process


def _log_lines() -> str:
    """What the library wrote to its log since the last call, without its time stamps."""
    _LOG.seek(0)
    text = _LOG.read().decode(errors="replace")
    _LOG.seek(0)
    _LOG.truncate()
    lines = [re.sub(r"^[\d/]+ [\d:.]+ (\(\S+\) )?", "", line) for line in text.splitlines()]
    return " ".join(line.strip() for line in lines if line.strip())[-500:]


# --- ClassAds -------------------------------------------------------------------------------------


def _plain(ad: classad2.ClassAd, names: Iterable[str]) -> dict[str, Any]:
    """The named attributes that have a plain value."""
    values = {}
    for name in names:
        if name in ad:
            value = ad.eval(name)
            if isinstance(value, (str, int, float, bool)) and not isinstance(value, classad2.Value):
                values[name] = value
    return values


def _evaluate(ad: classad2.ClassAd, name: str, default: int) -> int:
    value = _plain(ad, (name,)).get(name, default)
    return int(value) if isinstance(value, (int, float)) else default


def _text(ad: classad2.ClassAd, name: str) -> str:
    return str(_plain(ad, (name,)).get(name, ""))


def _job_attributes(machine: classad2.ClassAd) -> set[str]:
    """The attributes of jobs, besides the usual, that the machine's requirements ask about."""
    asked = machine.externalRefs(machine.lookup("Requirements"))
    names = {name.lower().removeprefix("target.") for name in asked if name}
    return {n for n in names if not n.startswith("my.")} - {n.lower() for n in _SHAPE_BY}


def _matches(machine: classad2.ClassAd, job: classad2.ClassAd) -> bool:
    return bool(machine.symmetricMatch(job))


def _holds(condition: classad2.ExprTree, job: classad2.ClassAd, slot: classad2.ClassAd) -> bool:
    return condition.eval(job, slot) is True


def _job_accepts(job: classad2.ClassAd, slot: classad2.ClassAd) -> bool:
    if "Requirements" not in job:
        return True
    return _holds(job.lookup("Requirements"), job, slot)


def _emptied(slot: classad2.ClassAd) -> classad2.ClassAd:
    """The slot as it will be when all its jobs have ended."""
    empty = classad2.ClassAd(str(slot))
    for resource in ("Cpus", "Memory", "Disk"):
        if f"TotalSlot{resource}" in slot:
            empty[resource] = slot[f"TotalSlot{resource}"]
    return empty


def _with_fresh_log(operation: Callable[..., T]) -> Callable[..., T]:
    def call(**arguments: Any) -> T:
        _log_lines()
        return operation(**arguments)

    return call


def main() -> None:
    """Serve until standard input closes."""
    os.dup2(_LOG.fileno(), 2)
    htcondor2.enable_debug()
    client = PoolClient()
    operations: list[Callable[..., Any]] = [
        client.demand,
        client.machines,
        client.drain,
        client.reschedule,
        client.why_idle,
    ]
    serve({each.__name__: _with_fresh_log(each) for each in operations}, explain)


if __name__ == "__main__":
    main()
