"""The problems of templates in the forms that code hosts and editors read.

SARIF is the OASIS Static Analysis Results Interchange Format, version 2.1.0; the other one is the
workflow command ``::error`` of GitHub Actions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from orchestrator import __version__

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
RULE = "template-invalid"

Json = dict[str, Any]


def sarif(results: list[Json]) -> Json:
    """One run with every problem of every file of ``vacuo validate``."""
    found = [_result(problem) for result in results for problem in result["errors"]]
    rule = {"id": RULE, "shortDescription": {"text": "The template cannot be deployed as it is."}}
    driver = {"name": "vacuo", "semanticVersion": __version__, "rules": [rule]}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": found}
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def github(results: list[Json]) -> list[str]:
    """One ``::error`` a line for every problem of every file."""
    return [_command(problem) for result in results for problem in result["errors"]]


def _result(problem: Json) -> Json:
    place: Json = {"artifactLocation": {"uri": _uri(problem["file"])}}
    if problem.get("line"):
        place["region"] = {"startLine": problem["line"], "startColumn": problem["column"]}
    return {
        "ruleId": RULE,
        "level": "error",
        "message": {"text": _message(problem)},
        "locations": [{"physicalLocation": place}],
    }


def _command(problem: Json) -> str:
    fields = {"file": problem["file"], "title": "TOSCA"}
    if problem.get("line"):
        fields |= {"line": str(problem["line"]), "col": str(problem["column"])}
    listed = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in fields.items())
    return f"::error {listed}::{_escaped(_message(problem))}"


def _message(problem: Json) -> str:
    return f"{problem['sentence']} {problem.get('suggestion') or ''}".rstrip()


def _escaped(text: str, also: str = "") -> str:
    for character in "%\r\n" + also:  # the per cent sign first: it is what escapes
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _uri(file: str) -> str:
    path = Path(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
