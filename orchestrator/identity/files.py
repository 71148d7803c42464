"""Files that hold secrets: readable by their owner alone, never seen half-written."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from orchestrator.errors import UserError

_PRIVATE = 0o600
_OTHERS = 0o077


def make_private_directory(path: Path) -> None:
    """Make ``path`` (mode 0700), with its parents; one that exists is closed to others."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if stat.S_IMODE(path.stat().st_mode) & _OTHERS:
        path.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` as a whole by ``text``, mode 0600; its directory must exist."""
    temporary = _write_beside(path, text)
    try:
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def create_private(path: Path, text: str) -> str:
    """Write ``text`` to ``path`` unless it exists; the text that stands there afterwards.

    Two processes that start at the same time agree on one text.
    """
    temporary = _write_beside(path, text)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return read_private(path)


def read_private(path: Path) -> str:
    """The text of ``path``, which nobody but this user may be able to read or replace.

    Raises :class:`FileNotFoundError`, or :class:`UserError` where others have access to it.
    """
    # Without O_NONBLOCK a pipe that somebody put there would hold us for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags)
    with os.fdopen(descriptor, encoding="utf-8") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            why, attempt = "It is not a plain file.", "remove it"
        elif found.st_uid != os.geteuid():
            why, attempt = f"It belongs to the user with id {found.st_uid}.", "remove it"
        elif stat.S_IMODE(found.st_mode) & _OTHERS:
            why, attempt = "Other users can read or change it.", f"chmod 600 {path}"
        else:
            return file.read()
    raise UserError(f"The secret file {path} is not used.", why, attempt, code="secret-file")


def _write_beside(path: Path, text: str) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, _PRIVATE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
