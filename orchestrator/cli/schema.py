"""``schema``: what an editor must know to help with templates."""

from __future__ import annotations

import json

import typer

from orchestrator.cli import session


def schema(context: typer.Context) -> None:
    """Print a JSON Schema of templates with Vacuo's types, for editors.

    It completes and explains types and properties; `vacuo validate` checks everything.
    """
    from orchestrator.tosca.catalogue import load
    from orchestrator.tosca.compile import base_library
    from orchestrator.tosca.editor_schema import editor_schema

    shipped = load("vacuo/types.yaml")
    assert shipped is not None, "the catalogue holds its own types"
    made = editor_schema(base_library().with_types(shipped.sections))
    print(json.dumps(made, indent=2), file=session.of(context).out.file)
