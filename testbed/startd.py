"""One startd in a container, joined with a credential: a worker without a host around it."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import docker
import requests
from docker.models.containers import Container

from testbed.engine import ContainerRequest, TestbedNetwork

CONFIGURATION = """\
DAEMON_LIST = MASTER STARTD
CONDOR_HOST = {collector}
COLLECTOR_HOST = {collector}
CCB_ADDRESS = $(COLLECTOR_HOST)
TRUST_DOMAIN = {trust_domain}
UID_DOMAIN = {trust_domain}
TRUST_UID_DOMAIN = True
STARTER_ALLOW_RUNAS_OWNER = False
SLOT1_USER = nobody
SEC_DEFAULT_AUTHENTICATION_METHODS = FS, IDTOKENS
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_ENCRYPTION = REQUIRED
ALLOW_READ = *@{trust_domain}
ALLOW_WRITE =
ALLOW_DAEMON = condor@{trust_domain}
# Whoever proves to hold this node's own key may drain it; nobody else may administer it.
ALLOW_ADMINISTRATOR = {administrator}

NUM_CPUS = {cores}
MEMORY = {memory_mb}
use feature:PartitionableSlot
START = True
# A drained machine lets its jobs run this long.
MAXJOBRETIREMENTTIME = 3600
VacuoNode = "{node}"
VacuoDeployment = "{deployment}"
VacuoSite = "testbed"
STARTD_ATTRS = $(STARTD_ATTRS) VacuoNode VacuoDeployment VacuoSite

UPDATE_INTERVAL = 5
MASTER_UPDATE_INTERVAL = 5
POLLING_INTERVAL = 2
STARTER_UPDATE_INTERVAL = 5
RUNBENCHMARKS = False
STARTD_DETECT_GPUS =
ENABLE_KERNEL_TUNING = False
{extra}
"""


@dataclass(frozen=True)
class StartdRequest:
    """What a startd is and says; ``token`` is its IDTOKEN, ``memory_mb`` in MiB."""

    node: str
    deployment: str
    collector: str
    trust_domain: str
    token: str = field(repr=False)
    cores: int = 2
    memory_mb: int = 1024
    drain_key: bytes = field(default=b"", repr=False)
    administrator: str = ""
    extra_configuration: str = ""


class Startd:
    """A startd container from :meth:`start` to :meth:`stop`."""

    def __init__(self, directory: Path, network: TestbedNetwork, request: StartdRequest) -> None:
        self.directory = directory.absolute() / request.node
        self.network = network
        self.request = request

    def start(self) -> Startd:
        request = self.request
        tokens = self.directory / "tokens"
        keys = self.directory / "keys"
        for directory in (tokens, keys):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if request.drain_key:
            (keys / request.node).touch(mode=0o600)
            (keys / request.node).write_bytes(request.drain_key)
        self.renew(request.token)
        (self.directory / "startd.conf").write_text(
            CONFIGURATION.format(
                collector=request.collector,
                trust_domain=request.trust_domain,
                cores=request.cores,
                memory_mb=request.memory_mb,
                node=request.node,
                deployment=request.deployment,
                administrator=request.administrator,
                extra=request.extra_configuration,
            )
        )
        self.network.run(
            ContainerRequest(
                request.node,
                ["tini", "--", "condor_master", "-f"],
                volumes={
                    self.directory / "startd.conf": ("/etc/condor/config.d/50-startd.conf", "ro"),
                    tokens: ("/etc/condor/tokens.d", "ro"),
                    keys: ("/etc/condor/passwords.d", "ro"),
                },
            )
        )
        return self

    def renew(self, token: str) -> None:
        """Put another token in the place of the old one."""
        path = self.directory / "tokens" / "vacuo"
        path.touch(mode=0o600)
        path.write_text(token + "\n")

    @property
    def container(self) -> Container:
        return self.network.container(self.request.node)

    def log(self, name: str) -> str:
        """The whole of a daemon's log, e.g. ``StartLog``."""
        return self.network.execute(self.request.node, "cat", f"/var/log/condor/{name}")[1]

    def stop(self) -> None:
        """End the startd at once, but let it take leave of its collector: a dead machine's ad
        would stay there for a quarter of an hour."""
        with contextlib.suppress(docker.errors.DockerException, requests.RequestException):
            self.container.kill("SIGQUIT")
            self.container.wait(timeout=10)
        self.network.remove_container(self.request.node)
        shutil.rmtree(self.directory, ignore_errors=True)
