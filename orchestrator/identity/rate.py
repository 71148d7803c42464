"""How often each person asks: a bucket of tokens for each, in memory, bounded in number."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from orchestrator.errors import UserError

MAXIMUM_PRINCIPALS = 10_000


class TooManyRequests(UserError):
    """Somebody asks more often than they may; ``after`` is when one more request is good, in
    seconds."""

    def __init__(self, per_minute: int, after: float) -> None:
        super().__init__(
            "You ask too often.",
            f"You may send {per_minute} requests a minute.",
            "wait, then go on more slowly; follow a deployment by its event stream",
            code="too-many-requests",
            status=429,
        )
        self.after = after


class Pace:
    """Holds people to their requests per minute; may be used from any thread.

    A whole minute's worth may come at once.  Of more than ``maximum`` people those who asked
    longest ago are forgotten, which gives them a full bucket: it is a brake, not an account.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, maximum: int = MAXIMUM_PRINCIPALS
    ) -> None:
        self._clock = clock
        self._maximum = maximum
        self._lock = threading.Lock()
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, who: Hashable, per_minute: int | None) -> None:
        """Count one request, or raise :class:`TooManyRequests`; None is no limit."""
        if per_minute is None:
            return
        rate = per_minute / 60
        with self._lock:
            now = self._clock()
            left, at = self._buckets.pop(who, (float(per_minute), now))
            left = min(float(per_minute), left + max(0.0, now - at) * rate)
            fits = left >= 1
            self._buckets[who] = (left - 1 if fits else left, now)
            if len(self._buckets) > self._maximum:
                self._buckets.popitem(last=False)
        if not fits:
            raise TooManyRequests(per_minute, (1 - left) / rate)
