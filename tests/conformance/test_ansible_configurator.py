"""The roles and the configurator on real hosts: what the services do, not which files exist.

One prepared host gets every service once; most tests look at it.  The pool and the origin are
real too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from provider_worlds import created

from orchestrator.batch.htcondor import HTCondorPool
from orchestrator.configure.ansible import AnsibleConfigurator
from orchestrator.configure.base import HostToConfigure, RoleCall, SecretFile, TaskEvent, TaskStatus
from orchestrator.errors import PortError, Retryable
from orchestrator.model import DeploymentId, InstanceState, NodeName, UserData
from orchestrator.providers.base import InstanceRequest
from orchestrator.providers.local import LocalProvider
from orchestrator.providers.podman_configuration import free_subnet, routed_networks
from orchestrator.settings import Flavour, Settings, Site, SiteLimits
from testbed.engine import ContainerRequest, TestbedNetwork
from testbed.jobs import JobRequest, Submitter
from testbed.origin import Origin
from testbed.pool import CondorPool
from testbed.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

PATIENCE_SECONDS = 180.0
OWNER = DeploymentId("configured")
FLAVOUR = Flavour(name="any", cores=1, memory_mb=3072, disk_gb=1)


@dataclass
class Place:
    """A site with hosts, an origin and a pool, and what configures the hosts."""

    directory: Path
    provider: LocalProvider
    configurator: AnsibleConfigurator
    origin: Origin
    pool: CondorPool
    batch: HTCondorPool

    def host(self, name: str, image: str = "") -> HostToConfigure:
        """A host that answers, with nothing to make of it yet."""
        user_data = UserData(authorized_keys=self.configurator.bootstrap().authorized_keys)
        wanted = InstanceRequest(name, OWNER, NodeName(name), "any", image, user_data)
        created(self.provider, wanted)

        def look() -> HostToConfigure | None:
            (found,) = [one for one in self.provider.list(OWNER) if one.name == name]
            if found.address and self.configurator.answers(found.address):
                with contextlib.suppress(Retryable):
                    keys = tuple(self.provider.host_keys(found.id))
                    return HostToConfigure(NodeName(name), found.address, keys, ())
            return None

        return eventually(look, f"{name} answering on ssh")  # type: ignore[no-any-return]

    def run(self, host: HostToConfigure, command: str) -> str:
        """Run a command on the host as root; it must succeed."""
        known = self.directory / f"known-{host.node}"
        known.write_text("".join(f"{host.address} {key}\n" for key in host.host_keys))
        options = ["-i", self.configurator.key_file(), "-o", f"UserKnownHostsFile={known}"]
        options += ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
        done = subprocess.run(
            ["ssh", *options, f"root@{host.address}", command],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def state(self, host: HostToConfigure) -> InstanceState:
        return next(one.state for one in self.provider.list(OWNER) if one.name == host.node)

    def caches(self) -> tuple[RoleCall, ...]:
        return (
            call("container_runtime"),
            call("squid", disk_mb=0),
            call("xcache", origin=self.origin.xrootd, canary_path="/data/file-0.dat")
            if self.origin.files
            else call("xcache", origin=self.origin.xrootd),
        )

    def execute(self, host: HostToConfigure, caches: str, **more: Any) -> RoleCall:
        credential = self.batch.join_credential(OWNER, host.node)
        join = dict(self.batch.join_attributes())
        return call(
            "htcondor_execute",
            secret=("token", "administrator_key"),
            **(join | {"token": credential.token, "administrator_key": credential.drain_key}),
            node=host.node,
            deployment=OWNER,
            site="test",
            memory_mb=1024,
            proxy=f"{caches}:3128",
            xcache=f"{caches}:1094",
            drain_seconds=60,
            **more,
        )


def call(role: str, secret: tuple[str, ...] = (), **variables: Any) -> RoleCall:
    named = {f"{role}_{name}": value for name, value in variables.items()}
    return RoleCall(
        f"vacuo.site.{role}", role, named, frozenset(f"{role}_{name}" for name in secret)
    )


def as_(host: HostToConfigure, *roles: RoleCall) -> HostToConfigure:
    return dataclasses.replace(host, roles=roles)


def last(events: list[TaskEvent], host: HostToConfigure) -> TaskEvent:
    """The host's last event, of which there must be exactly one."""
    (end,) = [event for event in events if event.node == host.node and event.status.ends]
    assert [event for event in events if event.node == host.node][-1] is end
    return end


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("place")
    name = f"vacuo-conf-{uuid.uuid4().hex[:6]}"
    network = TestbedNetwork(f"{name}-bed")
    site = Site(
        name="here",
        provider="local",
        images={
            "default": "localhost/vacuo/host:current",
            "bare": "localhost/vacuo/host-bare:current",
        },
        flavours=(FLAVOUR,),
        limits=SiteLimits(instances=8, cores=8, memory_mb=65536),
        network=name,
        subnet=free_subnet(directory, routed_networks()),
    )
    provider = LocalProvider(site, directory)
    origin = Origin(directory / "origin", network)
    pool = CondorPool(directory / "pool", network)
    try:
        pool.start()
        origin.start()
        yield Place(
            directory,
            provider,
            AnsibleConfigurator(Settings(data_directory=directory / "data")),
            origin,
            pool,
            HTCondorPool(pool.settings(), directory),
        )
    finally:
        for instance in provider.list(OWNER):
            provider.delete(instance.id)
        origin.stop()
        pool.stop()
        network.remove()
        for made in network.client.networks.list(names=[name]):
            made.remove()  # the site's own: a product keeps it, a test does not


