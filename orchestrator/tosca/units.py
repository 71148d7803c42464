"""TOSCA's scalars with units: sizes in bytes, times in seconds, frequencies in hertz."""

from __future__ import annotations

import re
from decimal import Decimal

from orchestrator.tosca.problems import did_you_mean, listed, shown

UNITS: dict[str, dict[str, Decimal]] = {
    "scalar-unit.size": {
        "B": Decimal(1),
        "kB": Decimal(1000),
        "KiB": Decimal(1024),
        "MB": Decimal(1000) ** 2,
        "MiB": Decimal(1024) ** 2,
        "GB": Decimal(1000) ** 3,
        "GiB": Decimal(1024) ** 3,
        "TB": Decimal(1000) ** 4,
        "TiB": Decimal(1024) ** 4,
    },
    "scalar-unit.time": {
        "d": Decimal(86400),
        "h": Decimal(3600),
        "m": Decimal(60),
        "s": Decimal(1),
        "ms": Decimal("1e-3"),
        "us": Decimal("1e-6"),
        "ns": Decimal("1e-9"),
    },
    "scalar-unit.frequency": {
        "Hz": Decimal(1),
        "kHz": Decimal(1000),
        "MHz": Decimal(1000) ** 2,
        "GHz": Decimal(1000) ** 3,
    },
}
_EXAMPLES = {
    "scalar-unit.size": "4 GB",
    "scalar-unit.time": "5 m",
    "scalar-unit.frequency": "2.4 GHz",
}
_WORDS = {
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("hour", "hours", "hr", "hrs"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
}
_AMOUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([A-Za-z]{0,20})")
MIB = 1024**2
GIB = 1024**3


class BadUnit(ValueError):
    """Not an amount: ``sentence`` and ``suggestion`` say why."""

    def __init__(self, sentence: str, suggestion: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.suggestion = suggestion


def amount(type_name: str, text: str) -> Decimal:
    """``text`` in the base unit of ``type_name``; upper and lower case of units do not matter
    where they leave no doubt.  Raises :class:`BadUnit`."""
    units = UNITS[type_name]
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise BadUnit(
            f"{shown(text)} is not an amount with a unit.",
            f"Write it like `{_EXAMPLES[type_name]}`.",
        )
    number, unit = Decimal(match[1]), match[2]
    if not unit:
        some = " or ".join(f"`{number} {u}`" for u in _likely(type_name))
        raise BadUnit(f"{shown(text)} lacks a unit.", f"Write {some}.")
    if unit not in units:
        alike = [known for known in units if known.lower() == unit.lower()]
        if len(alike) != 1:
            word = _WORDS.get(unit.lower(), f"{unit}B")
            near = next((known for known in units if known.lower() == word.lower()), "")
            hint = f"Did you mean `{near}`?" if near else did_you_mean(unit, units)
            known = f"Known are {listed(units, 9)}."
            raise BadUnit(f"{shown(unit)} is no unit of {type_name}.", hint or known)
        unit = alike[0]
    return number * units[unit]


def _likely(type_name: str) -> tuple[str, ...]:
    return {"scalar-unit.size": ("MB", "GB"), "scalar-unit.time": ("s", "m")}.get(
        type_name, ("MHz", "GHz")
    )
