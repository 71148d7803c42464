"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import completion

Deployment = Annotated[
    str | None,
    typer.Argument(
        metavar="[ID]",
        help="A deployment: its id or the beginning of it; not needed where there is only one.",
        autocompletion=completion.deployments,
    ),
]
Template = Annotated[
    str,
    typer.Argument(
        metavar="TEMPLATE",
        help="A template file, the name of a shipped one, or - for standard input.",
        autocompletion=completion.templates,
    ),
]
Parameters = Annotated[
    Path | None,
    typer.Option("--parameters", help="A YAML file with values of the template's inputs."),
]
Pairs = Annotated[
    list[str] | None,
    typer.Option(
        "-p",
        "--parameter",
        metavar="NAME=VALUE",
        help="One input; NAME=@FILE reads it from a file.",
    ),
]
Wait = Annotated[
    bool, typer.Option("--wait", "-w", help="Stay until it is done, and show how it goes.")
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", min=0, help="Give up waiting after so many seconds."),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as it happens.")]
TemplateFiles = Annotated[
    list[str],
    typer.Argument(
        metavar="TEMPLATE...",
        help="Template files, names of shipped ones, or - for standard input.",
        autocompletion=completion.templates,
    ),
]
ImportMap = Annotated[
    list[str] | None,
    typer.Option(
        "--import-map",
        metavar="PREFIX=DIRECTORY",
        help="Where imports whose address begins with PREFIX are, on this machine.",
    ),
]
Configuration = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="VACUO_CONFIG",
        help="The server's configuration; else ./vacuo.yaml, else /etc/vacuo/vacuo.yaml.",
    ),
]
