"""An HTCondor pool: demand from its schedds, machines from its collector, IDTOKENS to join it.

What Vacuo may do in the pool is little: its token needs READ, and WRITE at the schedds for
:meth:`HTCondorPool.reschedule`.  It can drain a node without any right in the pool, because every
node is given a key of its own with which only Vacuo's drain requests are signed.
``docs/admin/pools.md`` tells an administrator what to allow.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orchestrator.batch import ads, idtokens
from orchestrator.batch.base import TOKEN_FILE, JoinCredential
from orchestrator.batch.child import ChildProcess
from orchestrator.batch.given import GivenToken
from orchestrator.batch.owners import owners_token, token_wanted
from orchestrator.errors import PortError, Retryable, Unauthorised
from orchestrator.model import (
    Demand,
    DeploymentId,
    JobId,
    Machine,
    NodeName,
    Requirements,
    TokenWanted,
)
from orchestrator.reasons import Reason, reason
from orchestrator.settings import Pool

JOIN_SCOPES = ("ADVERTISE_STARTD", "ADVERTISE_MASTER", "READ")
DRAIN_TOKEN_SECONDS = 300
CALL_SECONDS = 20.0
_CHILD = "orchestrator.batch.htcondor_child"
_OUR_TOKEN = "vacuo"  # noqa: S105 - the name of a file

CLIENT_CONFIGURATION = """\
# Written by Vacuo for its own client of this pool; changes are overwritten.
TRUST_DOMAIN = {trust_domain}
SEC_DEFAULT_AUTHENTICATION_METHODS = IDTOKENS
SEC_CLIENT_AUTHENTICATION = {authentication}
SEC_CLIENT_ENCRYPTION = {authentication}
SEC_CLIENT_INTEGRITY = {authentication}
SEC_TOKEN_DIRECTORY = {directory}/tokens
SEC_TOKEN_SYSTEM_DIRECTORY = {directory}/tokens
SEC_PASSWORD_DIRECTORY = {directory}/no-keys
LOCAL_DIR = {directory}
LOG = {directory}
RELEASE_DIR = /usr
# A request to drain comes back through the collector's CCB to a port of this process.
USE_SHARED_PORT = False
# A call is to fail before its caller gives up.
QUERY_TIMEOUT = 8
SEC_DEFAULT_AUTHENTICATION_TIMEOUT = 8
SEC_TCP_SESSION_TIMEOUT = 8
TOOL_TIMEOUT_MULTIPLIER = 0
DEAD_COLLECTOR_MAX_AVOIDANCE_TIME = 0
TOOL_DEBUG = D_ALWAYS
"""


class HTCondorPool:
    """The :class:`~orchestrator.batch.base.BatchPool` of a real pool.

    ``data_directory`` is the server's; what is kept there for this pool (its client's
    configuration, the secret from which drain keys are made) is in ``pools/<name>``.  Safe to use
    from many threads; pools with different tokens and trust domains do not meet.  ``fetch`` gives
    the token of ``options.join_token_path``, which is in a Vault.
    """

    def __init__(
        self, settings: Pool, data_directory: Path, fetch: Callable[[], str] | None = None
    ) -> None:
        self._pool = settings
        self._given = GivenToken(settings, fetch)
        self._directory = data_directory.absolute() / "pools" / settings.name
        self._keys = (
            idtokens.SigningKeys(settings.signing_key_directory)
            if settings.signing_key_directory
            else None
        )
        environment = {
            "CONDOR_CONFIG": str(self._directory / "client.conf"),
            "PATH": os.environ.get("PATH", os.defpath),
        }
        # A drain may wait for a host that is gone; looking must not wait for it.
        self._queries = ChildProcess(_CHILD, environment)
        self._commands = ChildProcess(_CHILD, environment)
        self._token_seen: tuple[int, int] | None = None

    def close(self) -> None:
        """End the helper processes; a later call starts them again."""
        self._queries.close()
        self._commands.close()

    # --- what is seen ---

    def demand(
        self,
        need: Requirements,
        advertised: Mapping[str, str | int | float | bool],
        start: str = "",
        sites: Sequence[str] = (),
    ) -> Demand:
        machines = [
            (ads.template_ad(need, said, self._trust_domain), ads.start_of(start, said))
            for said in ads.wherever(advertised, sites)
        ]
        names = list(self._pool.schedds)
        seen = self._call(self._queries, "demand", names=names, machines=machines)
        groups = [(int(cores), int(memory), int(count)) for cores, memory, count in seen["shapes"]]
        return Demand(ads.shapes(groups), float(seen["oldest_wait"]))

    def machines(self) -> Sequence[Machine]:
        slots = self._call(self._queries, "machines")
        # Identities that we did not give out are not ours to judge.
        return ads.machines(slots, self._node_domain if self._keys else None)

    def why_idle(self, job: JobId) -> Sequence[Reason]:
        number = job.rpartition("#")[2]
        if not all(part.isdigit() for part in number.split(".", 1)):
            return (reason("job-unknown", job=job, pool=self._pool.name),)
        facts = self._call(self._queries, "why_idle", names=list(self._pool.schedds), job=job)
        if facts is None:
            return (reason("job-unknown", job=job, pool=self._pool.name),)
        return explain_job(job, self._pool.name, facts)

    # --- credentials ---

    def token_wanted(self) -> TokenWanted | None:
        return token_wanted(self._pool)

    def join_credential(
        self, deployment: DeploymentId, node: NodeName, token: str = ""
    ) -> JoinCredential:
        drain_key = base64.b64encode(self._drain_key(deployment, node)).decode()
        if self.token_wanted():
            found = owners_token(self._pool, token, time.time())
            return replace(found, drain_key=drain_key, file=TOKEN_FILE)
        if self._keys is None:
            return replace(self._given.credential(), drain_key=drain_key, file=TOKEN_FILE)
        now = time.time()
        identity = f"{node}@{self._node_domain}"
        made = idtokens.mint(
            self._keys.get_or_create(deployment),
            deployment,
            issuer=self._trust_domain,
            identity=identity,
            scopes=JOIN_SCOPES,
            issued_at=now,
            lifetime_seconds=self._pool.join_token_seconds,
        )
        ends = now + self._pool.join_token_seconds
        return JoinCredential(made, identity, ends, drain_key, TOKEN_FILE)

    def credential_seconds(self) -> float:
        # Of a foreign pool too: its administrator puts a new token into the file now and then.
        return float(self._pool.join_token_seconds)

    def join_attributes(self) -> Mapping[str, str]:
        return {
            "collector": self._pool.collector,
            "trust_domain": self._trust_domain,
            "administrator": self._administrator,
        }

    def revoke(self, deployment: DeploymentId) -> None:
        if self._keys is not None:
            self._keys.delete(deployment)

    # --- what is done ---

    def drain(self, deployment: DeploymentId, node: NodeName) -> None:
        with self._drain_token(deployment, node):
            self._call(
                self._commands,
                "drain",
                deployment=deployment,
                node=node,
                reason="Vacuo no longer needs this machine.",
            )

    def reschedule(self) -> None:
        self._call(self._commands, "reschedule", names=list(self._pool.schedds))

    # --- inside ---

    @property
    def _trust_domain(self) -> str:
        return self._pool.trust_domain or self._pool.collector.partition(":")[0]

    @property
    def _node_domain(self) -> str:
        # A domain of their own: no node can ever be taken for a user of the pool.
        return f"nodes.{self._trust_domain}"

    @property
    def _administrator(self) -> str:
        return f"vacuo@{self._trust_domain}"

    def _call(self, child: ChildProcess, operation: str, **arguments: Any) -> Any:
        self._prepare()
        try:
            return child.call(
                operation, {"collector": self._pool.collector, **arguments}, CALL_SECONDS
            )
        except Retryable as error:
            raise Retryable(f"Pool {self._pool.name}: {error}", error.after) from None
        except PortError as error:
            raise type(error)(f"Pool {self._pool.name}: {error}") from None

    def _prepare(self) -> None:
        """Write the client's configuration, and its token when that has changed."""
        tokens = self._directory / "tokens"
        text = CLIENT_CONFIGURATION.format(
            trust_domain=self._trust_domain,
            directory=self._directory,
            authentication="REQUIRED" if self._pool.token_file else "OPTIONAL",
        )
        try:
            for directory in (self._directory, tokens, self._directory / "no-keys"):
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            configuration = self._directory / "client.conf"
            if not configuration.exists() or configuration.read_text() != text:
                _write_private(configuration, text.encode())
        except OSError as error:
            raise Retryable(
                f"Pool {self._pool.name}: {self._directory}: {error.strerror}."
            ) from None
        if self._pool.token_file:
            self._copy_token(self._pool.token_file, tokens / _OUR_TOKEN)

    def _copy_token(self, source: Path, target: Path) -> None:
        try:
            status = source.stat()
            version = (status.st_mtime_ns, status.st_ino)
            if version != self._token_seen or not target.exists():
                _write_private(target, source.read_bytes().strip() + b"\n")
                self._token_seen = version
        except OSError as error:
            raise Unauthorised(
                f"Pool {self._pool.name}: the token {source} cannot be read: {error.strerror}. "
                "Try: see docs/admin/pools.md on how to make one."
            ) from None

    def _drain_key(self, deployment: str, node: str) -> bytes:
        """The content of the node's key file: the same at every call, and no help in guessing
        another node's."""
        secret_file = self._directory / "drain-secret"
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not secret_file.exists():
            _write_private(secret_file, secrets.token_bytes(32), keep=True)
        derivation = HKDF(SHA256(), idtokens.KEY_BYTES, None, f"{deployment}\0{node}".encode())
        return derivation.derive(secret_file.read_bytes())

    @contextlib.contextmanager
    def _drain_token(self, deployment: str, node: str) -> Iterator[None]:
        """While this lasts, our client can prove to the node's startd that it is Vacuo.

        The startd tells which keys it knows, so the client finds the token by the key's name.
        """
        self._prepare()
        path = self._directory / "tokens" / f"drain-{secrets.token_hex(8)}"
        token = idtokens.mint(
            idtokens.token_key(self._drain_key(deployment, node), node),
            node,
            issuer=self._trust_domain,
            identity=self._administrator,
            scopes=("ADMINISTRATOR",),
            issued_at=time.time(),
            lifetime_seconds=DRAIN_TOKEN_SECONDS,
        )
        try:
            _write_private(path, token.encode() + b"\n")
            yield
        finally:
            path.unlink(missing_ok=True)


