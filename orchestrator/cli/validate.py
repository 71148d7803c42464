"""``validate``: everything that is wrong with a template, found without a server."""

from __future__ import annotations

from typing import Any

import typer
from rich.text import Text

from orchestrator.cli import exitcodes, options, render, session, templates
from orchestrator.errors import UserError

Json = dict[str, Any]


def validate(
    context: typer.Context,
    template: options.TemplateFiles,
    parameters: options.Parameters = None,
    pair: options.Pairs = None,
) -> None:
    """Check templates on this machine, without a server.

    Every problem is shown with its line and a caret below it; the exit code is 1 where there is
    any.
    """
    current = session.of(context)
    results = [_checked(given, parameters, pair or []) for given in template]
    shown = [line for result in results for line in _lines(result)]
    broken = [result["file"] for result in results if not result["valid"]]
    for result in results:
        result.pop("text")
    valid = [result["file"] for result in results if result["valid"]]
    current.emit("validation", results, shown, valid)
    if broken:
        raise typer.Exit(exitcodes.ERROR)
    current.next(f"vacuo plan {template[0]}")


def _lines(result: Json) -> list[Text]:
    if result["valid"]:
        groups = ", ".join(result["groups"]) or "no groups"
        return [Text.assemble(("✓", "green"), f" {render.plain(result['file'])}: {groups}")]
    return [
        Text.assemble(("✗", "bold red"), f" {render.plain(result['file'])}"),
        *(Text(render.plain(line)) for line in result["text"]),
    ]


def _checked(given: str, parameters: Any, pairs: list[str]) -> Json:
    """What is told of one template; ``text`` is the form for people."""
    from orchestrator.settings import Limits
    from orchestrator.tosca.problems import TemplateInvalid
    from orchestrator.tosca.sandbox import Compiler

    found: Json = {"file": given, "valid": False, "groups": [], "errors": [], "text": []}
    try:
        text = templates.read(given)
        chosen = templates.parameters(parameters, pairs, templates.inputs(text))
        compiled = Compiler(Limits()).compile(text, chosen)
    except TemplateInvalid as error:
        found["errors"] = [_problem(given, problem) for problem in error.problems]
        found["text"] = [problem.as_text(text) for problem in error.problems]
    except UserError as error:
        found["errors"] = [{"file": given, "sentence": str(error), "suggestion": error.attempt}]
        found["text"] = [str(error)]
    else:
        found |= {"valid": True, "groups": [group.name for group in compiled.groups]}
    return found


def _problem(given: str, problem: Any) -> Json:
    return {
        "file": given,
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "sentence": problem.sentence,
        "suggestion": problem.suggestion,
    }
