"""Why one job waits: its requirements against every machine, by HTCondor's own matching."""

from __future__ import annotations

import time
from typing import Any

import classad2
import htcondor2

from orchestrator.batch import ads
from orchestrator.batch.htcondor_calls import ask_collector, evaluate, text_of

_ANALYSED_MACHINES = 1000


def analyse(client: htcondor2.Collector, job: classad2.ClassAd) -> dict[str, Any]:
    """The facts from which :func:`orchestrator.batch.htcondor.explain_job` tells the reasons."""
    slots = ask_collector(lambda: client.query(htcondor2.AdType.Startd, 'SlotType =!= "Dynamic"'))[
        :_ANALYSED_MACHINES
    ]
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
        "hold_reason": text_of(job, "HoldReason"),
        "rejected": text_of(job, "LastRejMatchReason"),
        "waited": max(0, int(time.time()) - evaluate(job, "EnteredCurrentStatus", 0)),
        "machines": len(slots),
        "unmet": unmet,
        "fitting": len(fitting),
        "accepting": sum(slot.symmetricMatch(job) for slot in fitting),
        "free": sum(slot.symmetricMatch(job) for slot in slots),
        "cores": evaluate(job, "RequestCpus", 1),
        "memory_mb": evaluate(job, "RequestMemory", 0),
    }


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
