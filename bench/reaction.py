"""How long from a job becoming idle until a machine is asked for.

Reference: a bare loop that asks the schedd once a second whether a job waits, run beside Vacuo
over the same jobs.  It has nothing to decide and asks for nothing.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Sequence
from datetime import datetime

from bench.figures import Figure
from bench.world import deploy, say, until, world
from testbed.jobs import IDLE, JobRequest, Submitter
from testbed.main_job import MainJob

ROUNDS = 9
GOAL_SECONDS = 1.0


def run() -> Sequence[Figure]:
    with world() as job:
        deploy(job, f"workers_maximum={ROUNDS}", "idle_time=10 s", "lifetime=1 h")
        plain = PlainLoop(job)
        delays = [_round(job, plain, number) for number in range(ROUNDS)]
        plain.stop()
        job.submitter.remove()
    ours = [delay for delay, _ in delays]
    theirs = [delay for _, delay in delays]
    median = statistics.median(ours)
    name = "a bare 1 s loop sees the job"
    return [
        Figure(
            "job idle to machine asked for, median",
            median,
            "s",
            name,
            statistics.median(theirs),
            f"at most {GOAL_SECONDS:g} s",
            median <= GOAL_SECONDS,
        ),
        Figure("the same, worst", max(ours), "s", name, max(theirs)),
    ]


def _round(job: MainJob, plain: PlainLoop, number: int) -> tuple[float, float]:
    """One more job than there are machines, at a moment that no loop can know."""
    time.sleep(1.0 + random.Random(number).random())
    known = {node["uuid"] for node in job.nodes()}
    cluster = job.submitter.submit(JobRequest("sleep 600"))
    idle = until(lambda: any(j.status == IDLE for j in job.submitter.jobs(cluster)), 10, 0.005)
    until(lambda: any(node["uuid"] not in known for node in job.nodes()), 60)
    new = next(node for node in job.nodes() if node["uuid"] not in known)
    asked = datetime.fromisoformat(new["creationTime"]).timestamp()
    seen = plain.seen(cluster)
    say(f"round {number + 1}: {asked - idle:.2f} s; the bare loop {seen - idle:.2f} s")
    return max(0.0, asked - idle), max(0.0, seen - idle)


class PlainLoop:
    """Looks once a second and remembers when it first saw each cluster idle."""

    def __init__(self, job: MainJob) -> None:
        self._submitter = Submitter(job.pool, job.directory / "plain")
        self._seen: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._stop.wait(1.0):
            for found in self._submitter.jobs():
                if found.status == IDLE:
                    self._seen.setdefault(found.cluster, time.time())

    def seen(self, cluster: int) -> float:
        until(lambda: cluster in self._seen, 30)
        return self._seen[cluster]

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._submitter.close()
