"""What a server adds to a template's foreign types: values, and playbooks that it has pinned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Pins = Mapping[str, str]  # source, as templates write it, to SHA-256


@dataclass(frozen=True)
class Means:
    """``parameters`` are values for those of the adapters, ``pins`` the playbooks that may run."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    pins: Pins = field(default_factory=dict)


NO_MEANS = Means()