@pytest.fixture(scope="module")
def first_run() -> list[TaskEvent]:
    """What the first run on :func:`served` told."""
    return []


@pytest.fixture(scope="module")
def served(place: Place, first_run: list[TaskEvent]) -> HostToConfigure:
    """A host with all services, its worker waiting for no more than its own caches."""
    plain = place.host("all-in-one")
    host = as_(plain, *place.caches(), place.execute(plain, "127.0.0.1", attributes={"Mark": 1}))
    first_run += place.configurator.apply([host], "first")
    assert last(first_run, host).status is TaskStatus.FINISHED, first_run[-1]
    return host


def through_squid(served: HostToConfigure, url: str) -> tuple[bytes, str]:
    proxy = urllib.request.ProxyHandler({"http": f"http://{served.address}:3128"})
    with urllib.request.build_opener(proxy).open(url, timeout=60) as answer:
        return answer.read(), answer.headers.get("Cache-Status", "")


def test_tasks_are_told_as_they_end(served: HostToConfigure, first_run: list[TaskEvent]) -> None:
    roles = {event.role.rpartition(".")[2] for event in first_run}
    assert {"container_runtime", "squid", "xcache", "htcondor_execute"} <= roles
    assert any(event.status is TaskStatus.CHANGED for event in first_run)
    times = [event.at for event in first_run]
    assert times == sorted(times)
    assert times[-1] > times[0]


def test_a_second_fetch_through_squid_is_a_hit(place: Place, served: HostToConfigure) -> None:
    url = f"http://{place.origin.http}/data/file-1.dat"
    first, told = through_squid(served, url)
    assert ";hit" not in told
    second, told = through_squid(served, url)
    assert ";hit" in told
    assert first == second
    assert place.origin.log().count("GET /data/file-1.dat") == 1


