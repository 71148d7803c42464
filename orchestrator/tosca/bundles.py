"""Pinned bundles of TOSCA types: copied in once, known by their content, used only unchanged.

A bundle lives in ``catalogue/objects/<SHA-256>/`` of the data directory; ``catalogue/index.json``
says which bundles there are, where they came from, and what the content of each file must be.
Both change by renaming, so whoever reads sees the old or the new; a server that runs looks at the
index whenever it is asked for an import.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import Conflict, NotFound, UserError
from orchestrator.tosca import names
from orchestrator.tosca.definitions import KINDS
from orchestrator.tosca.imports import Document
from orchestrator.tosca.names import Refusal
from orchestrator.tosca.problems import Problem, Report, TemplateInvalid, did_you_mean, shown
from orchestrator.tosca.read import Table, plain, read

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_VERSION = "tosca_definitions_version"


@dataclass(frozen=True)
class Bundle:
    """One bundle: where it came from, the URL prefix that it answers for ("" for none), the
    SHA-256 of the whole, and of each file by its path."""

    name: str
    source: str
    prefix: str
    added_at: str
    sha256: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Content:
    """TOSCA documents by path, read and found sound, and how many other files lay beside them."""

    files: Mapping[str, bytes]
    types: Mapping[str, Any] = field(repr=False)
    others: int = 0

    @property
    def digests(self) -> Mapping[str, str]:
        """The SHA-256 of each document."""
        return {path: _digest(body) for path, body in sorted(self.files.items())}

    @property
    def sha256(self) -> str:
        """Of the whole: of all paths and digests, in their order."""
        lines = [f"{path}\0{digest}\n" for path, digest in self.digests.items()]
        return _digest("".join(lines).encode())


@dataclass(frozen=True)
class Difference:
    """Types by their names: what a new content has more, less, and otherwise."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    @classmethod
    def between(cls, old: Content, new: Content) -> Difference:
        kept = old.types.keys() & new.types.keys()
        return cls(
            tuple(sorted(new.types.keys() - kept)),
            tuple(sorted(old.types.keys() - kept)),
            tuple(sorted(name for name in kept if old.types[name] != new.types[name])),
        )


