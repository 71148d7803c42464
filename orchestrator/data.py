"""Where the files that Vacuo ships are: templates, roles, image recipes.

They lie at the root of a checkout, and inside the package in an installed wheel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Shipped = Literal["tosca-templates", "ansible", "images"]

_PACKAGE = Path(__file__).resolve().parent


def directory(name: Shipped) -> Path:
    """The directory ``name`` as shipped with this installation; it may lack only where the
    installation is broken, and then :class:`FileNotFoundError` says so."""
    for candidate in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"This installation of Vacuo lacks its directory {name}.")