def test_squid_lets_nobody_reach_the_host_itself_through_it(served: HostToConfigure) -> None:
    for target in ("http://127.0.0.1:3128/squid-internal-mgr/counters", "http://127.0.0.1:22/"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            through_squid(served, target)
        assert caught.value.code == 403


def test_a_second_convergence_changes_nothing(place: Place, served: HostToConfigure) -> None:
    events = list(place.configurator.apply([served], "second"))
    assert last(events, served).status is TaskStatus.FINISHED
    assert [event for event in events if event.status is TaskStatus.CHANGED] == []


def test_without_mitogen_the_result_is_the_same(place: Place, served: HostToConfigure) -> None:
    plain = AnsibleConfigurator(Settings(data_directory=place.directory / "data"), mitogen=False)
    events = list(plain.apply([served], "plain"))
    assert last(events, served).status is TaskStatus.FINISHED
    assert [event for event in events if event.status is TaskStatus.CHANGED] == []


def test_where_mitogen_does_not_work_ansible_goes_on_without_it(
    place: Place, served: HostToConfigure, tmp_path: Path
) -> None:
    (tmp_path / "mitogen_free.py").write_text("raise ImportError('mitogen is too old')\n")
    configurator = AnsibleConfigurator(Settings(data_directory=place.directory / "data"))
    assert configurator.mitogen_in_use
    configurator._mitogen_plugins = str(tmp_path)
    host = as_(served, call("container_runtime"))
    events = list(configurator.apply([host], "fallback"))
    assert last(events, host).status is TaskStatus.FINISHED
    assert not configurator.mitogen_in_use


@pytest.mark.parametrize("mitogen", [True, False])
def test_a_host_that_is_not_the_one_we_know_gets_nothing(
    place: Place, served: HostToConfigure, mitogen: bool
) -> None:
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    configurator = AnsibleConfigurator(
        Settings(data_directory=place.directory / "data"), mitogen=mitogen
    )
    host = dataclasses.replace(served, host_keys=(other,))
    events = list(configurator.apply([host], "impostor"))
    assert last(events, host).status is TaskStatus.DISTRUSTED
    assert not any(event.status is TaskStatus.CHANGED for event in events)
    assert configurator.mitogen_in_use is mitogen


def test_a_worker_whose_token_was_renewed_survives_a_restart_of_the_collector(
    place: Place, tmp_path: Path
) -> None:
    settings = place.pool.settings("brief").model_copy(update={"join_token_seconds": 150})
    brief = HTCondorPool(settings, tmp_path)
    user = Submitter(place.pool, tmp_path / "user")
    try:
        plain = place.host("renewed")
        worker = dataclasses.replace(place, batch=brief).execute(plain, plain.address)
        worker = dataclasses.replace(
            worker,
            variables=worker.variables
            | {"htcondor_execute_proxy": "", "htcondor_execute_xcache": ""},
        )
        ends = time.time() + 150
        events = list(
            place.configurator.apply([as_(plain, call("container_runtime"), worker)], "renewed")
        )
        assert last(events, plain).status is TaskStatus.FINISHED, events[-1]

        def there() -> bool:
            with contextlib.suppress(Retryable):
                return any(one.node == plain.node and one.jobs for one in brief.machines())
            return False

        user.submit(JobRequest("sleep 900", requirements=f'TARGET.VacuoNode == "{plain.node}"'))
        eventually(there, "the job running")
        eventually(lambda: time.time() > ends + 1, "the end of the first token")
        credential = brief.join_credential(OWNER, plain.node)
        place.configurator.put_secret(plain, SecretFile(credential.file, credential.token + "\n"))
        assert place.run(plain, f"stat -c %a:%u {credential.file}") == "600:0\n"
        assert place.run(plain, f"ls -A {Path(credential.file).parent}") == "vacuo\n"
        place.pool.execute("condor_off", "-fast", "-collector")
        eventually(lambda: place.pool.execute("condor_on", "-collector")[0] == 0, "its restart")
        eventually(there, "the worker coming back with its job")
    finally:
        with contextlib.suppress(PortError):
            user.remove()
        user.close()
        brief.close()


def test_a_secret_is_put_on_the_host_that_we_know_and_nowhere_else(
    place: Place, served: HostToConfigure
) -> None:
    path = "/etc/vacuo/htcondor_execute/secrets/tokens.d/vacuo"
    before = place.run(served, f"cat {path}")
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    for host, file in (
        (dataclasses.replace(served, host_keys=(other,)), SecretFile(path, "x")),
        (dataclasses.replace(served, host_keys=()), SecretFile(path, "x")),
        (served, SecretFile("/etc/vacuo/no-such-directory/file", "x")),
        (served, SecretFile(f"{path}; touch /it-ran", "x")),
    ):
        with pytest.raises(PortError):
            place.configurator.put_secret(host, file)
    assert place.run(served, f"cat {path}") == before
    place.run(served, "test ! -e /it-ran")


def test_users_text_does_not_run_on_the_controller_and_secrets_are_not_told(
    place: Place, served: HostToConfigure, first_run: list[TaskEvent], tmp_path: Path
) -> None:
    marker = tmp_path / "it-ran"
    text = f"{{{{ lookup('pipe', 'touch {marker}') }}}}"
    calls = [
        dataclasses.replace(one, variables=one.variables | {"htcondor_execute_site": text})
        if one.role.endswith("htcondor_execute")
        else one
        for one in served.roles
    ]
    host = as_(served, *calls)
    events = list(place.configurator.apply([host], "evil"))
    assert last(events, host).status is TaskStatus.FINISHED
    assert not marker.exists()
    assert text in place.run(served, "cat /etc/vacuo/htcondor_execute/config.d/50-vacuo.conf")
    # The same events and logs must not hold what was secret in them.
    token = str(served.roles[-1].variables["htcondor_execute_token"])
    assert token in place.run(served, "cat /etc/vacuo/htcondor_execute/secrets/tokens.d/vacuo")
    assert token not in repr(events) + repr(first_run)
    kept = [path for path in (place.directory / "data").rglob("*") if path.is_file()]
    assert not [path for path in kept if token.encode() in path.read_bytes()]
    assert list((place.directory / "data/ansible/runs").iterdir()) == []
    list(place.configurator.apply([served], "mended"))


def test_a_wrong_value_fails_one_host_with_a_sentence_and_not_the_other(
    place: Place, served: HostToConfigure
) -> None:
    ghost = dataclasses.replace(served, node=NodeName("ghost"), address="192.0.2.1")
    bad = as_(ghost, call("squid", port="lots {{ 1 }}"))
    refused = as_(dataclasses.replace(served, node=NodeName("refused")), call("squid", port=70000))
    events = list(place.configurator.apply([refused, as_(served, call("squid", disk_mb=0))], "one"))
    assert last(events, refused).status is TaskStatus.FAILED
    assert "squid_port must be a port" in last(events, refused).message
    assert last(events, served).status is TaskStatus.FINISHED
    events = list(place.configurator.apply([bad], "two"))
    assert last(events, bad).status is TaskStatus.FAILED
    assert "squid_port" in last(events, bad).message


def test_a_job_runs_there_with_the_caches_in_its_environment(
    place: Place, served: HostToConfigure
) -> None:
    submitter = Submitter(place.pool, place.directory / "jobs")
    file = place.origin.files[2]
    script = (
        f"xrdcp --silent $VACUO_XCACHE//{file.path.lstrip('/')} - | sha256sum; echo $http_proxy"
    )
    with contextlib.closing(submitter):
        cluster = submitter.submit(JobRequest(script, requirements="Mark == 1"))
        submitter.wait(cluster)
        ((job, output),) = submitter.retrieve(cluster)
    assert job.succeeded
    assert file.sha256 in output
    assert "http://127.0.0.1:3128" in output
    (machine,) = [one for one in place.batch.machines() if one.node == served.node]
    assert (machine.deployment, machine.memory_mb) == (OWNER, 1024)


def test_a_startd_that_is_stopped_lets_its_job_finish_and_the_host_stays(
    place: Place, served: HostToConfigure
) -> None:
    submitter = Submitter(place.pool, place.directory / "drained")
    with contextlib.closing(submitter):
        cluster = submitter.submit(JobRequest("sleep 15; echo whole", requirements="Mark == 1"))
        submitter.wait_until_running(cluster)
        place.run(served, "systemctl stop vacuo-startd")
        submitter.wait(cluster)
        ((job, output),) = submitter.retrieve(cluster)
    assert job.succeeded
    assert output.strip() == "whole"
    assert place.state(served) is InstanceState.RUNNING
    place.run(served, "systemctl start vacuo-startd && vacuo-startd ready")


def test_a_file_read_once_is_served_without_the_origin(
    place: Place, served: HostToConfigure
) -> None:
    file = place.origin.files[3]
    url = f"root://{served.address}:1094//{file.path.lstrip('/')}"
    network = place.origin.network
    network.run(ContainerRequest("client", ["sleep", "600"]))
    read = ("sh", "-c", f"xrdcp --silent {url} - | sha256sum")
    _, cold = network.execute("client", *read)
    assert cold.startswith(file.sha256)
    before = place.origin.opens()
    network.container("origin").stop(timeout=1)
    try:
        _, warm = network.execute("client", *read)
        assert warm.startswith(file.sha256)
        with urllib.request.urlopen(f"http://{served.address}:1094{file.path}", timeout=60) as http:
            assert len(http.read()) == file.size
    finally:
        network.container("origin").start()
        network.remove_container("client")
    assert before >= 1


def test_closing_the_iterator_ends_the_run_and_leaves_nothing(
    place: Place, served: HostToConfigure
) -> None:
    events = place.configurator.apply([served], "closed")
    next(iter(events))
    runs = place.directory / "data/ansible/runs"
    assert processes_of(runs)
    events.close()  # type: ignore[attr-defined]
    assert processes_of(runs) == []
    assert list(runs.iterdir()) == []


def test_a_server_that_is_killed_leaves_no_process_and_no_secret(
    place: Place, served: HostToConfigure
) -> None:
    data = place.directory / "killed"
    runs = data / "ansible/runs"
    (data / "ansible").mkdir(parents=True)
    key = data / "ansible/id_ed25519"
    key.touch(mode=0o600)
    key.write_bytes(Path(place.configurator.key_file()).read_bytes())
    server = os.fork()
    if server == 0:
        with contextlib.suppress(BaseException):
            list(AnsibleConfigurator(Settings(data_directory=data)).apply([served], "killed"))
        os._exit(0)
    eventually(lambda: len(processes_of(runs)) > 1, "the run starting")
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)
    eventually(lambda: not processes_of(runs), "the end of the run's processes")
    assert list(runs.iterdir()) != []
    AnsibleConfigurator(Settings(data_directory=data))
    assert list(runs.iterdir()) == []