class Bundles:
    """The bundles in a directory.  Looking may be done from any thread and any process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._index: tuple[Bundle, ...] = ()

    def all(self) -> tuple[Bundle, ...]:
        """What there is now, by name."""
        try:
            found = (self._directory / "index.json").stat()
        except FileNotFoundError:
            return ()
        stamp = (found.st_mtime_ns, found.st_ino)
        with self._lock:
            if stamp != self._seen:
                document = json.loads((self._directory / "index.json").read_text("utf-8"))
                self._index = tuple(Bundle(**one) for one in document["bundles"])
                self._seen = stamp
            return self._index

    def get(self, name: str) -> Bundle:
        """The bundle of that name; raises :class:`NotFound`."""
        known = {bundle.name: bundle for bundle in self.all()}
        if name not in known:
            hint = did_you_mean(name, known)
            raise NotFound(
                f"There is no bundle {shown(name)}. {hint}".rstrip(), "vacuo catalogue list"
            )
        return known[name]

    def find(self, name: str) -> Document | Refusal | None:
        """The document that a canonical name stands for; None where no bundle answers for it."""
        try:
            answering = [(b, path) for b in self.all() if (path := _path(b, name)) is not None]
        except (OSError, ValueError, TypeError, KeyError):
            return Refusal("The catalogue of this server cannot be read.")
        if not answering:
            return None
        bundle, path = max(answering, key=lambda found: len(found[0].prefix))
        if path not in bundle.files:
            return Refusal(
                f"The bundle {shown(bundle.name)} answers for {shown(name, 100)} and has no "
                f"{shown(path, 100)}.",
                did_you_mean(path, bundle.files),
            )
        try:
            return Document.of(name, self._read(bundle, path))
        except UserError as error:
            # Replaced meanwhile, perhaps; then the index has changed before the files went.
            return self.find(name) if bundle not in self.all() else Refusal(str(error))

    def _read(self, bundle: Bundle, path: str) -> bytes:
        try:
            content = (self._objects / bundle.sha256 / path).read_bytes()
        except OSError:
            content = b""
        if _digest(content) != bundle.files[path]:
            raise UserError(
                f"{shown(path, 100)} of the bundle {shown(bundle.name)} is not what was pinned, "
                "and is not used."
            )
        return content

    @property
    def _objects(self) -> Path:
        return self._directory / "objects"

    def content(self, bundle: Bundle) -> Content:
        """All of a bundle; raises :class:`UserError` where it is not what was pinned."""
        return content_of({path: self._read(bundle, path) for path in bundle.files})

    def put(self, bundle: Bundle, content: Content, *, new: bool) -> None:
        """Add a bundle, or replace the one of its name.

        Raises :class:`Conflict` where the name or the prefix is another's already.
        """
        if not _NAME.fullmatch(bundle.name) or bundle.name == names.SHIPPED.rstrip("/"):
            raise UserError(
                f"{shown(bundle.name)} cannot be the name of a bundle.",
                "It consists of lower-case letters, digits, `.`, `_` and `-`, and is not `vacuo`.",
                code="configuration-invalid",
            )
        with self._changing():
            others = [one for one in self.all() if one.name != bundle.name]
            if new and len(others) < len(self.all()):
                raise Conflict(
                    f"There is a bundle {shown(bundle.name)} already.",
                    attempt=f"vacuo catalogue update {bundle.name}",
                )
            for one in others:
                if bundle.prefix and one.prefix == bundle.prefix:
                    raise Conflict(
                        f"The bundle {shown(one.name)} answers for {one.prefix} already."
                    )
            self._store(bundle.sha256, content)
            self._write((*others, bundle))

    def remove(self, name: str) -> Bundle:
        """Take a bundle away; deployments keep what was compiled with it."""
        with self._changing():
            bundle = self.get(name)
            self._write(tuple(one for one in self.all() if one.name != name))
            return bundle

    def _store(self, sha256: str, content: Content) -> None:
        target = self._objects / sha256
        if target.is_dir():
            found = {path: target / path for path in content.files}
            if all(at.is_file() and at.read_bytes() == content.files[p] for p, at in found.items()):
                return
            shutil.rmtree(target)  # damaged
        self._objects.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=self._objects, prefix=".new-"))
        made.chmod(0o755)
        for path, body in content.files.items():
            file = made / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)
        made.rename(target)

    def _write(self, bundles: tuple[Bundle, ...]) -> None:
        listed = [asdict(bundle) for bundle in sorted(bundles, key=lambda one: one.name)]
        made = self._directory / ".index.new"
        with made.open("w", encoding="utf-8") as file:
            json.dump({"bundles": listed}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        made.replace(self._directory / "index.json")
        used = {bundle.sha256 for bundle in bundles}
        for found in self._objects.iterdir() if self._objects.is_dir() else ():
            if found.name not in used:
                shutil.rmtree(found, ignore_errors=True)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """One who changes at a time, among all processes."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with (self._directory / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except PermissionError as error:
            raise UserError(
                f"The catalogue {self._directory} cannot be changed.",
                f"{error.strerror}.",
                "run this as the account of the server",
                code="configuration-invalid",
            ) from None


def content_of(files: Mapping[str, bytes]) -> Content:
    """What of ``files`` is TOSCA.  Raises :class:`TemplateInvalid` where that cannot be read, and
    :class:`UserError` where there is nothing."""
    kept: dict[str, bytes] = {}
    types: dict[str, Any] = {}
    broken: list[Problem] = []
    for path, body in sorted(files.items()):
        if not path.endswith((".yaml", ".yml")) or _VERSION.encode() not in body:
            continue
        found = Document.of(path, body)
        report = Report(path)
        if isinstance(found, Refusal):
            raise UserError(found.sentence, code="template-invalid")
        try:
            tree = read(found.text, report, last_wins=True)
        except TemplateInvalid as invalid:
            broken += invalid.problems
            continue
        broken += report.problems
        if isinstance(tree, Table):
            kept[path] = body
            document = plain(tree)
            for kind in KINDS:
                section = document.get(kind)
                types |= section if isinstance(section, dict) else {}
    if broken:
        raise TemplateInvalid(broken)
    if not kept:
        raise UserError(
            "There is no TOSCA document there.",
            f"A document is a .yaml or .yml file with {shown(_VERSION)}.",
            code="template-invalid",
        )
    return Content(kept, types, len(files) - len(kept))


def _path(bundle: Bundle, name: str) -> str | None:
    """Where in ``bundle`` the document ``name`` would be; None where it does not answer for it."""
    if not names.is_url(name):
        return names.within(bundle.name, name)
    return names.within(bundle.prefix, name) if bundle.prefix else None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
