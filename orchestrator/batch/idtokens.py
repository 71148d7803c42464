"""Signing keys of HTCondor and the IDTOKENS that hang from them.

A signing key is a file in the collector's ``SEC_PASSWORD_DIRECTORY``; its name is the ``kid`` of
the tokens.  A deployment has a key of its own, so deleting one file makes every token of that
deployment worthless and no other.  Format and derivation are HTCondor's (manual, "Introduction to
IDTOKENS"; checked against ``condor_token_create`` in the tests): the file holds the key XORed with
a fixed pattern, and tokens are HS256 over a key derived from it by HKDF-SHA256.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import uuid
from collections.abc import Collection
from itertools import cycle
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orchestrator.errors import Retryable, Terminal, Unauthorised

KEY_BYTES = 64
_SCRAMBLE = b"\xde\xad\xbe\xef"
_POOL = "POOL"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def scramble(data: bytes) -> bytes:
    """HTCondor's obfuscation of key files; it is its own inverse."""
    return bytes(a ^ b for a, b in zip(data, cycle(_SCRAMBLE)))


def token_key(key_file: bytes, name: str) -> bytes:
    """The 32 bytes with which tokens are signed, from the content of the key file ``name``."""
    key = scramble(key_file)
    if name == _POOL:
        # The pool's key may be an old pool password, which HTCondor doubles.
        key = key * 2
    derivation = HKDF(algorithm=SHA256(), length=32, salt=b"htcondor", info=b"master jwt")
    return derivation.derive(key)


def mint(
    key: bytes,
    key_name: str,
    *,
    issuer: str,
    identity: str,
    scopes: Collection[str],
    issued_at: float,
    lifetime_seconds: int | None,
) -> str:
    """A signed token for ``identity`` that is good for ``scopes`` (HTCondor's authorisation
    levels, e.g. ``ADVERTISE_STARTD``) and nothing else; without a lifetime, as long as its key."""
    claims: dict[str, str | int] = {
        "iss": issuer,
        "sub": identity,
        "iat": int(issued_at),
        "jti": uuid.uuid4().hex,
        "scope": " ".join(f"condor:/{scope}" for scope in scopes),
    }
    if lifetime_seconds is not None:
        claims["exp"] = int(issued_at) + lifetime_seconds
    return jwt.encode(claims, key, algorithm="HS256", headers={"kid": key_name})


class SigningKeys:
    """The signing keys that Vacuo keeps in a collector's ``SEC_PASSWORD_DIRECTORY``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def get_or_create(self, name: str) -> bytes:
        """The token key of the signing key ``name``, which is made at the first call.

        :raises Unauthorised: the directory or the file may not be read or written.
        :raises Terminal: ``name`` cannot be the name of a key.
        """
        path = self._path(name)
        try:
            content = self._read(path) or self._create(path)
        except PermissionError as error:
            raise Unauthorised(
                f"The signing key of {name} cannot be used: {self.directory}: {error.strerror}. "
                "Try: let the server's account read and write that directory."
            ) from None
        except OSError as error:
            raise Retryable(
                f"The signing key of {name} cannot be used: {self.directory}: {error.strerror}."
            ) from None
        return token_key(content, name)

    def delete(self, name: str) -> bool:
        """Delete a key, and with it the worth of its tokens; whether there was one."""
        path = self._path(name)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except PermissionError as error:
            raise Unauthorised(f"{self.directory}: {error.strerror}.") from None
        except OSError as error:
            raise Retryable(f"{self.directory}: {error.strerror}.") from None
        return True

    def _path(self, name: str) -> Path:
        # The names of HTCondor's own keys are not ours to touch.
        if not _NAME.fullmatch(name) or name in (_POOL, "AP"):
            raise Terminal(f"{name!r} cannot be the name of a signing key.")
        return self.directory / name

    @staticmethod
    def _read(path: Path) -> bytes | None:
        try:
            return path.read_bytes() or None
        except FileNotFoundError:
            return None

    def _create(self, path: Path) -> bytes:
        # Written beside and linked into place: the collector sees a whole key or none, and of two
        # servers that create it at once, one wins and both use its key.
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(scramble(_new_key()))
                file.flush()
                os.fsync(file.fileno())
            owner = self.directory.stat()
            if owner.st_uid != os.geteuid() and os.geteuid() == 0:
                os.chown(draft, owner.st_uid, owner.st_gid)
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        return path.read_bytes()


def _new_key() -> bytes:
    # Without NUL: whoever reads the key as a string must not cut it.
    return bytes(secrets.randbelow(255) + 1 for _ in range(KEY_BYTES))
