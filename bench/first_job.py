"""From a submitted job to its start, from zero machines, prepared and bare.

The prepared image is the one that ``vacuo image build`` makes of the template.

Reference: the floor.  The same startd container with the configuration that Vacuo gave its node,
started by hand in the same pool at the moment of the submission, with no host, no Ansible and no
orchestrator in the way.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.figures import Figure
from bench.world import DIRECTORY, WORKERS, deploy, say, started, until, world
from testbed.engine import ContainerRequest
from testbed.jobs import JobRequest
from testbed.main_job import POOL, MainJob

ROUNDS = 3
GOAL_RATIO = 2.0
GOAL_BARE_SECONDS = 90.0
_BY_HAND = "by-hand"
_PROGRAM = "/bin/true"
# As the role's unit does it.
_START = 'install -d -o condor "$(condor_config_val EXECUTE)" && exec condor_master -f'


def run() -> Sequence[Figure]:
    with world() as job, _prepared_image(job):
        deploy(job, "idle_time=10 s", "lifetime=1 h")
        copy = _copy_of_configuration(job)
        prepared = [_from_zero(job, f"prepared image {n + 1}") for n in range(ROUNDS)]
        until(lambda: not job.nodes(), 120)
        job.server.stop()  # nobody but us answers the next jobs
        floor = [_by_hand(job, copy, n) for n in range(ROUNDS)]
        job.server.start()
        job.server.login()
        job.server.vacuo("down", job.deployment, "--wait")
        deploy(job, "idle_time=10 s", "lifetime=1 h", "image=bare")
        bare = _from_zero(job, "bare image")
    median, bottom = statistics.median(prepared), statistics.median(floor)
    by_hand = "the same container by hand"
    return [
        Figure(
            "submit to first job, prepared image, median",
            median,
            "s",
            by_hand,
            bottom,
            f"at most {GOAL_RATIO:g} x",
            median <= GOAL_RATIO * bottom,
        ),
        Figure(
            "submit to first job, bare image",
            bare,
            "s",
            by_hand,
            bottom,
            f"at most {GOAL_BARE_SECONDS:g} s",
            bare <= GOAL_BARE_SECONDS,
        ),
    ]


@contextlib.contextmanager
def _prepared_image(job: MainJob) -> Iterator[None]:
    """The image of the worker nodes, as an operator builds it."""
    configuration = str(job.server.configuration_file)
    words = ("image", "build", str(WORKERS), "--config", configuration, "-p", f"pool={POOL}")
    built = job.server.json(*words)
    (entry,) = built["images"]
    say(f"prepared: {entry['image']}")
    try:
        yield
    finally:
        job.network.client.images.remove(entry["image"], force=True)


def _from_zero(job: MainJob, what: str) -> float:
    """One job, no machine; then the machine is left to vanish."""
    until(lambda: not job.nodes(), 120)
    seconds = _submit_and_wait(job)
    say(f"{what}: {seconds:.2f} s")
    return seconds


def _submit_and_wait(job: MainJob) -> float:
    began = time.time()
    cluster = job.submitter.submit_bare(_PROGRAM)
    at = until(lambda: any(started(found) for found in job.submitter.jobs(cluster)), 180, 0.05)
    job.submitter.wait(cluster)
    return at - began


def _copy_of_configuration(job: MainJob) -> Path:
    """What the role wrote on a node of ours, read from the node before it vanishes."""
    cluster = job.submitter.submit(JobRequest("sleep 5"))
    job.submitter.wait_until_running(cluster)
    node = next(node["uuid"] for node in job.nodes() if node["group"] == "worker")
    instance = next(i for i in job.provider().list(None) if i.node == node)
    container = job.network.client.containers.get(instance.id)
    target = DIRECTORY.absolute() / _BY_HAND
    for path in ("/etc/vacuo/htcondor_execute", "/run/vacuo/startd"):
        code, output = container.exec_run(["tar", "-C", path, "-c", "."])
        if code != 0:
            raise RuntimeError(f"tar of {path} on {node} ended with {code}.")
        directory = target / Path(path).name
        directory.mkdir(parents=True)
        subprocess.run(["tar", "-C", str(directory), "-x"], input=output, check=True)
    job.submitter.wait(cluster)
    return target


def _by_hand(job: MainJob, copy: Path, number: int) -> float:
    """The floor: submit, start the container, wait for the job."""
    configuration = copy / "htcondor_execute"
    volumes = {
        configuration / "config.d": ("/etc/condor/config.d", "ro"),
        configuration / "secrets" / "tokens.d": ("/etc/condor/tokens.d", "ro"),
        copy / "startd" / "host": ("/etc/condor/host", "ro"),
        copy / "startd" / "keys": ("/etc/condor/passwords.d", "ro"),
    }
    began = time.time()
    cluster = job.submitter.submit_bare(_PROGRAM)
    job.network.run(
        ContainerRequest(f"by-hand-{number}", ["tini", "--", "sh", "-c", _START], volumes=volumes)
    )
    at = until(lambda: any(started(found) for found in job.submitter.jobs(cluster)), 180, 0.05)
    job.submitter.wait(cluster)
    job.network.remove_container(f"by-hand-{number}")
    say(f"by hand {number + 1}: {at - began:.2f} s")
    return at - began
