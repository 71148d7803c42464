"""``image build``: bake the roles of a template into images, on the machine of the server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from orchestrator import settings
from orchestrator.cli import options, session, templates
from orchestrator.cli.options import Configuration
from orchestrator.cli.session import Session
from orchestrator.errors import UserError
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from orchestrator.control.image_build import Built

app = typer.Typer(
    name="image",
    help="Images with the roles of a template baked in.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def image() -> None:
    """Images with the roles of a template baked in, so that hosts have little left to do."""


class Format(StrEnum):
    """What an image is made as."""

    CONTAINER = "container"  # for hosts of a local site, kept by its engine
    QCOW2 = "qcow2"  # a disk, for clouds


class Base(StrEnum):
    """The systems that disks can be made of."""

    DEBIAN_12 = "debian-12"
    DEBIAN_13 = "debian-13"


@dataclass(frozen=True)
class Recipe:
    """What is to be baked, read and checked."""

    settings: Settings
    template: str
    inputs: Mapping[str, Any]
    force: bool


@app.command()
def build(
    context: typer.Context,
    template: options.Template,
    form: Annotated[
        Format, typer.Option("--format", help="A container image, or a disk for clouds.")
    ] = Format.CONTAINER,
    site: Annotated[
        str | None, typer.Option("--site", help="For this site; else the first that takes it.")
    ] = None,
    base: Annotated[
        Base | None, typer.Option("--base", help="The system of a disk; debian-13 if not named.")
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--directory", help="Where disks are written; else where you are."),
    ] = None,
    replaces: Annotated[
        str | None,
        typer.Option("--replaces", help="What clouds call the image that hosts get otherwise."),
    ] = None,
    parameters: options.Parameters = None,
    pair: options.Pairs = None,
    force: Annotated[bool, typer.Option("--force", help="Even if the image is there.")] = False,
    config: Configuration = None,
) -> None:
    """Bake the roles of each of the template's groups into an image, on the server's machine.

    Run it where the server runs, as the user it runs as. Hosts of groups that ask for just these
    roles and plain values are made from the image from then on. With --format qcow2 the image is a
    disk that boots, for a cloud to be given.
    """
    current = session.of(context)
    disk = form is Format.QCOW2
    stray = _stray_option(
        disk, site, {"--base": base, "--directory": directory, "--replaces": replaces}
    )
    if stray:
        raise UserError(
            f"{stray} does not go with --format {form}.", attempt="vacuo image build -h"
        )
    if os.geteuid() != 0:
        raise UserError(
            "Building an image needs root.", "It makes a host.", "sudo vacuo image build …"
        )
    effective = settings.load(settings.find(str(config) if config else None))
    text = templates.read(template)
    inputs = templates.parameters(parameters, pair or [], templates.inputs(text))
    recipe = Recipe(effective, text, inputs, force)
    if disk:
        _build_disks(current, recipe, base or Base.DEBIAN_13, directory or Path(), replaces)
    else:
        _build_containers(current, recipe, site)
        current.next(f"vacuo plan {template}")


def _stray_option(disk: bool, site: str | None, of_disks: Mapping[str, object]) -> str | None:
    if disk:
        return "--site" if site else None
    return next((name for name, value in of_disks.items() if value is not None), None)


def _build_containers(current: Session, recipe: Recipe, site: str | None) -> None:
    # As in the server's command: what a client never needs is loaded for this alone.
    from orchestrator.control.image_build import build as bake

    built = bake(
        recipe.settings,
        recipe.template,
        recipe.inputs,
        site=site,
        force=recipe.force,
        say=lambda text: current.say(text, "dim"),
    )
    rows = [
        {
            "group": one.group,
            "site": one.site,
            "image": one.image.image,
            "base": one.image.base,
            **_effort(one),
        }
        for one in built
    ]
    lines = [Text(f"{one.group}: {one.image.image} at {one.site}, {_told(one)}") for one in built]
    current.emit("images", rows, lines, (one.image.image for one in built))


def _build_disks(
    current: Session, recipe: Recipe, base: Base, directory: Path, replaces: str | None
) -> None:
    from orchestrator.control import disk_build

    disks = disk_build.build(
        recipe.settings,
        recipe.template,
        recipe.inputs,
        base=disk_build.Base(base),
        directory=directory,
        replaces=replaces,
        force=recipe.force,
        say=lambda text: current.say(text, "dim"),
    )
    rows = [
        {
            "group": one.built.group,
            "file": str(one.file),
            "base": base.value,
            "disk_bytes": one.note.size,
            "sha256": one.note.sha256,
            "properties": dict(one.properties),
            "upload": one.upload,
            **_effort(one.built),
        }
        for one in disks
    ]
    lines = [Text(f"{one.built.group}: {one.file}, {_told(one.built)}") for one in disks]
    current.emit("images", rows, lines, (str(one.file) for one in disks))
    for line in dict.fromkeys(one.upload for one in disks):
        current.next(line)


def _effort(built: Built) -> dict[str, Any]:
    return {"built": built.fresh, "tasks": built.tasks, "seconds": round(built.seconds, 1)}


def _told(built: Built) -> str:
    return f"{built.tasks} tasks in {built.seconds:.0f} s" if built.fresh else "there already"
