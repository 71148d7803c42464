"""The keys of pools that deployments make for themselves, whose hosts come from the same template.

Nothing of such a pool is stored: its signing key follows from one secret of the server, the
deployment and the name of the pool in its template.  A host of the pool that is made anew has the
same key, and the tokens that hang from it stay good.
"""

from __future__ import annotations

import base64
import time
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orchestrator.batch import idtokens
from orchestrator.errors import Retryable
from orchestrator.model import DeploymentId, NodeName

WORKER_SCOPES = ("ADVERTISE_STARTD", "ADVERTISE_MASTER", "READ")
_KEY_NAME = "POOL"
_SECRET = "secret"  # noqa: S105 - the name of a file


class OwnPools:
    """Makes the signing keys and the tokens of the pools of deployments.

    The secret is ``own-pools/secret`` (mode 0600) in the server's ``data_directory``; it is made
    when it is first needed.
    """

    def __init__(self, data_directory: Path) -> None:
        self._directory = data_directory.absolute() / "own-pools"

    def signing_key(self, deployment: DeploymentId, pool: str) -> str:
        """The pool's key as the role htcondor_pool takes it: base64 of HTCondor's file ``POOL``.

        :raises Unauthorised: the secret may not be read or written.
        :raises Retryable: it cannot be now.
        """
        return base64.b64encode(self._key_file(deployment, pool)).decode()

    def worker_token(
        self,
        deployment: DeploymentId,
        pool: str,
        trust_domain: str,
        node: NodeName,
        lifetime_seconds: int,
    ) -> str:
        """An IDTOKEN with which ``node``, and no other, may join the pool and read; no more."""
        return idtokens.mint(
            idtokens.token_key(self._key_file(deployment, pool), _KEY_NAME),
            _KEY_NAME,
            issuer=trust_domain,
            identity=f"{node}@nodes.{trust_domain}",
            scopes=WORKER_SCOPES,
            issued_at=time.time(),
            lifetime_seconds=lifetime_seconds,
        )

    def _key_file(self, deployment: DeploymentId, pool: str) -> bytes:
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Retryable(f"{self._directory}: {error.strerror}.") from None
        secret = idtokens.SigningKeys(self._directory).get_or_create(_SECRET)
        derivation = HKDF(SHA256(), 32, None, f"{deployment}\0{pool}".encode())
        return idtokens.scramble(derivation.derive(secret).hex().encode())
