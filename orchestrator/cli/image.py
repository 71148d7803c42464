"""``image build``: bake the roles of a template into images, on the machine of the server."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.text import Text

from orchestrator import settings
from orchestrator.cli import options, session, templates
from orchestrator.cli.options import Configuration
from orchestrator.errors import UserError

app = typer.Typer(
    name="image",
    help="Images with the roles of a template baked in.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def image() -> None:
    """Images with the roles of a template baked in, so that hosts have little left to do."""


@app.command()
def build(
    context: typer.Context,
    template: options.Template,
    site: Annotated[
        str | None, typer.Option("--site", help="For this site; else the first that takes it.")
    ] = None,
    parameters: options.Parameters = None,
    pair: options.Pairs = None,
    force: Annotated[bool, typer.Option("--force", help="Even if the image is there.")] = False,
    config: Configuration = None,
) -> None:
    """Bake the roles of each of the template's groups into an image, on the server's machine.

    Run it where the server runs, as the user it runs as. Hosts of groups that ask for just these
    roles and plain values are made from the image from then on.
    """
    current = session.of(context)
    if os.geteuid() != 0:
        raise UserError(
            "Building an image needs root.", "It makes a host.", "sudo vacuo image build …"
        )
    effective = settings.load(settings.find(str(config) if config else None))
    text = templates.read(template)
    # As in the server's command: what a client never needs is loaded for this alone.
    from orchestrator.control.image_build import build as bake

    built = bake(
        effective,
        text,
        templates.parameters(parameters, pair or [], templates.inputs(text)),
        site=site,
        force=force,
        say=lambda text: current.say(text, "dim"),
    )
    rows = [
        {
            "group": one.group,
            "site": one.site,
            "image": one.image.image,
            "base": one.image.base,
            "built": one.fresh,
            "tasks": one.tasks,
            "seconds": round(one.seconds, 1),
        }
        for one in built
    ]
    lines = [
        Text(
            f"{one.group}: {one.image.image} at {one.site}, "
            + (f"{one.tasks} tasks in {one.seconds:.0f} s" if one.fresh else "there already")
        )
        for one in built
    ]
    current.emit("images", rows, lines)
    current.next(f"vacuo plan {template}")
