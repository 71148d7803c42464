"""What a benchmark found: figures, each against a reference and a goal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

DIRECTORY = Path("build/bench")


@dataclass(frozen=True)
class Figure:
    """``value`` in ``unit``; ``reference`` says what ``reference_value`` is of.

    ``goal`` is in words; ``holds`` whether it was met, None where there is none.
    """

    what: str
    value: float
    unit: str
    reference: str = ""
    reference_value: float | None = None
    goal: str = ""
    holds: bool | None = None

    @property
    def ratio(self) -> float | None:
        return self.value / self.reference_value if self.reference_value else None


def report(name: str, figures: Sequence[Figure]) -> None:
    """Print the figures and write them to ``build/bench/<name>.json``."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    rows = [{**asdict(figure), "ratio": figure.ratio} for figure in figures]
    path = DIRECTORY / f"{name}.json"
    path.write_text(json.dumps({"name": name, "figures": rows}, indent=2) + "\n")
    table = Table(title=name, title_justify="left")
    for column in ("what", "value", "reference", "ratio", "goal", "holds"):
        table.add_column(column)
    for figure in figures:
        table.add_row(
            figure.what,
            f"{figure.value:.2f} {figure.unit}",
            _reference(figure),
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            figure.goal,
            {None: "", True: "yes", False: "NO"}[figure.holds],
        )
    Console().print(table)


def _reference(figure: Figure) -> str:
    if figure.reference_value is None:
        return figure.reference
    return f"{figure.reference}: {figure.reference_value:.2f} {figure.unit}"
