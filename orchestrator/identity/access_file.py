"""The access file of a server that runs: read anew when it has changed, and never half."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.identity import access
from orchestrator.identity.access import Rules
from orchestrator.settings import Issuer

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0

_Mark = tuple[int, ...]


class AccessFile:
    """The rules as they are now; may be asked from any thread.

    The file is looked at once a second at most, while somebody asks.  What has changed is parsed
    apart and takes the place of the rules as a whole; with a mistake in it, or without a file, the
    rules stay as they were.  Either is told to ``tell`` once for each change: what happened as a
    sentence, and whether it failed.

    Raises :class:`UserError` where the file cannot be used to begin with.
    """

    def __init__(
        self,
        path: Path | None,
        issuers: Sequence[Issuer],
        tell: Callable[[str, bool], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._issuers = tuple(issuers)
        self._tell = tell
        self._clock = clock
        self._looking = threading.Lock()
        self._looked_at = clock()
        self._mark = _mark(path)
        self._rules = access.load(path, issuers)
        self._problem = ""

    @property
    def problem(self) -> str:
        """What is wrong with the file as it is; empty where its rules are in force."""
        return self._problem

    @property
    def rules(self) -> Rules:
        if self._path is not None and self._looking.acquire(blocking=False):
            try:
                self._look(self._path)
            finally:
                self._looking.release()
        return self._rules

    def _look(self, path: Path) -> None:
        now = self._clock()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        # Of before it is read: what is written meanwhile is seen by the next look.
        mark = _mark(path)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._rules = access.load(path, self._issuers)
        except (UserError, OSError) as error:
            self._problem = str(error)
            log.error("the rules from before stay in force: %s", error)
            self._tell("the access file cannot be used: the rules from before stay in force", True)
            return
        self._problem = ""
        log.info("the access file was read anew: %d rules", len(self._rules.rules))
        self._tell(f"the access file was read anew: {len(self._rules.rules)} rules", False)


def _mark(path: Path | None) -> _Mark:
    """What tells one state of the file from another; empty where there is none."""
    try:
        found = path.stat() if path else None
    except OSError:
        found = None
    if found is None:
        return ()
    # The mode too: a file that anybody may write is not believed.
    return (found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns)
