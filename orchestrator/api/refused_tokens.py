"""Tokens that were refused, for the audit: counted, so that a flood of them fills no database."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from orchestrator.errors import StoreUnavailable
from orchestrator.model import Event
from orchestrator.store.repository import Repository

log = logging.getLogger(__name__)

AGAIN_SECONDS = 60.0
_ADDRESSES = 8


@dataclass
class _Tally:
    """Refusals of one kind that are not told yet.  Times are seconds since the epoch."""

    told_at: float = float("-inf")
    number: int = 0
    first_at: float = 0.0
    correlation: str = ""  # of the last
    addresses: set[str] = field(default_factory=set)


class RefusedTokens:
    """Counts tokens that were refused, and writes one audit a minute for each kind of refusal: the
    first at once, then how many there were.  Nothing of a token is kept.  May be used from any
    thread.
    """

    def __init__(self, repository: Repository, clock: Callable[[], float] = time.time) -> None:
        self._repository = repository
        self._clock = clock
        self._lock = threading.Lock()
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def count(self, origin: str, code: str, address: str, correlation: str) -> None:
        """One more, from ``address``, with the request ``correlation``.

        ``origin`` says whose token it would be and ``code`` what is the matter, neither in words
        of the token: kinds are remembered for ever.
        """
        with self._lock:
            tally = self._tallies.setdefault((origin, code), _Tally())
            tally.first_at = tally.first_at if tally.number else self._clock()
            tally.number += 1
            tally.correlation = correlation
            if len(tally.addresses) < _ADDRESSES:
                tally.addresses.add(address)
        self.tell()

    def tell(self, everything: bool = False) -> None:
        """Write what is due; with ``everything`` also what is not."""
        now = self._clock()
        events = []
        with self._lock:
            for (origin, code), tally in self._tallies.items():
                if tally.number and (everything or now - tally.told_at >= AGAIN_SECONDS):
                    events.append(_counted(origin, code, tally, now))
                    self._tallies[origin, code] = _Tally(now)
        if not events:
            return
        try:
            self._repository.append(events)
        except StoreUnavailable as error:
            log.warning("refusals of tokens could not be stored: %s", error)


def _counted(origin: str, code: str, tally: _Tally, now: float) -> Event:
    many = "a token" if tally.number == 1 else f"{tally.number} tokens"
    first, *others = sorted(tally.addresses)
    some = f" and {'at least ' * (len(others) + 1 == _ADDRESSES)}{len(others)} other addresses"
    event = Event.audit(
        now,
        "somebody unknown",
        f"refused: {many}, {origin}, in {now - tally.first_at:.0f} s, "
        f"from {first}{some if others else ''}",
        denied=True,
        correlation=tally.correlation,
    )
    return replace(event, code=code)
