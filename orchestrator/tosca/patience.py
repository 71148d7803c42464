"""A limit on single steps whose cost nobody can tell beforehand: patterns, schemas.

A pattern of twenty characters can take for ever on thirty.  The engine of regular expressions looks
for signals while it works, so a timer ends it, and the person is told where.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

STEP_SECONDS = 0.2  # of processor time


class TooSlow(Exception):
    """The step took longer than it may."""


@contextmanager
def bounded(seconds: float = STEP_SECONDS) -> Iterator[None]:
    """Raises :class:`TooSlow` where what is inside takes longer.

    Only in the main thread, which is where the sandbox works; elsewhere there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _ring(_number: int, _frame: object) -> NoReturn:
    raise TooSlow
