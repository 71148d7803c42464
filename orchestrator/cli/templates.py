"""Templates and their parameters, read on this machine; and ``templates``, which lists them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer
import yaml

from orchestrator.cli import render, session
from orchestrator.cli.resolve import suggestion
from orchestrator.data import directory
from orchestrator.errors import UserError

Inputs = dict[str, dict[str, Any]]


def shipped() -> dict[str, Path]:
    """The shipped templates by name."""
    return {path.stem: path for path in sorted(directory("tosca-templates").glob("*.yaml"))}


def find(given: str) -> Path:
    """The template file that ``given`` names: a path, or the name of a shipped template."""
    path = Path(given)
    if path.is_file():
        return path
    known = shipped()
    if given in known:
        return known[given]
    raise UserError(
        f"There is no template {given}.",
        suggestion(given, list(known)),
        "a path to a file, or a name that is shown by: vacuo templates",
        code="not-found",
    )


def read(given: str) -> str:
    """The text of a template, or its archive in base64; ``-`` is standard input."""
    from orchestrator.tosca import csar

    path = Path("/dev/stdin") if given == "-" else find(given)
    try:
        content = sys.stdin.buffer.read() if given == "-" else path.read_bytes()
        return csar.encoded(content) or content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(
            f"The template {path} cannot be read.", f"{why}.", code="template-invalid"
        ) from None


def inner(template: str) -> str:
    """The text of a template that may be in an archive; nothing where that is broken."""
    from orchestrator.tosca import csar

    try:
        archive = csar.opened(template, "")
    except UserError:
        return ""
    return template if archive is None else archive.text


def inputs(text: str) -> Inputs:
    """The declared inputs of a template; none where it is too broken to tell."""
    try:
        document = yaml.safe_load(inner(text))
        found = document["topology_template"]["inputs"]
        return {str(name): dict(declared) for name, declared in found.items()}
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def description(text: str) -> str:
    """The first paragraph of a template's description, on one line."""
    try:
        document = yaml.safe_load(text)
        return render.one_line(str(document.get("description") or "").strip().split("\n\n")[0])
    except (yaml.YAMLError, AttributeError):
        return ""


def parameters(file: Path | None, pairs: list[str], declared: Inputs) -> dict[str, Any]:
    """Parameters of a file and of ``name=value`` pairs, which win, by the inputs' types.

    ``name=@path`` reads the value from a file, so that a secret is never a process argument.
    """
    chosen = _parameters_of(file) if file else {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise UserError(
                f"{pair.split('=')[0] or 'The parameter'} is not name=value.",
                attempt="-p name=value, or -p name=@file for a value from a file",
                code="parameter-invalid",
            )
        if value.startswith("@"):
            value = _value_of(Path(value[1:]))
        chosen[name] = typed(name, value, declared.get(name, {}).get("type"))
    return chosen


def typed(name: str, value: str, type_: object) -> Any:
    """``value`` as the type of its input; the server checks the rest."""
    try:
        if type_ == "integer":
            return int(value)
        if type_ == "float":
            return float(value)
        if type_ == "boolean":
            return {"true": True, "yes": True, "false": False, "no": False}[value.lower()]
        return yaml.safe_load(value) if type_ in (None, "list", "map", "json") else value
    except (ValueError, KeyError, yaml.YAMLError):
        # The value itself may be secret and is not repeated.
        raise UserError(
            f"The value of {name} is not of the type {type_}.", code="parameter-invalid"
        ) from None


def _value_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"The file {path} of a parameter cannot be read.", code="parameter-invalid"
        ) from None


def _parameters_of(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"The parameters file {path} cannot be read.",
            f"{error.strerror}.",
            "make one with: vacuo init TEMPLATE",
            code="parameter-invalid",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # Only the place: the text around it may be a secret.
        mark = getattr(error, "problem_mark", None)
        where = f"Line {mark.line + 1}, column {mark.column + 1}." if mark else ""
        raise UserError(
            f"The parameters file {path} is not YAML.", where, code="parameter-invalid"
        ) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise UserError(
            f"The parameters file {path} is not a mapping of names to values.",
            attempt="make one with: vacuo init TEMPLATE",
            code="parameter-invalid",
        )
    return {str(name): value for name, value in document.items()}


def templates_command(context: typer.Context) -> None:
    """List the shipped templates and their inputs."""
    current = session.of(context)
    texts = {name: path.read_text(encoding="utf-8") for name, path in shipped().items()}
    found = [
        {"name": name, "description": description(text), "inputs": inputs(text)}
        for name, text in texts.items()
    ]
    rows = [(entry["name"], entry["description"], ", ".join(entry["inputs"])) for entry in found]
    current.emit(
        "templates", found, [render.table(("template", "what it makes", "inputs"), rows)], texts
    )
    current.next("vacuo init NAME, or vacuo up NAME")
