"""Secrets at rest: sealed with AES-256-GCM under a key of their own, which a master key wraps.

What is sealed names its place (whose it is, of which deployment, how it is called) as associated
data, so a row that is copied to another place opens nowhere.  Rotating the master key wraps the
keys of all rows anew; their content stays as it is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.errors import Terminal, UserError
from orchestrator.identity.master_keys import KeyRing
from orchestrator.model import Sealed, SecretEntry, SecretPlace

NONCE_BYTES = 12
ROWS_AT_ONCE = 100


class SecretUnreadable(Terminal):
    """A stored secret cannot be had; the message names it and says why, never what it is."""


class Rows(Protocol):
    """Where sealed secrets are kept: :class:`orchestrator.store.secrets.SecretRows`."""

    def put(self, entry: SecretEntry, seal: Callable[[], Sealed]) -> None: ...

    def get(self, place: SecretPlace) -> Sealed | None: ...

    def used(self, place: SecretPlace, now: float) -> None: ...

    def delete(self, place: SecretPlace) -> bool: ...

    def entries(
        self, issuer: str, subject: str, groups: Collection[str] = ()
    ) -> tuple[SecretEntry, ...]: ...

    def left_behind(self, before: float) -> Sequence[Any]: ...

    def sealed_otherwise(self, keys: Collection[str], limit: int) -> Sequence[Any]: ...

    def replace(self, row: Any, by: Sealed) -> None: ...

    def turn(self, act: Callable[[], None]) -> None: ...

    def finish(self, keys: Collection[str], drop: Callable[[], None]) -> bool: ...


class Sealer(Protocol):
    """How secrets are sealed: by an envelope here, or by leaving them to a vault.

    ``in_turn``: sealing must not overlap with the dropping of a key."""

    in_turn: bool

    def seal(self, place: SecretPlace, content: bytes) -> Sealed: ...

    def open(self, place: SecretPlace, sealed: Sealed) -> bytes:
        """Raises :class:`SecretUnreadable`, or :class:`~orchestrator.errors.Retryable` where it
        may be had later."""
        ...

    def forget(self, place: SecretPlace, sealed: Sealed) -> None: ...

    def clear(self, place: SecretPlace) -> None:
        """Forget whatever may still be kept for ``place``, which is sealed otherwise now."""
        ...


class EnvelopeSealer:
    """Secrets sealed under the master keys of a :class:`KeyRing`."""

    in_turn = True

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def seal(self, place: SecretPlace, content: bytes) -> Sealed:
        masters = self._ring.load()
        key = AESGCM.generate_key(256)
        wrapped = _encrypt(masters.keys[masters.current], key, _place(place, masters.current))
        return Sealed(masters.current, wrapped, _encrypt(key, content, _place(place, "")))

    def open(self, place: SecretPlace, sealed: Sealed) -> bytes:
        try:
            key = self._key(place, sealed)
        except UserError as error:
            raise SecretUnreadable(str(error)) from None
        return _decrypt(key, sealed.content, _place(place, ""), place)

    def forget(self, place: SecretPlace, sealed: Sealed) -> None:
        """There is nothing beside the row."""

    def clear(self, place: SecretPlace) -> None:
        """Nor then."""

    def rewrapped(self, place: SecretPlace, sealed: Sealed) -> Sealed:
        """The same under the current master key."""
        masters = self._ring.load()
        key = self._key(place, sealed)
        wrapped = _encrypt(masters.keys[masters.current], key, _place(place, masters.current))
        return Sealed(masters.current, wrapped, sealed.content)

    def _key(self, place: SecretPlace, sealed: Sealed) -> bytes:
        master = self._ring.load().keys.get(sealed.key)
        if master is None:
            raise SecretUnreadable(
                f"The secret {place.name!r} cannot be read: its master key {sealed.key[:16]!r} is "
                "not here."
            )
        return _decrypt(master, sealed.wrapped, _place(place, sealed.key), place)


class SecretStore:
    """Puts and gets secrets; safe to use from threads."""

    def __init__(self, rows: Rows, sealer: Sealer) -> None:
        self._rows = rows
        self._sealer = sealer

    def put(self, place: SecretPlace, content: bytes, kind: str, now: float) -> SecretEntry:
        """Store or replace; what may be shown of it."""
        entry = SecretEntry(place, kind, fingerprint(place, content), now)
        if self._sealer.in_turn:
            self._rows.put(entry, lambda: self._sealer.seal(place, content))
        else:
            sealed = self._sealer.seal(place, content)
            self._rows.put(entry, lambda: sealed)
        return entry

    def get(self, place: SecretPlace, now: float | None = None) -> bytes | None:
        """The content; None where there is none.  With ``now`` it counts as used.

        Raises :class:`SecretUnreadable` for what is not as it was stored.
        """
        sealed = self._rows.get(place)
        if sealed is None:
            return None
        content = self._sealer.open(place, sealed)
        if now is not None:
            self._rows.used(place, now)
        return content

    def delete(self, place: SecretPlace) -> bool:
        """Forget it; whether there was one."""
        sealed = self._rows.get(place)
        if sealed is not None:
            self._sealer.forget(place, sealed)
        return self._rows.delete(place)

    def prune(self, before: float) -> None:
        """Forget those from before ``before`` whose deployments are no more, wherever they are."""
        for row in self._rows.left_behind(before):
            self.delete(row.place)

    def entries(
        self, issuer: str, subject: str, groups: Collection[str] = ()
    ) -> tuple[SecretEntry, ...]:
        """What a person and ``groups`` have that outlives deployments."""
        return self._rows.entries(issuer, subject, groups)


def fingerprint(place: SecretPlace, content: bytes) -> str:
    """16 hexadecimal digits, slow to make because a secret may be short, and salted by the place:
    the same content elsewhere has another."""
    salt = hashlib.sha256(_place(place, "fingerprint")).digest()
    return hashlib.scrypt(content, salt=salt, n=2**12, r=8, p=1, dklen=8).hex()


def rotate(rows: Rows, ring: KeyRing) -> int:
    """Have a new master key and wrap everything with it; how many secrets were.

    It may be killed at any point: the old key stays until nothing needs it, and another call goes
    on where this one stopped.  Servers may go on working meanwhile.
    """
    rows.turn(ring.begin_rotation)
    sealer, done = EnvelopeSealer(ring), 0
    while True:
        current = ring.load().current
        rest = rows.sealed_otherwise((current, VAULT), ROWS_AT_ONCE)
        for row in rest:
            rows.replace(row, sealer.rewrapped(row.place, row.sealed))
            done += 1
        if not rest and rows.finish((current, VAULT), ring.end_rotation):
            return done


VAULT = "vault"  # stands for a master key where there is none: a vault has the secret


def _place(place: SecretPlace, key: str) -> bytes:
    return json.dumps(["vacuo secret", 1, key, *place.words]).encode()


def _encrypt(key: bytes, content: bytes, place: bytes) -> str:
    nonce = os.urandom(NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, content, place)).decode()


def _decrypt(key: bytes, text: str, associated: bytes, place: SecretPlace) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
        return AESGCM(key).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], associated)
    except (InvalidTag, binascii.Error, ValueError):
        raise SecretUnreadable(
            f"The secret {place.name!r} cannot be read: it is not as it was stored, or not where."
        ) from None