def explain_job(job: str, pool: str, facts: Mapping[str, Any]) -> tuple[Reason, ...]:
    """Why a job does not run, from what the pool says of it and of its machines.  Pure."""
    number = job.rpartition("#")[2]
    if facts["status"] == ads.HELD:
        why = facts["hold_reason"].rstrip(".") or "no reason was given"
        return (reason("job-held", job=job, number=number, why=why),)
    if facts["status"] != ads.IDLE:
        return (reason("job-not-waiting", job=job),)
    common = {"job": job, "number": number, "pool": pool}
    if facts["machines"] == 0:
        return (reason("pool-is-empty", **common),)
    if facts["fitting"] == 0:
        unmet = facts["unmet"] or ["its requirements taken together"]
        return tuple(reason("job-fits-nowhere", **common, clause=clause) for clause in unmet)
    if facts["accepting"] == 0:
        return (reason("machines-refuse-job", **common, machines=facts["fitting"]),)
    if facts["free"] == 0:
        return (reason("machines-full", **common, machines=facts["accepting"]),)
    waits = reason("match-pending", **common, machines=facts["free"])
    if facts["rejected"]:
        why = facts["rejected"].rstrip(".")
        return (waits, reason("match-rejected", **common, why=why))
    return (waits,)


def _write_private(path: Path, content: bytes, keep: bool = False) -> None:
    """Put ``content`` at ``path`` (mode 0600) whole or not at all; ``keep``: unless it exists."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        if keep:
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        else:
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
