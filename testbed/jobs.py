"""Real jobs, submitted by an ordinary user with her own token."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.batch.ads import COMPLETED, HELD, IDLE, RUNNING
from orchestrator.batch.child import ChildProcess
from testbed.pool import CondorPool

_CALL_SECONDS = 120.0

CONFIGURATION = """\
TRUST_DOMAIN = {trust_domain}
UID_DOMAIN = {trust_domain}
SEC_DEFAULT_AUTHENTICATION_METHODS = IDTOKENS
SEC_CLIENT_AUTHENTICATION = REQUIRED
SEC_CLIENT_ENCRYPTION = REQUIRED
SEC_TOKEN_DIRECTORY = {directory}/tokens
SEC_TOKEN_SYSTEM_DIRECTORY = {directory}/tokens
SEC_PASSWORD_DIRECTORY = {directory}/no-keys
USE_SHARED_PORT = False
LOCAL_DIR = {directory}
LOG = {directory}
RELEASE_DIR = /usr
"""


@dataclass(frozen=True)
class Job:
    """A job as its schedd shows it; times are seconds since the epoch, 0 where not known."""

    cluster: int
    process: int
    status: int
    exit_code: int | None = None
    hold_reason: str = ""
    host: str = ""
    submitted_at: float = 0.0
    started_at: float = 0.0
    executing_at: float = 0.0
    ended_at: float = 0.0

    @property
    def done(self) -> bool:
        return self.status == COMPLETED

    @property
    def executes(self) -> bool:
        """The schedd says that a job runs a moment before its machine has begun with it."""
        return self.status == RUNNING and self.executing_at >= self.started_at > 0

    @property
    def succeeded(self) -> bool:
        return self.done and self.exit_code == 0


@dataclass(frozen=True)
class JobRequest:
    """``count`` jobs that run the shell ``script``; memory is in MiB, disk in MB."""

    script: str
    count: int = 1
    arguments: str = ""
    cores: int = 1
    memory_mb: int = 64
    disk_mb: int = 50
    requirements: str = ""
    more: Mapping[str, str] | None = None


class Submitter:
    """The pool's ordinary user; outputs are under ``directory``."""

    def __init__(self, pool: CondorPool, directory: Path) -> None:
        self._pool = pool
        self.directory = directory.absolute()
        self._child = ChildProcess(
            "testbed.submitter",
            {
                "CONDOR_CONFIG": str(self.directory / "client.conf"),
                "PATH": os.environ.get("PATH", os.defpath),
                # The test bed is not installed: it is imported from the checkout.
                "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
            },
        )

    def submit(self, request: JobRequest) -> int:
        """Submit the jobs, their script spooled to the schedd; the number of their cluster."""
        self._prepare()
        script = self.directory / f"job-{time.monotonic_ns()}.sh"
        script.write_text(f"#!/bin/sh\n{request.script}\n")
        script.chmod(0o755)
        outputs = self.directory / "output" / "$(Cluster).$(Process)"
        description = {
            "executable": str(script),
            "arguments": request.arguments,
            "output": f"{outputs}.out",
            "error": f"{outputs}.err",
            "log": f"{self.directory}/output/$(Cluster).log",
            "should_transfer_files": "YES",
            "when_to_transfer_output": "ON_EXIT",
            "request_cpus": str(request.cores),
            "request_memory": str(request.memory_mb),
            "request_disk": f"{request.disk_mb}M",
            **(request.more or {}),
        }
        if request.requirements:
            description["requirements"] = request.requirements
        return int(self._call("submit", description=description, count=request.count, spool=True))

    def submit_bare(self, program: str) -> int:
        """Submit one job that runs a ``program`` of the machine, and brings and brings back
        nothing.  It waits at once, as a job does that is submitted on the access point; one that
        is spooled is held for a second by the schedd."""
        description = {
            "executable": program,
            "transfer_executable": "false",
            "should_transfer_files": "YES",
            "initialdir": "/tmp",
            "leave_in_queue": "true",  # as one that was spooled
            "request_cpus": "1",
            "request_memory": "64",
            "request_disk": "50M",
        }
        return int(self._call("submit", description=description, count=1, spool=False))

    def jobs(self, cluster: int | None = None) -> list[Job]:
        """The jobs of one cluster, or all of the queue, finished ones that were not retrieved
        too."""
        rows = self._call("query", constraint=_constraint(cluster))
        return [
            Job(
                cluster=row["ClusterId"],
                process=row["ProcId"],
                status=row["JobStatus"],
                exit_code=row.get("ExitCode"),
                hold_reason=row.get("HoldReason", ""),
                host=row.get("RemoteHost", row.get("LastRemoteHost", "")),
                submitted_at=float(row.get("QDate", 0)),
                started_at=float(row.get("JobCurrentStartDate", 0)),
                executing_at=float(row.get("JobCurrentStartExecutingDate", 0)),
                ended_at=float(row.get("CompletionDate", 0)),
            )
            for row in sorted(rows, key=lambda row: (row["ClusterId"], row["ProcId"]))
        ]

    def wait(self, cluster: int, seconds: float = 300.0) -> list[Job]:
        """The cluster's jobs once all have ended.

        :raises RuntimeError: a job was held.
        :raises TimeoutError: they had not all ended after ``seconds``.
        """
        return self._wait(cluster, seconds, lambda job: job.done)

    def wait_until_running(self, cluster: int, seconds: float = 300.0) -> list[Job]:
        """The cluster's jobs once every one executes, or has ended."""
        return self._wait(cluster, seconds, lambda job: job.executes or job.done)

    def wait_until_idle(self, cluster: int, seconds: float = 60.0) -> list[Job]:
        """The cluster's jobs once their input is spooled and they wait, or later."""
        return self._wait(cluster, seconds, lambda job: job.status in (IDLE, RUNNING, COMPLETED))

    def retrieve(self, cluster: int) -> list[tuple[Job, str]]:
        """Each job with what it wrote to standard output."""
        self._call("retrieve", constraint=_constraint(cluster))
        found = []
        for job in self.jobs(cluster):
            path = self.directory / "output" / f"{job.cluster}.{job.process}.out"
            found.append((job, path.read_text(errors="replace") if path.exists() else ""))
        return found

    def hold(self, cluster: int) -> None:
        self._call("act", action="Hold", constraint=_constraint(cluster))

    def remove(self, cluster: int | None = None) -> None:
        """Take one cluster, or everything, out of the queue."""
        self._call("act", action="Remove", constraint=_constraint(cluster))

    def close(self) -> None:
        self._child.close()

    def _wait(self, cluster: int, seconds: float, finished: Callable[[Job], bool]) -> list[Job]:
        deadline = time.monotonic() + seconds
        while True:
            jobs = self.jobs(cluster)
            # Held for a moment while its input is on the way (HoldReason "Spooling input data
            # files"); any other hold is for good.
            held = [j for j in jobs if j.status == HELD and "Spooling" not in j.hold_reason]
            if held:
                raise RuntimeError(f"Job {cluster}.{held[0].process}: {held[0].hold_reason}")
            if jobs and all(finished(job) for job in jobs):
                return jobs
            if time.monotonic() > deadline:
                raise TimeoutError(f"After {seconds} s: {jobs}")
            time.sleep(0.2)

    def _call(self, operation: str, **arguments: Any) -> Any:
        self._prepare()
        return self._child.call(
            operation, {"collector": self._pool.collector, **arguments}, _CALL_SECONDS
        )

    def _prepare(self) -> None:
        if (self.directory / "client.conf").exists():
            return
        for name in ("tokens", "no-keys", "output"):
            (self.directory / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        token = self.directory / "tokens" / "user"
        token.touch(mode=0o600)
        token.write_bytes(self._pool.user_token.read_bytes())
        configuration = CONFIGURATION.format(
            trust_domain=self._pool.trust_domain, directory=self.directory
        )
        (self.directory / "client.conf").write_text(configuration)


def _constraint(cluster: int | None) -> str:
    return "true" if cluster is None else f"ClusterId == {cluster}"
