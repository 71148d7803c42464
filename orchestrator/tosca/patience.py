"""A limit on single steps whose cost nobody can tell beforehand: patterns, schemas.

A pattern of twenty characters can take for ever on thirty.  The engine of regular expressions looks
for signals while it works, so a timer ends it, and the person is told where.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

SECONDS = 0.2  # of processor time, for all such steps of one document
_LEAST = 0.001
_spent = 0.0


class TooSlow(Exception):
    """The step, with those before it, took longer than such steps may."""


def begin() -> None:
    """Another document begins."""
    global _spent
    _spent = 0.0


@contextmanager
def bounded() -> Iterator[None]:
    """Raises :class:`TooSlow` where what is inside takes longer than what is left.

    Only in the main thread, which is where the sandbox works; elsewhere there is no limit.
    """
    global _spent
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if _spent >= SECONDS:
        raise TooSlow
    began = time.process_time()
    before = signal.signal(signal.SIGVTALRM, _ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, max(_LEAST, SECONDS - _spent))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        _spent += time.process_time() - began


def _ring(_number: int, _frame: object) -> NoReturn:
    global _spent
    _spent = SECONDS
    raise TooSlow
