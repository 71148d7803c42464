"""``catalogue``: the pinned bundles of TOSCA types of the server on this machine.

Like ``server`` it works on the server's own data directory; a running server sees the change.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from orchestrator import settings
from orchestrator.cli import render, session
from orchestrator.cli.options import Configuration
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.tosca.bundles import Bundle, Bundles, Content, Difference

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the bundle.")]

app = typer.Typer(
    name="catalogue",
    help="Pinned bundles of TOSCA types, which templates may import on this server.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def add(
    context: typer.Context,
    name: Name,
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A directory, a file, a zip or tar, an https URL."),
    ],
    prefix: Annotated[
        str | None,
        typer.Option(
            "--prefix",
            metavar="URL",
            help="Imports whose address begins so are found in the bundle.",
        ),
    ] = None,
    config: Configuration = None,
) -> None:
    """Copy TOSCA documents in, under their checksums."""
    current = session.of(context)
    from orchestrator.tosca.bundle_sources import bundle_from

    bundle, content = bundle_from(name, source, prefix)
    _bundles(config).put(bundle, content, new=True)
    _say_left_out(current, content)
    current.emit("bundle", _document(bundle), _shown(bundle), [bundle.name])
    current.next(f"import {_example(bundle)} in a template")


@app.command("list")
def list_(context: typer.Context, config: Configuration = None) -> None:
    """List the bundles, with what they answer for and their checksums."""
    current = session.of(context)
    found = _bundles(config).all()
    rows = [
        (one.name, str(len(one.files)), one.prefix or "-", one.sha256[:16], one.source)
        for one in found
    ]
    columns = ("bundle", "documents", "answers for", "sha256", "source")
    names = [one.name for one in found]
    current.emit("bundles", [_document(b) for b in found], [render.table(columns, rows)], names)
    if not found:
        current.next("vacuo catalogue add NAME SOURCE --prefix URL")


@app.command()
def remove(context: typer.Context, name: Name, config: Configuration = None) -> None:
    """Take a bundle away; deployments keep what was made of it."""
    current = session.of(context)
    bundle = _bundles(config).remove(name)
    current.emit("removed", _document(bundle), [Text(f"removed {render.plain(name)}")], [name])


@app.command()
def update(
    context: typer.Context,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: Configuration = None,
) -> None:
    """Take a bundle from its source again: shows which types change, and asks."""
    current = session.of(context)
    from orchestrator.tosca.bundle_sources import bundle_from
    from orchestrator.tosca.bundles import Difference

    bundles = _bundles(config)
    old = bundles.get(name)
    new, content = bundle_from(name, old.source, old.prefix)
    if new.sha256 == old.sha256:
        bundles.put(old, content, new=False)  # mends files that are not what was pinned
        current.emit("update", {"changed": False, **_document(old)}, [Text("nothing has changed")])
        return
    difference = Difference.between(_content(bundles, old), content)
    if not yes:
        for line in _lines(difference):
            current.say(line)
        typer.confirm(f"Replace the bundle {name}?", abort=True, err=True)
    bundles.put(new, content, new=False)
    _say_left_out(current, content)
    told = {"changed": True, "types": asdict(difference), **_document(new)}
    current.emit("update", told, [*_lines(difference), *_shown(new)], [name])


def _content(bundles: Bundles, old: Bundle) -> Content:
    """What was pinned; nothing where that is damaged, so that all of it counts as new."""
    from orchestrator.tosca.bundles import Content

    try:
        return bundles.content(old)
    except UserError:
        return Content({}, {})


def _bundles(config: Path | None) -> Bundles:
    from orchestrator.tosca.bundles import Bundles
    from orchestrator.tosca.sources import catalogue_directory

    path = settings.find(str(config) if config else None)
    return Bundles(catalogue_directory(settings.load(path)))


def _document(bundle: Bundle) -> dict[str, Any]:
    return asdict(bundle)


def _shown(bundle: Bundle) -> list[Text]:
    files = [
        Text(f"  {digest[:16]}  {render.plain(path)}") for path, digest in bundle.files.items()
    ]
    answers = f", answers for {bundle.prefix}" if bundle.prefix else ""
    return [Text(f"{bundle.name}: sha256 {bundle.sha256}{render.plain(answers)}"), *files]


def _lines(difference: Difference) -> list[Text]:
    return [
        *(Text(f"+ {render.plain(name)}", "green") for name in difference.added),
        *(Text(f"- {render.plain(name)}", "red") for name in difference.removed),
        *(Text(f"~ {render.plain(name)}", "yellow") for name in difference.changed),
    ] or [Text("no type changes; only other parts of the documents do")]


def _say_left_out(current: session.Session, content: Content) -> None:
    if content.others:
        current.say(f"{content.others} files that are no TOSCA documents were left out", "dim")


def _example(bundle: Bundle) -> str:
    path = next(iter(bundle.files))
    return (bundle.prefix or f"{bundle.name}/") + path
