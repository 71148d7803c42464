"""What the server signs with: its key, and signatures of the calls that it makes.

A receiver finds the public key at ``/.well-known/jwks.json``.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from orchestrator.errors import UserError
from orchestrator.identity.files import create_private, make_private_directory
from orchestrator.settings import Settings

ALGORITHM = "ES256"
# Tells it from an access token, whoever might be made to look at it as one.
TYPE = "vacuo-callback+jwt"


def signing_key(path: Path, loss: str) -> ECKey:
    """The private key at ``path``, made at the first start; its directory must exist.

    Raises :class:`UserError` where it cannot be read; ``loss`` says what becomes of whom when it is
    removed.
    """
    fresh = ECKey.generate_key("P-256", private=True, auto_kid=False)
    fresh_text = json.dumps({**fresh.as_dict(private=True), "use": "sig", "alg": ALGORITHM})
    try:
        key = ECKey.import_key(json.loads(create_private(path, fresh_text)))
        if key.is_private:
            return key
    except (ValueError, TypeError, KeyError, JoseError):
        pass
    raise UserError(
        f"The signing key {path} cannot be read.",
        "It is not a private key in JWK form.",
        f"remove it: a new one is made, and {loss}",
        code="secret-file",
    )


class Signer:
    """Signs what this server sends to others; may be used from any thread."""

    def __init__(self, key: ECKey, issuer: str, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._kid = key.thumbprint()
        self._issuer = issuer
        self._clock = clock

    @classmethod
    def of(cls, settings: Settings) -> Signer:
        """With the key in the data directory (``keys/signing.json``, mode 0600)."""
        directory = settings.data_directory / "keys"
        make_private_directory(directory)
        loss = "receivers of callbacks fetch its public half anew"
        return cls(signing_key(directory / "signing.json", loss), settings.url.rstrip("/"))

    @property
    def public(self) -> dict[str, Any]:
        """The public key as a JWKS."""
        return {"keys": [{**self._key.as_dict(private=False), "kid": self._kid}]}

    def sign(self, body: bytes, *, audience: str, subject: str, id: str) -> str:
        """A JWS, compact, over the SHA-256 of ``body`` (``sha256``, hexadecimal), to whom it is
        sent (``aud``), what it is about (``sub``), when (``iat``), and which message it is
        (``jti``: the same when it is sent again)."""
        claims = {
            "iss": self._issuer,
            "aud": audience,
            "sub": subject,
            "iat": int(self._clock()),
            "jti": id,
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        return jwt.encode({"alg": ALGORITHM, "typ": TYPE, "kid": self._kid}, claims, self._key)
