"""The master keys that wrap the keys of secrets: in a file of the data directory, or given.

The file has one key a line, oldest first, as ``id base64``; it is mode 0600 and made at the first
start.  There are several only while a rotation goes on: the last is what new secrets are sealed
with, the others open what is not rewrapped yet.  ``VACUO_MASTER_KEY`` takes the place of the last
one (then the key is on no disk), ``VACUO_MASTER_KEY_OLD`` that of the others.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.errors import UserError

KEY_BYTES = 32
GIVEN, GIVEN_OLD = "VACUO_MASTER_KEY", "VACUO_MASTER_KEY_OLD"


@dataclass(frozen=True)
class MasterKeys:
    """Keys by their names; ``current`` names the one to seal with."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)


class KeyRing:
    """Where the master keys are.  The file is read at each use: it is small, and another process
    may be rotating it."""

    def __init__(self, path: Path, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self.path = path
        self._given = [
            _decoded(text, variable)
            for variable in (GIVEN_OLD, GIVEN)
            if (text := environment.get(variable, ""))
        ]
        self._is_given = bool(environment.get(GIVEN))

    def load(self) -> MasterKeys:
        """The keys; the file is made where there is none and none is given.

        Raises :class:`~orchestrator.errors.UserError` where the file cannot be used.
        """
        if not self._is_given and not self.path.exists():
            self._write([secrets.token_bytes(KEY_BYTES)], keep=True)
        stored = self._read() if self.path.exists() else []
        # What is given comes last: it is what to seal with.
        keys = {name_of(key): key for key in [*stored, *self._given]}
        current = self._given[-1] if self._is_given else stored[-1]
        return MasterKeys(name_of(current), keys)

    def begin_rotation(self) -> None:
        """Have a new key, unless one was made by a rotation that did not end."""
        if self._is_given:
            return
        self.load()
        stored = self._read()
        if len(stored) == 1:
            self._write([*stored, secrets.token_bytes(KEY_BYTES)])

    def end_rotation(self) -> None:
        """Drop all keys but the current one."""
        if self._is_given:
            self.path.unlink(missing_ok=True)
        else:
            self._write(self._read()[-1:])

    def _read(self) -> list[bytes]:
        try:
            with self.path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                lines = file.read().decode("ascii", "replace").split("\n")
        except OSError as error:
            raise _unusable(self.path, f"{error.strerror}.") from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise _unusable(
                self.path, f"Other users can read it (mode {mode:04o}).", f"chmod 600 {self.path}"
            )
        keys = []
        for line in filter(None, lines):
            name, _, text = line.partition(" ")
            key = _decoded(text, str(self.path))
            if name_of(key) != name:
                raise _unusable(self.path, f"The key {name[:16]!r} is not whole.")
            keys.append(key)
        if not keys:
            raise _unusable(self.path, "It holds no key.")
        return keys

    def _write(self, keys: list[bytes], keep: bool = False) -> None:
        """Put the keys there, whole or not at all; ``keep``: unless the file is there."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        text = "".join(f"{name_of(key)} {base64.b64encode(key).decode()}\n" for key in keys)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if keep:
                try:
                    os.link(draft, self.path)
                except FileExistsError:
                    return  # another server was first: its key is the one
            else:
                draft.replace(self.path)
            _sync(self.path.parent)
        except OSError as error:
            raise _unusable(self.path, f"{error.strerror}.") from None
        finally:
            draft.unlink(missing_ok=True)


def name_of(key: bytes) -> str:
    """What a key is called: it tells keys apart and nothing of what they are."""
    return hashlib.sha256(b"vacuo master key\0" + key).hexdigest()[:16]


def _decoded(text: str, where: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise UserError(
            f"The master key in {where} cannot be used.",
            f"It has to be {KEY_BYTES} bytes in base64.",
            "make one: openssl rand -base64 32",
            code="master-key-unusable",
        )
    return key


def _unusable(path: Path, why: str, attempt: str = "") -> UserError:
    return UserError(
        f"The master key in {path} cannot be used.",
        why,
        attempt or f"restore {path} from a backup: without it no secret can be read",
        code="master-key-unusable",
    )


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
