"""The schedds of a pool as the helper process knows them, and what waits in their queues."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import classad2
import htcondor2

from orchestrator.batch import ads
from orchestrator.batch.htcondor_calls import ask_collector, collector_at, explain
from orchestrator.errors import Retryable

# Looking costs the schedd time that grows with its queue: we take this share of it.
SCHEDD_SHARE = 0.1
MINIMUM_AGE_SECONDS = 0.1
MAXIMUM_AGE_SECONDS = 5.0
LOCATE_SECONDS = 30.0
# A schedd whose ad has gone may be down with its jobs: it is not forgotten before this.
FORGET_SCHEDD_SECONDS = 900.0

SHAPE_BY = ("RequestCpus", "RequestMemory", "RequestDisk", "Requirements")
_SCHEDD_ADDRESS = ["MyAddress", "AddressV1", "CondorVersion", "CondorPlatform", "Name", "Machine"]
_COUNT_BY = ["JobStatus", "JobUniverse", "AutoClusterId"]
_IDLE = f"JobStatus == {ads.IDLE} && JobUniverse == {ads.VANILLA}"

T = TypeVar("T")
# Jobs that are alike: their ad, how many, the lowest one's id.
Group = tuple[classad2.ClassAd, int, tuple[int, int] | None]


@dataclass
class IdleJobs:
    """The idle jobs of one schedd, alike ones together."""

    groups: list[Group]
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

    def _count_idle(self, tell: frozenset[str]) -> list[Group]:
        if not tell <= self._told_by_autoclusters(tell):
            # No autocluster need tell these apart before there is a machine that asks.
            return self._grouped([*SHAPE_BY, *sorted(tell)])
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
        return self._grouped(SHAPE_BY)

    def _told_by_autoclusters(self, tell: frozenset[str]) -> frozenset[str]:
        """The attributes, in lower case, by which the schedd tells jobs apart by itself: all of
        its autoclusters are of one list."""
        if not tell:
            return tell
        found = self.query(_IDLE, ["AutoClusterAttrs"], limit=1)
        listed = found[0].get("AutoClusterAttrs") if found else None
        return frozenset(listed.lower().split(",") if isinstance(listed, str) else ())

    def _grouped(self, by: Sequence[str]) -> list[Group]:
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


def _group(shape: classad2.ClassAd, count: classad2.ClassAd) -> Group:
    ids = count.get("JobIds")
    return shape, int(count["JobCount"]), ads.first_job(ids) if isinstance(ids, str) else None


class Schedds:
    """Every schedd of one pool, by name."""

    def __init__(self) -> None:
        self._known: dict[str, ScheddClient] = {}
        self._located_at = -LOCATE_SECONDS

    def all(self, collector: str, names: Sequence[str]) -> list[ScheddClient]:
        """Every schedd that counts.

        :raises Retryable: one of them, or all, cannot be found: then nobody knows the demand.
        """
        now = time.monotonic()
        missing = [name for name in names if name not in self._known]
        if missing or not self._known or now - self._located_at > LOCATE_SECONDS:
            self._locate(collector, now)
        if names:
            missing = [name for name in names if name not in self._known]
            if missing:
                raise Retryable(f"The collector knows no schedd {', '.join(missing)}.")
            return [self._known[name] for name in names]
        if not self._known:
            raise Retryable("The collector knows no schedd.")
        return list(self._known.values())

    def _locate(self, collector: str, now: float) -> None:
        client = collector_at(collector)
        listed = ask_collector(lambda: client.query(htcondor2.AdType.Schedd, None, _SCHEDD_ADDRESS))
        for ad in listed:
            known = self._known.get(ad["Name"])
            if known and known.location["MyAddress"] == ad["MyAddress"]:
                known.listed_at = now
            else:
                self._known[ad["Name"]] = ScheddClient(ad["Name"], ad, now)
        self._known = {
            name: schedd
            for name, schedd in self._known.items()
            if now - schedd.listed_at < FORGET_SCHEDD_SECONDS
        }
        self._located_at = now
