"""Where an administrator takes a bundle from: a directory, a file, an archive, an https address."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.errors import UserError
from orchestrator.outbound import Guard, Outbound, OutboundError
from orchestrator.tosca import names
from orchestrator.tosca.archives import (
    ENTRIES,
    FILE_BYTES,
    TOTAL_BYTES,
    BadArchive,
    unpacked,
)
from orchestrator.tosca.bundles import Bundle, Content, content_of
from orchestrator.tosca.names import Refusal

_YAML = (".yaml", ".yml")
_SECONDS = 60.0


def bundle_from(name: str, source: str, prefix: str | None) -> tuple[Bundle, Content]:
    """What lies at ``source``, as a bundle that answers for ``prefix``.

    Without a prefix a single document at an https address answers for the directory it lies in,
    and anything else for nothing: it goes by the name of the bundle only.  Raises
    :class:`UserError`.
    """
    if prefix is None:
        prefix = source.rpartition("/")[0] + "/" if _is_document(source) else ""
    if prefix:
        found = names.url(prefix.rstrip("/") + "/")
        if isinstance(found, Refusal):
            raise UserError(
                f"{prefix} is no URL prefix.", found.sentence, code="configuration-invalid"
            )
        prefix = found
    source = source if names.is_url(source) else str(Path(source).absolute())
    content = content_of(_files(source))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Bundle(name, source, prefix, now, content.sha256, content.digests), content


def _is_document(source: str) -> bool:
    return names.is_url(source) and urlsplit(source).path.endswith(_YAML)


def _files(source: str) -> Mapping[str, bytes]:
    if names.is_url(source):
        return _of_bytes(_fetched(source), urlsplit(source).path.rpartition("/")[2], source)
    path = Path(source)
    try:
        if path.is_dir():
            return _of_directory(path)
        if path.stat().st_size > TOTAL_BYTES:
            raise _unusable(source, f"It has more than {TOTAL_BYTES} bytes.")
        return _of_bytes(path.read_bytes(), path.name, source)
    except OSError as error:
        raise _unusable(source, f"{error.strerror}.") from None


def _fetched(source: str) -> bytes:
    """The administrator names the address, so its host is allowed, wherever it is."""
    at = urlsplit(source).netloc.lower().removesuffix(":443")
    guard = Guard((at,), (at,), maximum_bytes=TOTAL_BYTES, seconds=_SECONDS)
    try:
        return Outbound(guard).get(source)
    except OutboundError as error:
        raise _unusable(source, f"{str(error)[:1].upper()}{str(error)[1:]}.") from None


def _of_bytes(content: bytes, name: str, source: str) -> Mapping[str, bytes]:
    if name.endswith(_YAML):
        return {name: content}
    try:
        files = unpacked(content)
    except BadArchive as bad:
        raise _unusable(source, str(bad)) from None
    tops = {path.partition("/")[0] for path in files}
    if len(tops) == 1 and all("/" in path for path in files):
        # As forges pack a repository: everything in one directory that names it.
        return {path.partition("/")[2]: body for path, body in files.items()}
    return files


def _of_directory(root: Path) -> Mapping[str, bytes]:
    """The YAML files below ``root``; links are not followed."""
    files: dict[str, bytes] = {}
    size = 0
    for directory, inner, found in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(found):
            path = Path(directory) / name
            if not name.endswith(_YAML) or path.is_symlink() or not path.is_file():
                continue
            size += path.stat().st_size
            if path.stat().st_size > FILE_BYTES or size > TOTAL_BYTES or len(files) >= ENTRIES:
                raise _unusable(
                    str(root),
                    f"A bundle has at most {ENTRIES} documents of {FILE_BYTES} bytes, and "
                    f"{TOTAL_BYTES} bytes altogether; {path} is too much.",
                )
            files[path.relative_to(root).as_posix()] = path.read_bytes()
    return files


def _unusable(source: str, why: str) -> UserError:
    return UserError(f"No bundle can be made of {source}.", why, code="configuration-invalid")
