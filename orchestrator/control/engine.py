"""Wakes the right deployment once: threads over a deduplicating queue, with back-off.

The truth is in the store and a pass is idempotent, so an engine may lose everything it knows: at
start every deployment that is not gone is woken.  Many workers on PostgreSQL will stand behind the
same small port.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from orchestrator.errors import LeaseLost, NotFound
from orchestrator.model import DeploymentId

log = logging.getLogger(__name__)

BACKOFF_SECONDS = 1.0
BACKOFF_MAXIMUM_SECONDS = 60.0
LEASE_RETRY_SECONDS = 2.0
RUNNING_RECHECK_SECONDS = 0.02


class Engine(Protocol):
    def wake(self, id: DeploymentId, after: float = 0.0) -> None:
        """Have a pass run over ``id`` in ``after`` seconds, or sooner if one is due sooner."""
        ...


class InProcessEngine:
    """Threads of this process.  At most one pass over a deployment runs at a time; one that is
    woken during its pass gets another right after."""

    def __init__(
        self,
        run: Callable[[DeploymentId], float | None],
        failed: Callable[[DeploymentId, Exception, float], None],
        threads: int = 4,
    ) -> None:
        self._run = run
        self._failed = failed
        self._condition = threading.Condition()
        self._heap: list[tuple[float, DeploymentId]] = []
        self._due: dict[DeploymentId, float] = {}
        self._running: set[DeploymentId] = set()
        self._failures: dict[DeploymentId, int] = {}
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"engine-{n}", daemon=True)
            for n in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Let the passes that run end; no new one begins."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def wake(self, id: DeploymentId, after: float = 0.0) -> None:
        due = time.monotonic() + after
        with self._condition:
            if self._due.get(id, float("inf")) <= due:
                return
            self._due[id] = due
            heapq.heappush(self._heap, (due, id))
            self._condition.notify()

    def _work(self) -> None:
        while True:
            id = self._next()
            if id is None:
                return
            again = self._pass(id)
            with self._condition:
                self._running.discard(id)
                self._condition.notify()
            if again is not None:
                self.wake(id, again)

    def _next(self) -> DeploymentId | None:
        """The deployment whose turn it is; waits for one; None when stopping."""
        with self._condition:
            while not self._stopping:
                pause = self._drop_outdated()
                if pause == 0.0:
                    _, id = heapq.heappop(self._heap)
                    del self._due[id]
                    self._running.add(id)
                    return id
                self._condition.wait(pause)
            return None

    def _drop_outdated(self) -> float | None:
        """Seconds until the first entry is due (0.0: now), None without one.

        An entry is outdated when its deployment was woken to an earlier time or already ran; one
        whose pass runs right now is put off until that has ended.
        """
        while self._heap:
            due, id = self._heap[0]
            if self._due.get(id) != due:
                heapq.heappop(self._heap)
                continue
            pause = due - time.monotonic()
            if pause > 0:
                return pause
            if id not in self._running:
                return 0.0
            # Put off into the future: the pass that runs needs the lock to end.
            later = time.monotonic() + RUNNING_RECHECK_SECONDS
            heapq.heapreplace(self._heap, (later, id))
            self._due[id] = later
        return None

    def _pass(self, id: DeploymentId) -> float | None:
        try:
            again = self._run(id)
        except LeaseLost:
            return LEASE_RETRY_SECONDS
        except NotFound:
            return None
        except Exception as error:
            count = self._failures[id] = self._failures.get(id, 0) + 1
            pause = min(BACKOFF_MAXIMUM_SECONDS, BACKOFF_SECONDS * 2.0 ** min(count - 1, 10))
            self._failed(id, error, pause)
            return pause
        self._failures.pop(id, None)
        return again
