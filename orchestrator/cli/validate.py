"""``validate``: everything that is wrong with a template, found without a server."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from orchestrator.cli import exitcodes, options, render, reports, session, templates
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.tosca.sandbox import Compiler
    from orchestrator.tosca.sources import ImportSources

Json = dict[str, Any]


def validate(
    context: typer.Context,
    template: options.TemplateFiles,
    parameters: options.Parameters = None,
    pair: options.Pairs = None,
    import_map: options.ImportMap = None,
) -> None:
    """Check templates on this machine, without a server.

    Every problem is shown with its line and a caret below it; the exit code is 1 where there is
    any. Without parameters, an input that needs a value is noted; with parameters, it is a problem.
    """
    current = session.of(context)
    from orchestrator.settings import Limits
    from orchestrator.tosca.sandbox import Compiler

    compiler = Compiler(Limits(), workers=1, imports=_sources(import_map or []))
    try:
        results = [_checked(compiler, given, parameters, pair or []) for given in template]
    finally:
        compiler.close()
    _show(current, results)
    if not all(result["valid"] for result in results):
        raise typer.Exit(exitcodes.ERROR)
    current.next(f"vacuo plan {template[0]}")


def _sources(pairs: list[str]) -> ImportSources:
    """Where imports are found, of ``PREFIX=DIRECTORY`` pairs; nothing is fetched."""
    from orchestrator.tosca.sources import ImportSources

    places = {}
    for pair in pairs:
        prefix, separator, directory = pair.rpartition("=")
        if not separator or not Path(directory).is_dir():
            raise UserError(
                f"{pair} is not PREFIX=DIRECTORY, with a directory that is there.",
                attempt="--import-map https://raw.githubusercontent.com/=./mirror",
                code="parameter-invalid",
            )
        places[prefix] = Path(directory)
    try:
        return ImportSources(places)
    except ValueError as error:
        raise UserError(
            f"The import map cannot be used: {error}", code="parameter-invalid"
        ) from None


def _show(current: session.Session, results: list[Json]) -> None:
    shown = [line for result in results for line in _lines(result)]
    if current.output is session.Output.SARIF:
        print(json.dumps(reports.sarif(results), indent=2), file=current.out.file)
    elif current.output is session.Output.GITHUB:
        for line in reports.github(results):
            print(line, file=current.out.file)
    else:
        for result in results:
            del result["text"], result["noted"]
        valid = [result["file"] for result in results if result["valid"]]
        current.emit("validation", results, shown, valid)


def _lines(result: Json) -> list[Text]:
    if result["valid"]:
        groups = ", ".join(result["groups"]) or "no groups"
        return [
            Text.assemble(("✓", "green"), f" {render.plain(result['file'])}: {groups}"),
            *(Text(f"  note: {render.plain(note)}", style="dim") for note in result["notes"]),
        ]
    return [
        Text.assemble(("✗", "bold red"), f" {render.plain(result['file'])}"),
        *(Text(render.plain(line)) for line in result["text"]),
    ]


def _checked(compiler: Compiler, given: str, parameters: Path | None, pairs: list[str]) -> Json:
    """What is told of one template; ``text`` is the form for people, ``noted`` that for reports."""
    from orchestrator.tosca.problems import TemplateInvalid

    found: Json = {"file": given, "valid": False, "groups": [], "notes": [], "errors": [],
                   "text": [], "noted": []}  # fmt: skip
    try:
        text = templates.read(given)
        chosen = templates.parameters(parameters, pairs, templates.inputs(text))
        checked = compiler.check(text, chosen if parameters or pairs else None, given)
    except TemplateInvalid as error:
        found["errors"] = [asdict(problem) for problem in error.problems]
        found["text"] = [  # of an imported document or an archive the lines are not at hand
            problem.as_text(text if problem.file == given else "") for problem in error.problems
        ]
    except UserError as error:
        found["errors"] = [{"file": given, "sentence": str(error), "suggestion": error.attempt}]
        found["text"] = [str(error)]
    else:
        found |= {"valid": True, "groups": list(checked.groups),
                  "notes": [note.as_text() for note in checked.notes],
                  "noted": [asdict(note) for note in checked.notes]}  # fmt: skip
    return found