def test_an_idle_worker_leaves_the_pool_and_powers_its_host_off(
    place: Place, served: HostToConfigure
) -> None:
    plain = place.host("comes-and-goes")
    worker = place.execute(
        plain, served.address, idle_seconds=15, at_end="poweroff", lifetime_seconds=3600
    )
    host = as_(plain, call("container_runtime"), worker)
    events = list(place.configurator.apply([host], "worker"))
    assert last(events, host).status is TaskStatus.FINISHED
    eventually(
        lambda: [one for one in place.batch.machines() if one.node == host.node],
        "the worker joining",
    )
    eventually(lambda: place.state(host) is InstanceState.STOPPED, "the host powering off")


def test_a_worker_does_not_start_before_its_caches_answer(
    place: Place, served: HostToConfigure
) -> None:
    plain = place.host("waits")
    worker = place.execute(plain, served.address, wait_for=[f"{plain.address}:7777"])
    host = as_(plain, call("container_runtime"), worker)
    events = list(place.configurator.apply([host], "waits"))
    assert last(events, host).status is TaskStatus.FINISHED
    assert "ExecStart" not in place.run(host, "podman ps --format '{{.Names}}'")
    assert place.run(host, "systemctl is-active vacuo-startd || true").strip() == "activating"
    place.run(host, "systemd-run -q python3 -m http.server 7777")
    place.run(host, "vacuo-startd ready")


