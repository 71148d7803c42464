"""A small real HTCondor pool in one container: collector, negotiator and schedd, configured by the
role htcondor_pool, whose files are rendered for it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docker.models.containers import Container

from orchestrator.settings import Pool
from testbed.engine import ContainerRequest, TestbedNetwork
from testbed.roles import render

CONTAINER = "pool"
_ROLE = "htcondor_pool"
_USER_NUMBER = 20001
_ADDRESS = 10
_READY_SECONDS = 90.0


class CondorPool:
    """A pool that lives from :meth:`start` to :meth:`stop`.

    ``directory`` holds its configuration, its signing keys and the tokens; ``network`` may be
    shared with an origin and with startd containers.  ``user`` is an ordinary account that may
    submit jobs; Vacuo's own identity is ``vacuo@<trust domain>``.  ``variables`` are more of the
    role's, ``volumes`` more of the container's.
    """

    def __init__(
        self,
        directory: Path,
        network: TestbedNetwork,
        trust_domain: str = "vacuo.test",
        user: str = "alice",
        variables: Mapping[str, Any] | None = None,
        volumes: Mapping[Path, tuple[str, str]] | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self.network = network
        self.trust_domain = trust_domain
        self.user = user
        self.variables = dict(variables or {})
        self.volumes = dict(volumes or {})
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
        self._configure()
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

    def _configure(self) -> None:
        variables = {
            "htcondor_pool_collector": self.collector,
            "htcondor_pool_trust_domain": self.trust_domain,
            "htcondor_pool_users": {self.user: _USER_NUMBER},
            # A pool that reacts at once: the role's own choice is fit for a large one.
            "htcondor_pool_cycle_seconds": 2,
            **self.variables,
        }
        files = {
            "50-vacuo.conf": "50-vacuo.conf.j2",
            "mapfile": "mapfile.j2",
            "accounts": "accounts.j2",
        }
        self._role.mkdir(exist_ok=True, mode=0o755)
        render(self._role, {n: (_ROLE, source, variables) for n, source in files.items()})

    @property
    def _role(self) -> Path:
        return self.directory / "role"

    def _run_container(self) -> Container:
        # The account must exist before the schedd accepts a job of its owner.
        script = (
            "sh /etc/vacuo/htcondor_pool/accounts; "
            "install -d -o condor /var/lib/condor/spool; exec tini -- condor_master -f"
        )
        return self.network.run(
            ContainerRequest(
                CONTAINER,
                ["sh", "-c", script],
                address=self.address,
                volumes={
                    self._role / "50-vacuo.conf": ("/etc/condor/config.d/50-vacuo.conf", "ro"),
                    self._role: ("/etc/vacuo/htcondor_pool", "ro"),
                    self.signing_keys: ("/etc/condor/passwords.d", "rw"),
                    **self.volumes,
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
