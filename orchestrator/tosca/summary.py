"""What a template is for, what it asks and what it makes, for those who have not read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.tosca.problems import Problem


@dataclass(frozen=True)
class InputSummary:
    """An input of a template, as it is asked for.  ``constraints`` are (name, bound)."""

    name: str
    type: str
    required: bool
    default: Any = None
    description: str = ""
    constraints: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class TemplateSummary:
    """What a template is for, and what it wants to know."""

    description: str
    inputs: tuple[InputSummary, ...]


@dataclass(frozen=True)
class TemplateCheck:
    """What a sound template makes: the names of its groups, and what its writer should know."""

    groups: tuple[str, ...]
    notes: tuple[Problem, ...] = ()
