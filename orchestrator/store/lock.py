"""One server per SQLite database: a lock that the kernel frees when its holder dies.

Beyond SQLite many servers may share a database, each working under the leases of
:mod:`orchestrator.store.leases`; there is nothing to lock there.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from orchestrator.errors import UserError
from orchestrator.store.database import parse, sqlite_path


class ServerLock:
    """The exclusive right to serve a database, from :meth:`acquire` to :meth:`release`.

    ``url_or_path`` is the database's SQLAlchemy URL or its file.  The lock is on a file beside it
    that is never deleted: deleting it would let two processes lock two files of one name.
    Processes forked from the holder, not those it starts by exec, share the lock: it is free when
    the last of them is gone.
    """

    def __init__(self, url_or_path: str | Path) -> None:
        text = str(url_or_path)
        database = sqlite_path(parse(text)) if "://" in text else Path(text).absolute()
        self.database = database
        self.path = database.with_name(database.name + ".lock") if database else None
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock; :class:`UserError` says who has it.  A second time it does nothing."""
        if self.path is None or self._file is not None:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UserError(
                f"The lock {self.path} of the database cannot be opened.",
                f"{error.strerror}.",
                "mend that, or set another data_directory in vacuo.yaml",
                code="database-unusable",
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(file)
            os.close(file)
            if not isinstance(error, BlockingIOError):
                raise
            raise UserError(
                f"Another server uses the database {self.database}.",
                f"It is {holder}.",
                "stop that one first, or give this one a data_directory of its own in vacuo.yaml",
                code="database-in-use",
                status=409,
            ) from None
        self._file = file
        _sign(file)

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> ServerLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def _sign(file: int) -> None:
    """Say who has the lock.  That is for people: a full disk must not keep a server down."""
    text = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()})
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, text.encode(), 0)
    except OSError:
        return


def _holder(file: int) -> str:
    try:
        who = json.loads(os.pread(file, 4096, 0))
        since = datetime.fromtimestamp(who["since"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"process {who['pid']} on host {who['host']}, since {since}"
    except (ValueError, KeyError, TypeError):
        return f"unknown; find it with: fuser -v {_name(file)}"


def _name(file: int) -> str:
    return os.readlink(f"/proc/self/fd/{file}")
