"""A pool and a server with worker nodes only, for benchmarks."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from testbed.jobs import IDLE, Job
from testbed.main_job import POOL, MainJob

DIRECTORY = Path("build/bench-world")
WORKERS = Path(__file__).resolve().parent.parent / "tosca-templates" / "htcondor-workers.yaml"
PORT = 8431


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr)


@contextlib.contextmanager
def world() -> Iterator[MainJob]:
    """The main job's pool and server, without its deployment."""
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    job = MainJob(DIRECTORY, name="vacuo-bench", port=PORT)
    try:
        job.start(say)
        job.server.login()
        yield job
    finally:
        job.stop()


def deploy(job: MainJob, *parameters: str) -> None:
    """A deployment of worker nodes."""
    words = [word for text in (f"pool={POOL}", *parameters) for word in ("-p", text)]
    job.deployment = job.server.json("up", str(WORKERS), "--wait", *words)["deployment"]["uuid"]


def until(condition: Callable[[], bool], seconds: float, pause: float = 0.1) -> float:
    """Wait for ``condition``; the time at which it held."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition} did not hold within {seconds} s")
        time.sleep(pause)
    return time.time()


def started(job: Job) -> bool:
    return job.status != IDLE and job.started_at > 0
