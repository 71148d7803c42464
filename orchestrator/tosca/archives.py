"""Archives that somebody sends, unpacked into memory: nothing is written, so nothing escapes.

Every entry is bounded before it is expanded: number, size, ratio; links, devices, absolute names
and names that lead upwards are refused, whether they would matter here or not.
"""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

from orchestrator.tosca.problems import shown

ENTRIES = 500
FILE_BYTES = 2_000_000
TOTAL_BYTES = 8_000_000
RATIO = 200  # deflate does at most about 1000; real text stays below 30
_SMALL = 65_536
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
ZIP = b"PK\x03\x04"


class BadArchive(ValueError):
    """The archive cannot be used; the message is a sentence that names the entry."""


def is_zip(content: bytes) -> bool:
    return content.startswith(ZIP)


def unpacked(content: bytes) -> dict[str, bytes]:
    """Path to content of every file of a zip or tar archive; raises :class:`BadArchive`."""
    files: dict[str, bytes] = {}
    size = 0
    for name, body in _zip(content) if is_zip(content) else _tar(content):
        if name in files:
            raise BadArchive(f"The archive has {shown(name)} twice.")
        size += len(body)
        if size > TOTAL_BYTES:
            raise BadArchive(f"The archive holds more than {TOTAL_BYTES} bytes.")
        files[name] = body
    return files


def _zip(content: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            _few(len(entries))
            for entry in entries:
                name = _safe(entry.filename)
                kind = stat.S_IFMT(entry.external_attr >> 16)
                if entry.is_dir():
                    continue
                if kind not in (0, stat.S_IFREG):
                    raise BadArchive(f"{shown(name)} in the archive is a link or no file at all.")
                if entry.flag_bits & _ENCRYPTED:
                    raise BadArchive(f"{shown(name)} in the archive is encrypted.")
                if entry.compress_type not in _METHODS:
                    raise BadArchive(
                        f"{shown(name)} in the archive is neither stored nor deflated."
                    )
                _fits(name, entry.file_size)
                if entry.file_size > _SMALL and entry.file_size > RATIO * entry.compress_size:
                    raise BadArchive(f"{shown(name)} in the archive expands too much.")
                with archive.open(entry) as file:
                    yield name, _read(name, file)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise BadArchive(f"The archive is damaged: {str(error)[:200]}.") from None


def _tar(content: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(fileobj=_Bounded(content), mode="r|*") as archive:
            for number, entry in enumerate(archive):
                _few(number + 1)
                name = _safe(entry.name)
                if entry.isdir():
                    continue
                if not entry.isreg():
                    raise BadArchive(f"{shown(name)} in the archive is a link or no file at all.")
                _fits(name, entry.size)
                file = archive.extractfile(entry)
                if file is not None:
                    yield name, _read(name, file)
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        if isinstance(error, BadArchive):
            raise
        raise BadArchive(f"This is no zip or tar archive: {str(error)[:200]}.") from None


class _Bounded(io.BytesIO):
    """The packed bytes, of which no more may come than an archive may hold altogether."""

    def __init__(self, content: bytes) -> None:
        if len(content) > TOTAL_BYTES:
            raise BadArchive(f"The archive has more than {TOTAL_BYTES} bytes.")
        super().__init__(content)


def _few(count: int) -> None:
    if count > ENTRIES:
        raise BadArchive(f"The archive has more than {ENTRIES} entries.")


def _fits(name: str, size: int) -> None:
    if size > FILE_BYTES:
        raise BadArchive(f"{shown(name)} in the archive has more than {FILE_BYTES} bytes.")


def _read(name: str, file: object) -> bytes:
    """What an entry really holds: its header may say less."""
    body: bytes = file.read(FILE_BYTES + 1)  # type: ignore[attr-defined]
    _fits(name, len(body))
    return body


def _safe(name: str) -> str:
    """``name`` as a path below the root of the archive."""
    steps = name.removeprefix("./").rstrip("/").split("/")
    if (
        not name.isprintable()
        or "\\" in name
        or name.startswith("/")
        or ":" in steps[0]
        or len(name) > 500
        or any(step in ("", "..", ".") for step in steps if name not in (".", "./"))
    ):
        raise BadArchive(f"{shown(name)} is no name for an entry of an archive.")
    return "/".join(steps)
