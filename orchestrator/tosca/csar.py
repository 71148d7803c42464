"""Templates in archives (CSAR): a zip, in base64 where a template's text would stand.

The template is what ``TOSCA-Metadata/TOSCA.meta`` names, or the one YAML file at the root.  It may
import the files beside it, which are named ``./<path>`` here.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.tosca.archives import ZIP, BadArchive, is_zip, unpacked
from orchestrator.tosca.imports import Document
from orchestrator.tosca.names import Refusal
from orchestrator.tosca.problems import Problem, TemplateInvalid, did_you_mean, shown

META = "TOSCA-Metadata/TOSCA.meta"
ENTRY = "Entry-Definitions"
# What the base64 of every zip begins with; no TOSCA document does.
_MARK = base64.b64encode(ZIP)[:5].decode()
_YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Archive:
    """A template that came in an archive: its path there, its text, and all files on a shelf."""

    entry: str
    text: str
    shelf: Mapping[str, Document | Refusal]

    @property
    def origin(self) -> str:
        return f"./{self.entry}"


def encoded(content: bytes) -> str | None:
    """An archive as it is sent in the place of a template; None where it is none."""
    return base64.b64encode(content).decode() if is_zip(content) else None


def opened(template: str, file: str) -> Archive | None:
    """The archive that ``template`` is; None where it is the text of a template itself.

    Raises :class:`TemplateInvalid` where it is an archive that cannot be used.
    """
    if not template.startswith(_MARK):
        return None
    try:
        files = unpacked(base64.b64decode("".join(template.split()), validate=True))
        entry = _entry(files)
        found = {f"./{p}": Document.of(f"./{p}", body, False) for p, body in files.items()}
        main = found[f"./{entry}"]
        if isinstance(main, Refusal):
            raise BadArchive(main.sentence)
        return Archive(entry, main.text, found)
    except binascii.Error:
        sentence = "This begins like an archive in base64, and is not base64."
    except BadArchive as bad:
        sentence = str(bad)
    raise TemplateInvalid([Problem(file, 1, 1, "", sentence)])


def _entry(files: Mapping[str, bytes]) -> str:
    """The path of the template."""
    if META not in files:
        roots = [path for path in files if "/" not in path and path.endswith(_YAML)]
        if len(roots) != 1:
            raise BadArchive(
                f"The archive has no {shown(META)} and {len(roots)} YAML files at its root; "
                "without the one there must be exactly one of the other."
            )
        return roots[0]
    entry = ""
    for line in files[META].decode("utf-8", "replace").splitlines():
        if not line.strip():
            break  # the blocks that follow are about single files
        key, _, value = line.partition(":")
        if key.strip() == ENTRY:
            entry = value.strip()
    if not entry:
        raise BadArchive(f"{shown(META)} names no {shown(ENTRY)}.")
    if entry not in files:
        hint = did_you_mean(entry, files)
        raise BadArchive(
            f"{shown(META)} names {shown(entry)}, which is not in the archive. {hint}".rstrip()
        )
    return entry
