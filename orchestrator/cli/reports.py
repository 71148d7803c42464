"""The problems of templates in the forms that code hosts and editors read.

SARIF is the OASIS Static Analysis Results Interchange Format, version 2.1.0; the other one is the
workflow commands ``::error`` and ``::notice`` of GitHub Actions.  Both have the problems and, of
sound templates, the notes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from orchestrator import __version__

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
RULE = "template-invalid"
NOTE = "template-note"
_RULES = {
    RULE: "The template cannot be deployed as it is.",
    NOTE: "The template is sound; this is worth knowing.",
}

Json = dict[str, Any]


def sarif(results: list[Json]) -> Json:
    """One run with every problem and note of every file of ``vacuo validate``."""
    found = [
        *(_result(problem, RULE, "error") for result in results for problem in result["errors"]),
        *(_result(note, NOTE, "note") for result in results for note in result["noted"]),
    ]
    rules = [{"id": id, "shortDescription": {"text": text}} for id, text in _RULES.items()]
    driver = {"name": "vacuo", "semanticVersion": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": found}
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def github(results: list[Json]) -> list[str]:
    """One ``::error`` a line for every problem of every file, one ``::notice`` for every note."""
    return [
        *(_command("error", problem) for result in results for problem in result["errors"]),
        *(_command("notice", note) for result in results for note in result["noted"]),
    ]


def _result(problem: Json, rule: str, level: str) -> Json:
    place: Json = {"artifactLocation": {"uri": _uri(problem["file"])}}
    if problem.get("line"):
        place["region"] = {"startLine": problem["line"], "startColumn": problem["column"]}
    return {
        "ruleId": rule,
        "level": level,
        "message": {"text": _message(problem)},
        "locations": [{"physicalLocation": place}],
    }


def _command(command: str, problem: Json) -> str:
    fields = {"file": problem["file"], "title": "TOSCA"}
    if problem.get("line"):
        fields |= {"line": str(problem["line"]), "col": str(problem["column"])}
    listed = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in fields.items())
    return f"::{command} {listed}::{_escaped(_message(problem))}"


def _message(problem: Json) -> str:
    return f"{problem['sentence']} {problem.get('suggestion') or ''}".rstrip()


def _escaped(text: str, also: str = "") -> str:
    for character in "%\r\n" + also:  # the per cent sign first: it is what escapes
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _uri(file: str) -> str:
    path = Path(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
