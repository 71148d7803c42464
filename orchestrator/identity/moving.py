"""Secrets in two places: one where they are to be kept now, and one where they were before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator.errors import Terminal
from orchestrator.identity.secrets import VAULT, Sealer, SecretUnreadable
from orchestrator.model import Sealed, SecretPlace


class Rows(Protocol):
    """What moving needs of :class:`orchestrator.store.secrets.SecretRows`."""

    def everything(self) -> Sequence[Any]: ...

    def switch(self, row: Any, seal: Callable[[], Sealed]) -> bool: ...

    def count(self, key: str, other: bool = False) -> int: ...


@dataclass(frozen=True)
class Moved:
    """What a move did: how many secrets are where they belong now, and the names of those that
    could not be read where they were; those are left as they are."""

    moved: int
    unreadable: tuple[str, ...] = ()


class TwoSealers:
    """A :class:`~orchestrator.identity.secrets.Sealer` that seals with ``current`` and opens what
    either sealed.  ``vault`` or ``envelope`` is None where the settings tell of none."""

    def __init__(self, *, vault: Sealer | None, envelope: Sealer | None, into_vault: bool) -> None:
        current = vault if into_vault else envelope
        if current is None:
            raise ValueError("secrets have to be kept somewhere")
        self.into_vault = into_vault
        self.current = current
        self.former = envelope if into_vault else vault
        self.in_turn = current.in_turn

    def seal(self, place: SecretPlace, content: bytes) -> Sealed:
        return self.current.seal(place, content)

    def open(self, place: SecretPlace, sealed: Sealed) -> bytes:
        return self._of(place, sealed).open(place, sealed)

    def forget(self, place: SecretPlace, sealed: Sealed) -> None:
        self._of(place, sealed).forget(place, sealed)

    def clear(self, place: SecretPlace) -> None:
        self.current.clear(place)

    def _of(self, place: SecretPlace, sealed: Sealed) -> Sealer:
        if (sealed.key == VAULT) == self.into_vault:
            return self.current
        if self.former is None:
            raise SecretUnreadable(
                f"The secret {place.name!r} cannot be read: it is in Vault, and the settings do "
                "not say where that is."
            )
        return self.former


def elsewhere(rows: Rows, into_vault: bool) -> int:
    """How many secrets are not where new ones are kept."""
    return rows.count(VAULT, other=into_vault)


def move(rows: Rows, sealers: TwoSealers) -> Moved:
    """Have all secrets where new ones are kept.  No server may run meanwhile.

    Each is copied, compared, switched over and only then deleted where it was.  It may be killed
    at any point: a secret is always whole in the place that its row names, and another call moves
    the rest and clears away what the last one left behind.
    """
    moved, unreadable = 0, []
    for row in rows.everything():
        if (row.sealed.key == VAULT) == sealers.into_vault:
            if sealers.former:
                sealers.former.clear(row.place)
            continue
        try:
            content = sealers.open(row.place, row.sealed)
        except SecretUnreadable:
            unreadable.append(row.place.name)
            continue
        if rows.switch(row, _copy(sealers.current, row.place, content)):
            sealers.forget(row.place, row.sealed)
            moved += 1
    return Moved(moved, tuple(unreadable))


def _copy(sealer: Sealer, place: SecretPlace, content: bytes) -> Callable[[], Sealed]:
    def copied() -> Sealed:
        sealed = sealer.seal(place, content)
        if sealer.open(place, sealed) != content:
            raise Terminal(f"The secret {place.name!r} did not come back as it was put there.")
        return sealed

    return copied
