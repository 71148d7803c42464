"""The helper process that speaks HTCondor: it alone imports ``htcondor2``.

Its configuration and its tokens are files named by ``CONDOR_CONFIG``; see
:mod:`orchestrator.batch.htcondor`, which writes them and calls the operations below.  Jobs'
expressions are evaluated here and not in the server, because anybody who may submit writes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import classad2
import htcondor2

from orchestrator.batch import ads
from orchestrator.batch.child import serve
from orchestrator.batch.htcondor_analysis import analyse
from orchestrator.batch.htcondor_calls import (
    ask_collector,
    collector_at,
    evaluate,
    explain,
    log_lines,
    log_to_ourselves,
    plain,
)
from orchestrator.batch.htcondor_schedds import SHAPE_BY, Schedds
from orchestrator.errors import Retryable, Terminal

# After its start a collector does not know the machines that it knew before.
SETTLE_SECONDS = 30.0

T = TypeVar("T")


class PoolClient:
    """The operations; ``collector`` and ``names`` (of schedds; empty is all) come with each call,
    so that this process needs no arguments."""

    def __init__(self) -> None:
        self._schedds = Schedds()
        self._knew_machines = False
        self._asked_to_drain: set[str] = set()  # addresses of startds
        self._collector_started: int | None = None
        self._job_attributes: set[str] = set()  # that machines of ours ask about, in lower case

    # --- operations ---

    def demand(
        self,
        collector: str,
        names: Sequence[str],
        machines: Sequence[tuple[dict[str, ads.Scalar], str]],
    ) -> dict[str, Any]:
        """Shapes [cores, memory, jobs] of the idle jobs that match every one of ``machines`` (what
        it says, and its START), and the oldest one's wait."""
        templates = [_machine(*machine) for machine in machines]
        self._job_attributes |= set[str]().union(*map(_job_attributes, templates))
        groups, oldest = [], None
        for schedd in self._schedds.all(collector, names):
            idle = schedd.idle_jobs(frozenset(self._job_attributes))
            matching = [g for g in idle.groups if all(_matches(m, g[0]) for m in templates)]
            groups += [
                (evaluate(ad, "RequestCpus", 1), evaluate(ad, "RequestMemory", 0), count)
                for ad, count, _ in matching
            ]
            first = min((job for _, _, job in matching if job), default=None)
            since = schedd.idle_since(first) if first else None
            oldest = min((moment for moment in (oldest, since) if moment), default=None)
        return {"shapes": groups, "oldest_wait": max(0.0, time.time() - oldest) if oldest else 0.0}

    def machines(self, collector: str) -> list[dict[str, Any]]:
        """The slot ads of every startd that names a node of ours."""
        client = collector_at(collector)
        if self._knew_machines:
            self._refuse_young_collector(client)
        constraint = f"{ads.NODE} =!= undefined"
        found = ask_collector(
            lambda: client.query(htcondor2.AdType.Startd, constraint, list(ads.MACHINE_ATTRIBUTES))
        )
        self._knew_machines = self._knew_machines or bool(found)
        return [plain(ad, ads.MACHINE_ATTRIBUTES) for ad in found]

    def drain(self, collector: str, deployment: str, node: str, reason: str) -> bool:
        """Ask the node's startd to drain; False if there is none."""
        client = collector_at(collector)
        slot = self._slot_of(client, deployment, node)
        if slot is None:
            return False
        if ads.is_draining(plain(slot, ("State", "Activity"))):
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
        for schedd in self._schedds.all(collector, names):
            schedd.ask(lambda found: found.reschedule())

    def why_idle(self, collector: str, names: Sequence[str], job: str) -> dict[str, Any] | None:
        """The facts from which the port tells why a job waits; None for an unknown job."""
        wanted, _, number = job.rpartition("#")
        cluster, _, process = number.partition(".")
        constraint = f"ClusterId == {int(cluster)} && ProcId == {int(process or 0)}"
        for schedd in self._schedds.all(collector, names):
            if wanted and wanted != schedd.name:
                continue
            for ad in schedd.query(constraint):
                return analyse(collector_at(collector), ad)
        return None

    # --- machines ---

    def _refuse_young_collector(self, client: htcondor2.Collector) -> None:
        found = ask_collector(
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
        found = ask_collector(lambda: client.query(htcondor2.AdType.Startd, constraint))
        return found[0] if found else None


def _machine(says: dict[str, ads.Scalar], start: str) -> classad2.ClassAd:
    machine = classad2.ClassAd(says)
    try:
        machine["Requirements"] = classad2.ExprTree(f"{ads.MACHINE_REQUIREMENTS} && {start}")
    except classad2.ClassAdException:
        raise Terminal(f"{start!r} is not a ClassAd expression.") from None
    return machine


def _job_attributes(machine: classad2.ClassAd) -> set[str]:
    """The attributes of jobs, besides the usual, that the machine's requirements ask about."""
    asked = machine.externalRefs(machine.lookup("Requirements"))
    names = {name.lower().removeprefix("target.") for name in asked if name}
    return {n for n in names if not n.startswith("my.")} - {n.lower() for n in SHAPE_BY}


def _matches(machine: classad2.ClassAd, job: classad2.ClassAd) -> bool:
    return bool(machine.symmetricMatch(job))


def _with_fresh_log(operation: Callable[..., T]) -> Callable[..., T]:
    def call(**arguments: Any) -> T:
        log_lines()
        return operation(**arguments)

    return call


def main() -> None:
    """Serve until standard input closes."""
    log_to_ourselves()
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
