"""``init``: ask for what a template wants, and keep the answers in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.text import Text

from orchestrator.cli import completion, render, session, templates
from orchestrator.errors import UserError


def init_command(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(help="A shipped template or a file.", autocompletion=completion.templates),
    ],
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Where to write; NAME.parameters.yaml.")
    ] = None,
    defaults: Annotated[
        bool, typer.Option("--defaults", help="Ask nothing that has a default.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Ask for a template's inputs; write a parameters file."""
    current = session.of(context)
    path = templates.find(name)
    target = file or Path(f"{path.stem}.parameters.yaml")
    if target.exists() and not force:
        raise UserError(
            f"{target} exists.", attempt="--force to overwrite it, or --file", code="exists"
        )
    declared = templates.inputs(path.read_text(encoding="utf-8"))
    answers = {key: _ask(current, key, declared[key], defaults) for key in declared}
    answers = {key: value for key, value in answers.items() if value is not None}
    target.touch(mode=0o600)  # before there is anything in it: an answer may be a secret
    target.write_text(_parameters_file(path.stem, declared, answers), encoding="utf-8")
    current.emit("parameters_file", str(target), [Text(f"wrote {target}")], [str(target)])
    current.next(f"vacuo up {name} --parameters {target} --wait")


def _ask(current: session.Session, name: str, declared: Mapping[str, Any], defaults: bool) -> Any:
    default = declared.get("default")
    if defaults and default is not None:
        return default
    required = declared.get("required", True) and default is None
    about = render.one_line(declared.get("description") or "")
    current.say(f"{name} ({declared.get('type', 'string')}){': ' + about if about else ''}")
    while True:
        given = typer.prompt(
            f"  {name}",
            default="" if default is None else _word(default),
            show_default=default is not None,
            hide_input=_is_secret(name),
            err=True,
        )
        if default is not None and given == _word(default):
            return default
        if not given and not required:
            return None
        try:
            value = templates.typed(name, given, declared.get("type"))
        except UserError as error:
            current.say(f"  {error.what}", "red")
            continue
        wrong = violated(value, declared.get("constraints") or []) or (
            "It is required." if required and value in ("", None) else ""
        )
        if not wrong:
            return value
        current.say(f"  {wrong}", "red")


def violated(value: Any, constraints: list[dict[str, Any]]) -> str:
    """The first TOSCA constraint that ``value`` breaks, as a sentence; the server checks all."""
    for constraint in constraints:
        for word, bound in constraint.items():
            try:
                fits = _FITS[word](value, bound) if word in _FITS else True
            except TypeError:
                fits = True
            if not fits:
                return f"It must be {word.replace('_', ' ')} {bound}."
    return ""


_FITS: dict[str, Callable[[Any, Any], bool]] = {
    "equal": lambda value, bound: value == bound,
    "greater_than": lambda value, bound: value > bound,
    "greater_or_equal": lambda value, bound: value >= bound,
    "less_than": lambda value, bound: value < bound,
    "less_or_equal": lambda value, bound: value <= bound,
    "in_range": lambda value, bound: (
        bound[0] <= value and (bound[1] == "UNBOUNDED" or value <= bound[1])
    ),
    "valid_values": lambda value, bound: value in bound,
    "min_length": lambda value, bound: len(value) >= bound,
    "max_length": lambda value, bound: len(value) <= bound,
}


def _is_secret(name: str) -> bool:
    """Whether an input is asked for without an echo."""
    return any(word in name.lower() for word in ("password", "secret", "token"))


def _word(value: Any) -> str:
    return (
        value
        if isinstance(value, str)
        else yaml.safe_dump(value, default_flow_style=True).split("\n...")[0].strip()
    )


def _parameters_file(name: str, declared: templates.Inputs, answers: Mapping[str, Any]) -> str:
    lines = [f"# Parameters of the template {name}. Use: vacuo up {name} --parameters THIS-FILE\n"]
    for key, value in answers.items():
        about = render.one_line(declared[key].get("description") or "")
        lines.append(f"\n# {about}\n" if about else "\n")
        lines.append(yaml.safe_dump({key: value}, allow_unicode=True, default_flow_style=False))
    return "".join(lines)