def test_a_bare_host_gets_a_container_runtime_that_works(place: Place) -> None:
    plain = place.host("bare", image="bare")
    host = as_(plain, call("container_runtime"))
    events = list(place.configurator.apply([host], "bare"))
    assert last(events, host).status is TaskStatus.FINISHED, last(events, host)
    command = "podman run --rm localhost/vacuo/services:current echo it-runs"
    assert "it-runs" in place.run(host, command)
    events = list(place.configurator.apply([host], "bare-again"))
    assert [event for event in events if event.status is TaskStatus.CHANGED] == []


def test_cvmfs_that_cannot_be_had_fails_with_a_sentence_or_is_left_out(
    place: Place, served: HostToConfigure
) -> None:
    wish = {"repositories": ["cms.cern.ch"], "manage_repo": False}
    needed = as_(served, call("cvmfs", **wish))
    end = last(list(place.configurator.apply([needed], "cvmfs")), needed)
    assert end.status is TaskStatus.FAILED
    assert "CVMFS is required and not installed" in end.message
    assert "no package source of this host has cvmfs" in end.message
    optional = as_(served, call("cvmfs", required=False, **wish))
    end = last(list(place.configurator.apply([optional], "cvmfs-optional")), optional)
    assert end.status is TaskStatus.FINISHED


def test_a_service_can_be_taken_away_again(place: Place, served: HostToConfigure) -> None:
    host = as_(served, call("xcache", state="absent"))
    assert last(list(place.configurator.apply([host], "away")), host).status is TaskStatus.FINISHED
    assert "vacuo-xcache" not in place.run(served, "podman ps -a --format '{{.Names}}'")
    assert place.run(served, "ls /etc/vacuo /var/cache/vacuo").count("xcache") == 0
    events = list(place.configurator.apply([host], "away-again"))
    assert [event for event in events if event.status is TaskStatus.CHANGED] == []


def processes_of(runs: Path) -> list[int]:
    """The processes whose command line names a run below ``runs``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(runs).encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found


def test_the_pool_may_drain_the_worker_with_the_key_that_the_role_brought(
    place: Place, served: HostToConfigure
) -> None:
    def look() -> list[bool]:
        return [one.draining for one in place.batch.machines() if one.node == served.node]

    eventually(look, "the worker being in the pool")
    assert look() == [False]
    place.batch.drain(OWNER, served.node)
    eventually(lambda: look() == [True], "the worker draining")
