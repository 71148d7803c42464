"""Where imported documents come from: import map, pinned bundles, https from listed hosts.

This is the parent's side: the sandbox asks for canonical names (:mod:`orchestrator.tosca.names`)
and is given what they stand for, or why it cannot have it.  Nothing is asked for before a caller
is known, and no template is read here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.outbound import Guard, Outbound, OutboundError, OutboundRefused
from orchestrator.settings import Imports, Settings
from orchestrator.tosca import names
from orchestrator.tosca.bundles import Bundles
from orchestrator.tosca.imports import Document
from orchestrator.tosca.names import Refusal
from orchestrator.tosca.problems import shown

_log = logging.getLogger(__name__)
# A document that was fetched serves this long: a plan and the deployment after it see the same.
FRESH_SECONDS = 600.0
SECONDS_PER_CHARACTER = 1e-5  # of processor time, at most
_FETCHED = 64
_RECENT = 32
_FETCHES = 3  # as many slow ones does one template wait for

Fetch = Callable[[str], bytes]


class FetchFailed(Exception):
    """An address could not be read; the message says why, as half a sentence."""


class ImportSources:
    """Finds documents by canonical name.  May be used from any thread.

    ``places`` maps URL prefixes to directories; ``fetch`` reads an https address that it allows,
    or raises :class:`FetchFailed`.
    """

    def __init__(
        self,
        places: Mapping[str, Path] | None = None,
        *,
        bundles: Bundles | None = None,
        fetch: Fetch | None = None,
        limits: Imports | None = None,
    ) -> None:
        given = (places or {}).items()
        self._places = [(_prefix(url), Path(directory)) for url, directory in given]
        self._places.sort(key=lambda place: len(place[0]), reverse=True)
        self._bundles = bundles
        self._fetch = fetch
        self.limits = limits or Imports()
        self._lock = threading.Lock()
        self._fetched: dict[str, tuple[float, Document]] = {}
        self._recent: dict[str, None] = {}

    def recent(self) -> tuple[str, ...]:
        """Names that were found lately."""
        with self._lock:
            return tuple(self._recent)

    def find(self, name: str) -> Document | Refusal:
        """What ``name`` stands for now."""
        if name.startswith("./"):  # what an archive has is on the shelf already
            return Refusal(f"The archive has no file {shown(names.shown(name), 100)}.")
        found = self._find(name)
        if isinstance(found, Document):
            with self._lock:
                self._recent.pop(name, None)
                self._recent[name] = None
                if len(self._recent) > _RECENT:
                    self._recent.pop(next(iter(self._recent)))
        return found

    def _find(self, name: str) -> Document | Refusal:
        if names.is_url(name):
            for prefix, directory in self._places:
                path = names.within(prefix, name)
                if path is not None:
                    return self._in_directory(name, prefix, directory, path)
        kept = self._bundles.find(name) if self._bundles else None
        if kept is not None:
            return kept
        if not names.is_url(name):
            return Refusal(
                f"{shown(names.shown(name), 100)} is neither in the catalogue nor in a bundle of "
                "this server.",
                "Import `vacuo/types.yaml`, or send the template and its files in one archive.",
            )
        return self._remote(name)

    def _in_directory(
        self, name: str, prefix: str, directory: Path, path: str
    ) -> Document | Refusal:
        try:
            found = (directory / path).resolve(strict=True)
            if not found.is_relative_to(directory.resolve()) or not found.is_file():
                raise FileNotFoundError
            with found.open("rb") as file:
                content = file.read(self.limits.document_bytes + 1)
        except (OSError, ValueError):
            return Refusal(
                f"The import map answers for {shown(prefix, 100)} and has no {shown(path, 100)}."
            )
        return self._document(name, content)

    def _remote(self, name: str) -> Document | Refusal:
        if not name.startswith("https://"):
            return Refusal("An import is fetched by https only.", "Write `https://`.")
        host = urlsplit(name).hostname or ""
        if self._fetch is None:
            return Refusal(
                f"{shown(name, 100)} is in no import map and in no bundle, and nothing is fetched "
                "here.",
                "Give an import map, or add a bundle: docs/admin/catalogue.md.",
            )
        with self._lock:
            at, document = self._fetched.get(name, (0.0, None))
        if document is not None and time.monotonic() - at < FRESH_SECONDS:
            return document
        try:
            content = self._fetch(name)
        except FetchFailed as error:
            _log.warning("an import was not fetched", extra={"host": host, "why": str(error)})
            return Refusal(f"{shown(name, 100)} cannot be imported: {error}.")
        fetched = self._document(name, content)
        if isinstance(fetched, Document):
            with self._lock:
                if len(self._fetched) >= _FETCHED:
                    self._fetched.pop(next(iter(self._fetched)))
                self._fetched[name] = (time.monotonic(), fetched)
        return fetched

    def _document(self, name: str, content: bytes) -> Document | Refusal:
        most = self.limits.document_bytes
        if len(content) > most:
            return Refusal(f"{shown(names.shown(name), 100)} has more than {most} bytes.")
        return Document.of(name, content)


def sources_of(settings: Settings) -> ImportSources:
    """What a server with ``settings`` imports from."""
    given = settings.imports
    guard = Guard(
        given.hosts,
        given.private_hosts,
        maximum_bytes=given.document_bytes,
        seconds=given.fetch_seconds,
    )
    outbound = Outbound(guard)

    def fetch(url: str) -> bytes:
        try:
            return outbound.get(url)
        except OutboundRefused as refused:
            raise FetchFailed(
                f"{refused}; the administrator lists hosts, maps them or adds a bundle"
            ) from None
        except OutboundError as error:
            raise FetchFailed(str(error)) from None

    return ImportSources(
        given.map, bundles=Bundles(catalogue_directory(settings)), fetch=fetch, limits=given
    )


def catalogue_directory(settings: Settings) -> Path:
    """Where the pinned bundles of a server are."""
    return settings.data_directory / "catalogue"


class Gathering:
    """The shelf of one template as it fills: what was asked for, within the limits."""

    def __init__(self, sources: ImportSources) -> None:
        self._sources = sources
        self.shelf: dict[str, Document | Refusal] = {}
        self._bytes = 0
        self._seconds = 0.0  # spent on finding: a thread of the server waits for it

    def add(self, wanted: str) -> None:
        """Put what ``wanted`` stands for, or why it cannot be had, on the shelf."""
        if wanted not in self.shelf:
            began = time.monotonic()
            self.shelf[wanted] = self._found(wanted)
            self._seconds += time.monotonic() - began

    def guess(self, template: str) -> None:
        """Put there what the template seems to import, to be asked for less often."""
        for name in self._sources.recent():
            if name in template:
                self.add(name)

    def wire(self, known: frozenset[str]) -> list[dict[str, Any]]:
        """The shelf as the worker reads it, less the texts whose digests it knows."""
        return [
            {"name": name, "refused": [found.sentence, found.suggestion]}
            if isinstance(found, Refusal)
            else {
                "name": name,
                "sha256": found.sha256,
                "text": None if found.sha256 in known else found.text,
                "shared": found.shared,
            }
            for name, found in self.shelf.items()
        ]

    @property
    def cost(self) -> float:
        """Processor time that reading the shelf may take, in seconds."""
        return self._bytes * SECONDS_PER_CHARACTER

    @property
    def digests(self) -> frozenset[str]:
        """Of the texts that a worker may keep."""
        found = self.shelf.values()
        return frozenset(d.sha256 for d in found if isinstance(d, Document) and d.shared)

    def _found(self, name: str) -> Document | Refusal:
        limits = self._sources.limits
        if len(self.shelf) >= limits.documents:
            return Refusal(f"A template imports at most {limits.documents} documents.")
        if self._seconds > _FETCHES * limits.fetch_seconds:
            return Refusal("The imports before this one took too long to fetch.")
        found = self._sources.find(name)
        if isinstance(found, Document):
            self._bytes += len(found.text)
            if self._bytes > limits.total_bytes:
                return Refusal(
                    f"The imports of a template have at most {limits.total_bytes} bytes."
                )
        return found


def _prefix(text: str) -> str:
    """A URL prefix in the spelling of canonical names, ending in a slash."""
    found = names.url(text.rstrip("/") + "/")
    if isinstance(found, Refusal):
        raise ValueError(f"{text}: {found.sentence}")
    return found
