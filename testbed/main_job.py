"""The main job, end to end: a template is posted, jobs run in a real pool, everything vanishes.

``make demo`` shows it, ``tests/e2e`` proves it, the benchmarks time it: one piece of code.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.model import DeploymentId, NodeState
from orchestrator.providers.local import LocalProvider
from orchestrator.settings import Flavour, Site
from testbed.engine import TestbedNetwork
from testbed.jobs import JobRequest, Submitter
from testbed.origin import Origin
from testbed.pool import CondorPool
from testbed.server import FLAVOURS, VacuoServer

TEMPLATE = Path(__file__).resolve().parent.parent / "tosca-templates" / "htcondor-site.yaml"
POOL = "demo"
IDLE_SECONDS = 10

JOB_SCRIPT = """\
set -eu
file=$1
echo "began $(date +%s.%N)"
echo "host $(hostname)"
xrdcp --silent --force "$VACUO_XCACHE//data/$file" from-xcache
echo "xcache $(sha256sum < from-xcache | cut -d' ' -f1)"
curl --silent --show-error --fail --dump-header headers --output from-squid "http://$2/data/$file"
echo "squid $(sha256sum < from-squid | cut -d' ' -f1)"
if grep -qi '^cache-status:.*;hit\\|^x-cache: hit' headers; then echo "squid-hit yes"; fi
# The analysis: something to keep a core busy for a few seconds.
pass=0
while [ $pass -lt 150 ]; do sha256sum from-xcache from-squid > /dev/null; pass=$((pass + 1)); done
echo "ended $(date +%s.%N)"
"""

Say = Callable[[str], None]


@dataclass
class Summary:
    """What ``build/demo.json`` holds; times are in seconds."""

    jobs_done: int = 0
    checksums_right: int = 0
    xcache_hits: int = 0
    squid_hits: int = 0
    machines_peak: int = 0
    machines_left: int = 0
    unknown_instances: int = 0
    core_seconds_used: float = 0.0
    core_seconds_provided: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")


class MainJob:
    """One run, from an empty machine to an empty machine."""

    def __init__(self, directory: Path, *, name: str = "vacuo-demo", port: int = 8420) -> None:
        self.directory = directory.absolute()
        self.network = TestbedNetwork(name)
        self.pool = CondorPool(self.directory / "pool", self.network)
        self.origin = Origin(self.directory / "origin", self.network)
        self.submitter = Submitter(self.pool, self.directory / "jobs")
        self.port = port
        self.summary = Summary()
        self.deployment = DeploymentId("")
        self.cluster = 0
        self._server: VacuoServer | None = None

    @property
    def server(self) -> VacuoServer:
        if self._server is None:
            raise RuntimeError("The server was not started.")
        return self._server

    # --- the world around -----------------------------------------------------------------------

    def start(self, say: Say, site: Mapping[str, Any] | None = None) -> None:
        """The pool, the origin and the server; ``site`` changes fields of the server's site."""
        with self._phase("pool and origin"):
            say("Starting an HTCondor pool (collector, negotiator, schedd) and an XRootD origin.")
            self.pool.start()
            self.origin.start()
        with self._phase("server"):
            say(f"Starting Vacuo on 127.0.0.1:{self.port}: API, control loop, SQLite, issuer.")
            pool = self.pool.settings(POOL)
            directory = self.directory / "server"
            self._server = VacuoServer(directory, [pool], port=self.port, site=site).start()

    def stop(self) -> None:
        """Remove everything, whatever state it is in."""
        self.submitter.close()
        if self._server:
            self._server.stop()
            self._remove_hosts()
        self.network.remove()
        for name in ("pool", "origin"):
            shutil.rmtree(self.directory / name, ignore_errors=True)

    def provider(self) -> LocalProvider:
        """The server's site, looked at past the server: what is there whoever knows of it."""
        flavours = tuple(Flavour(**flavour) for flavour in FLAVOURS)  # type: ignore[arg-type]
        site = Site(name="local", provider="local", flavours=flavours)
        return LocalProvider(site, self.directory / "server" / "data")

    def _remove_hosts(self) -> None:
        provider = self.provider()
        for instance in provider.list(None):
            provider.delete(instance.id)

    # --- the story ------------------------------------------------------------------------------

    def post(self, say: Say, *parameters: str) -> None:
        """Log in and post the template."""
        with self._phase("login and post"):
            self.server.login()
            known = [
                f"pool={POOL}",
                f"xcache_origin={self.origin.xrootd}",
                f"idle_time={IDLE_SECONDS} s",
                "lifetime=1 h",
                *parameters,
            ]
            words = [word for parameter in known for word in ("-p", parameter)]
            say("vacuo login; vacuo up tosca-templates/htcondor-site.yaml --wait")
            made = self.server.json("up", str(TEMPLATE), "--wait", *words)
            self.deployment = DeploymentId(made["deployment"]["uuid"])

    def submit(self, say: Say, count: int = 8) -> None:
        """Jobs of an ordinary user, each reading one of the origin's files through both caches."""
        say(f"Submitting {count} jobs to the schedd as {self.pool.user}.")
        names = [Path(file.path).name for file in self.origin.files]
        picked = " ".join(names)
        script = (
            f'set -- {picked}\nshift $(($PICK % {len(names)}))\nset -- "$1" {self.origin.http}\n'
        )
        request = JobRequest(
            script + JOB_SCRIPT,
            count=count,
            # What the job fetched stays where it ran.
            more={"environment": '"PICK=$(Process)"', "transfer_output_files": '""'},
        )
        self.cluster = self.submitter.submit(request)
        self.submitted_at = time.time()

    def follow(self, show: Callable[[], None], seconds: float = 240.0) -> None:
        """Until all jobs have ended; ``show`` is called about once a second."""
        deadline = time.monotonic() + seconds
        first_started = 0.0
        while True:
            jobs = self.submitter.jobs(self.cluster)
            self._count_machines()
            started = [job.started_at for job in jobs if job.started_at]
            if started and not first_started:
                first_started = time.time()
                self.summary.phases["submit to first job"] = first_started - self.submitted_at
            show()
            if jobs and all(job.done for job in jobs):
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"The jobs had not ended after {seconds:.0f} s: {jobs}")
            time.sleep(0.5)
        self.summary.phases["submit to last job"] = time.time() - self.submitted_at
        self._judge()

    def vanish(self, show: Callable[[], None], seconds: float = 180.0) -> None:
        """Until the last machine has gone, without anybody asking."""
        began, deadline = time.monotonic(), time.monotonic() + seconds
        while self.nodes():
            self._count_machines()
            show()
            if time.monotonic() > deadline:
                raise TimeoutError(f"Machines were left after {seconds:.0f} s: {self.nodes()}")
            time.sleep(0.5)
        self.summary.phases["queue empty to no machine"] = time.monotonic() - began
        self._account()

    def down(self, say: Say) -> None:
        """Remove the deployment, and count what is left."""
        with self._phase("down"):
            say("vacuo down --wait")
            self.server.vacuo("down", self.deployment, "--wait")
        left = self.provider().list(None)
        known = {node["uuid"] for node in self.nodes()}
        self.summary.machines_left = len(left)
        self.summary.unknown_instances = sum(found.node not in known for found in left)

    # --- looking --------------------------------------------------------------------------------

    def nodes(self, everything: bool = False) -> list[dict[str, Any]]:
        """The deployment's nodes as the API shows them."""
        path = f"/deployments/{self.deployment}/resources?size=1000"
        path += "&all=true" if everything else ""
        return list(self.server.get(path)["content"])

    def _count_machines(self) -> None:
        there = sum(node["phase"] != NodeState.GONE for node in self.nodes())
        self.summary.machines_peak = max(self.summary.machines_peak, there)

    def _judge(self) -> None:
        """What the jobs wrote: are the checksums right, and who served the files?"""
        right = {file.sha256 for file in self.origin.files}
        reads = 0
        for job, output in self.submitter.retrieve(self.cluster):
            self.summary.jobs_done += job.succeeded
            found = dict(re.findall(r"^(\S+) (\S+)$", output, re.MULTILINE))
            good = found.get("xcache") in right and found.get("squid") == found.get("xcache")
            self.summary.checksums_right += good
            self.summary.squid_hits += found.get("squid-hit") == "yes"
            if job.succeeded:
                self.summary.core_seconds_used += float(found["ended"]) - float(found["began"])
            reads += "xcache" in found
        self.summary.xcache_hits = max(0, reads - self.origin.opens())

    def _account(self) -> None:
        """Core-seconds of the workers, from request until seen gone."""
        for node in self.nodes(everything=True):
            if node["group"] == "worker":
                ended = _seconds(node["updateTime"])
                lived = ended - _seconds(node["creationTime"])
                self.summary.core_seconds_provided += lived * node["cores"]

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.summary.phases[name] = time.monotonic() - began


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
