"""``init``: ask for what a template wants, and keep the answers in a file."""

from __future__ import annotations

from collections.abc import Mapping
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
    # Only here: the types take longer to load than most commands take.
    from orchestrator.tosca.compile import base_library
    from orchestrator.tosca.inputs import unfit

    default = declared.get("default")
    if defaults and default is not None:
        return default
    required = declared.get("required", True) and default is None
    secret = _is_secret(name, declared)
    about = render.one_line(declared.get("description") or "")
    current.say(f"{name} ({declared.get('type', 'string')}){': ' + about if about else ''}")
    while True:
        given = typer.prompt(
            f"  {name}",
            default="" if default is None else _word(default),
            show_default=default is not None,
            hide_input=secret,
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
        if required and value in ("", None):
            wrong = "It is required."
        else:
            wrong = unfit(name, declared, value, base_library(), secret)
        if not wrong:
            return value
        current.say(f"  {wrong}", "red")


def _is_secret(name: str, declared: Mapping[str, Any]) -> bool:
    """Whether an input is asked for without an echo."""
    metadata = declared.get("metadata")
    if isinstance(metadata, Mapping) and metadata.get("secret") in (True, "true"):
        return True
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
