"""Waiting for what must happen on a machine that may have much else to do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator.errors import Retryable

T = TypeVar("T")
# Generous: it bounds only what goes wrong.
PATIENCE_SECONDS = 300.0
PAUSE_SECONDS = 0.1


def eventually(look: Callable[[], T | None], what: str) -> T:
    """The first answer of ``look`` that is true; it may say that it is to be asked again."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(Retryable):
            if answer := look():
                return answer
        time.sleep(PAUSE_SECONDS)
    raise AssertionError(f"{what} did not happen within {PATIENCE_SECONDS:.0f} s")
