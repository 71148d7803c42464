"""A small real HTCondor pool in one container: collector, negotiator, schedd, IDTOKENS only."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from docker.models.containers import Container

from orchestrator.settings import Pool
from testbed.engine import ContainerRequest, TestbedNetwork

CONTAINER = "pool"
_ADDRESS = 10
_READY_SECONDS = 90.0

CONFIGURATION = """\
# Collector, negotiator and schedd of the test bed.
DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR SCHEDD
CONDOR_HOST = {address}
COLLECTOR_HOST = $(CONDOR_HOST):9618
UID_DOMAIN = {trust_domain}
TRUST_DOMAIN = {trust_domain}

# Everybody proves who they are: the daemons among themselves by the file system, all others by
# IDTOKENS.
SEC_DEFAULT_AUTHENTICATION_METHODS = FS, IDTOKENS
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_ENCRYPTION = REQUIRED
SEC_DEFAULT_INTEGRITY = REQUIRED

# What docs/admin/pools.md asks an administrator for.
ALLOW_READ = *@{trust_domain}, *@nodes.{trust_domain}
ALLOW_WRITE =
SCHEDD.ALLOW_WRITE = {user}@{trust_domain}, vacuo@{trust_domain}
ALLOW_ADVERTISE_STARTD = *@nodes.{trust_domain}
ALLOW_ADVERTISE_MASTER = *@nodes.{trust_domain}, condor@{trust_domain}
ALLOW_ADVERTISE_SCHEDD = condor@{trust_domain}
ALLOW_DAEMON = condor@{trust_domain}
ALLOW_NEGOTIATOR = condor@{trust_domain}
ALLOW_ADMINISTRATOR = condor@{trust_domain}

# A pool that reacts at once: all of these are tens of seconds by default.
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_CYCLE_DELAY = 1
NEGOTIATOR_MIN_INTERVAL = 1
SCHEDD_INTERVAL = 5
SCHEDD_MIN_INTERVAL = 1
JOB_START_DELAY = 0
UPDATE_INTERVAL = 5

ENABLE_KERNEL_TUNING = False
{extra}
"""


class CondorPool:
    """A pool that lives from :meth:`start` to :meth:`stop`.

    ``directory`` holds its configuration, its signing keys and the tokens; ``network`` may be
    shared with an origin and with startd containers.  ``user`` is an ordinary account that may
    submit jobs; Vacuo's own identity is ``vacuo@<trust domain>``.
    """

    def __init__(
        self,
        directory: Path,
        network: TestbedNetwork,
        trust_domain: str = "vacuo.test",
        user: str = "alice",
        extra_configuration: str = "",
    ) -> None:
        self.directory = directory.absolute()
        self.network = network
        self.trust_domain = trust_domain
        self.user = user
        self.extra_configuration = extra_configuration
        self.signing_keys = self.directory / "signing-keys"
        self.tokens = self.directory / "tokens"

    @property
    def address(self) -> str:
        return self.network.address(_ADDRESS)

    @property
    def collector(self) -> str:
        return f"{self.address}:9618"

    @property
    def user_token(self) -> Path:
        """The ordinary user's IDTOKEN."""
        return self.tokens / self.user

    @property
    def vacuo_token(self) -> Path:
        """The IDTOKEN with which Vacuo speaks to the pool."""
        return self.tokens / "vacuo"

    def settings(self, name: str = "testbed") -> Pool:
        """The entry for this pool in ``vacuo.yaml``."""
        return Pool(
            name=name,
            collector=self.collector,
            trust_domain=self.trust_domain,
            token_file=self.vacuo_token,
            signing_key_directory=self.signing_keys,
        )

    def start(self) -> CondorPool:
        """Start the pool and wait until its schedd is in its collector and the tokens exist.

        Whatever a crash left of the same name is replaced.
        """
        for directory in (self.directory, self.signing_keys, self.tokens):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.network.ensure()
        (self.directory / "pool.conf").write_text(
            CONFIGURATION.format(
                address=self.address,
                trust_domain=self.trust_domain,
                user=self.user,
                extra=self.extra_configuration,
            )
        )
        self._run_container()
        self._wait_until_ready()
        self._make_token(self.user_token, self.user, ())
        self._make_token(self.vacuo_token, "vacuo", ("READ", "WRITE"))
        return self

    def stop(self) -> None:
        """Remove the pool's container and its directory; the network stays."""
        self.network.remove_container(CONTAINER)
        shutil.rmtree(self.directory, ignore_errors=True)

    def pause(self) -> None:
        """End the daemons without forgetting anything but the queue: the pool is unreachable."""
        self.network.container(CONTAINER).stop(timeout=0)

    def resume(self) -> None:
        """Start again after :meth:`pause`."""
        self.network.container(CONTAINER).start()
        self._wait_until_ready()

    def execute(self, *command: str) -> tuple[int, str]:
        """Run a command as root in the pool's container: its exit code and all of its output."""
        return self.network.execute(CONTAINER, *command)

    def _run_container(self) -> Container:
        # The account must exist before the schedd accepts a job of its owner.
        script = (
            f"id {self.user} >/dev/null 2>&1 || useradd --create-home {self.user}; "
            "exec tini -- condor_master -f"
        )
        return self.network.run(
            ContainerRequest(
                CONTAINER,
                ["sh", "-c", script],
                address=self.address,
                volumes={
                    self.directory / "pool.conf": ("/etc/condor/config.d/50-pool.conf", "ro"),
                    self.signing_keys: ("/etc/condor/passwords.d", "rw"),
                },
            )
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        query = ("condor_status", "-schedd", "-autoformat", "Name")
        while time.monotonic() < deadline:
            code, output = self.execute(*query)
            if code == 0 and output.strip() and (self.signing_keys / "POOL").exists():
                return
            time.sleep(0.1)
        raise TimeoutError(f"The pool did not come up in {_READY_SECONDS} s: {self._log()}")

    def _make_token(self, path: Path, account: str, scopes: Sequence[str]) -> None:
        limits = [word for scope in scopes for word in ("-authz", scope)]
        identity = f"{account}@{self.trust_domain}"
        code, output = self.execute("condor_token_create", "-identity", identity, *limits)
        if code != 0:
            raise RuntimeError(f"condor_token_create failed for {identity} with code {code}.")
        path.touch(mode=0o600)
        path.write_text(output)

    def _log(self) -> str:
        container = self.network.container(CONTAINER)
        return container.logs(tail=5).decode(errors="replace") or f"container {container.status}"
