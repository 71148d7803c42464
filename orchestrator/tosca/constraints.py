"""Constraints: which type each may constrain, what its bound must be, and whether a value holds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from orchestrator.model import Value
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.patience import TooSlow, bounded
from orchestrator.tosca.problems import did_you_mean, listed, shown
from orchestrator.tosca.units import UNITS, BadUnit, amount

UNBOUNDED = "UNBOUNDED"
_NUMBERS = ("integer", "float", "number")
_ORDERED = (*_NUMBERS, "timestamp", "version", *UNITS)
_SIZED = ("string", "list", "map")
# What each may constrain; an empty tuple is everything.
FITS: dict[str, tuple[str, ...]] = {
    "equal": (),
    "valid_values": (),
    "greater_than": _ORDERED,
    "greater_or_equal": _ORDERED,
    "less_than": _ORDERED,
    "less_or_equal": _ORDERED,
    "in_range": (*_ORDERED, "range"),
    "length": _SIZED,
    "min_length": _SIZED,
    "max_length": _SIZED,
    "pattern": ("string", "version"),
    "schema": ("string",),
}
_COMPARISONS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "equal": (lambda left, right: left == right, "be"),
    "greater_than": (lambda left, right: left > right, "be greater than"),
    "greater_or_equal": (lambda left, right: left >= right, "be at least"),
    "less_than": (lambda left, right: left < right, "be less than"),
    "less_or_equal": (lambda left, right: left <= right, "be at most"),
}
_LENGTHS: dict[str, tuple[Callable[[int, int], bool], str]] = {
    "length": (lambda size, bound: size == bound, "exactly"),
    "min_length": (lambda size, bound: size >= bound, "at least"),
    "max_length": (lambda size, bound: size <= bound, "at most"),
}


# --- definitions ---------------------------------------------------------------------------------


def check_constraint(cursor: Cursor, type_name: str) -> None:
    """Reports a constraint that is none, or that cannot constrain a value of ``type_name``."""
    bound = cursor.pair("A constraint")
    if bound is None:
        return
    name = bound.name
    if name not in FITS:
        bound.problem_at_key(
            f"There is no constraint {shown(name)}.",
            did_you_mean(name, FITS) or f"There are {listed(FITS, 12)}.",
        )
    elif FITS[name] and type_name not in FITS[name]:
        bound.problem_at_key(f"{shown(name)} cannot constrain a {type_name}.")
    elif why := _bad_bound(name, type_name, bound.value):
        bound.problem(f"{shown(name)} {why}.")


def _bad_bound(name: str, type_name: str, bound: Any) -> str:
    """Why a constraint's bound cannot be used, as half a sentence."""
    if name in _LENGTHS:
        fits = isinstance(bound, int) and not isinstance(bound, bool) and bound >= 0
        return "" if fits else "needs a whole number"
    if name == "pattern":
        return _bad_pattern(bound)
    if name == "schema":
        return _bad_schema(bound)
    bounds = bound if name in ("valid_values", "in_range") else [bound]
    if not isinstance(bounds, list):
        return "needs a list of two values" if name == "in_range" else "needs a list"
    if name == "in_range":
        if len(bounds) != 2:
            return "needs a list of two values"
        bounds = [one for one in bounds if one != UNBOUNDED]
    try:
        measures = [_measure_of_bound(type_name, one) for one in bounds]
        if name == "in_range" and len(measures) == 2 and measures[0] > measures[1]:
            return "goes from a greater value to a lesser"
    except BadUnit as error:
        return f"cannot be used: {error.sentence.rstrip('.')}"
    except (ValueError, ArithmeticError, TypeError):
        return f"needs values of type {type_name}"
    return ""


def _measure_of_bound(type_name: str, bound: Any) -> Any:
    if bound is None or (isinstance(bound, list | dict) and type_name not in ("list", "map")):
        raise ValueError(bound)
    if type_name == "boolean" and not isinstance(bound, bool):
        raise ValueError(bound)
    return comparable("integer" if type_name == "range" else type_name, bound)


def _bad_pattern(bound: Any) -> str:
    try:
        re.compile(bound)
    except (re.error, TypeError, RecursionError, OverflowError):
        return "needs a regular expression"
    return ""


def _bad_schema(bound: Any) -> str:
    if isinstance(bound, str) and bound.lstrip().startswith("<"):
        return "holds an XML schema, which Vacuo cannot check; it knows JSON Schema"
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(json.loads(bound))
    except (TypeError, ValueError, RecursionError, SchemaError):
        return "needs a JSON Schema, as text"
    return ""


# --- values --------------------------------------------------------------------------------------


def comparable(type_name: str, value: Any) -> Any:
    """A value as its constraints compare it; raises :class:`BadUnit` or :class:`ValueError`."""
    if type_name in UNITS:
        return amount(type_name, str(value))
    if type_name in _NUMBERS:
        if isinstance(value, bool):
            raise ValueError(value)
        return Decimal(str(value))
    if type_name == "version":
        return tuple(
            (0, int(part), "") if part.isdigit() else (1, 0, part)
            for part in re.split(r"[.-]", str(value))
        )
    return str(value) if type_name in ("timestamp", "string") else value


def violated(type_name: str, value: Value, name: str, bound: Any) -> str:
    """What ``value`` must do, as half a sentence, where it does not; else an empty string."""
    if name in _LENGTHS:
        holds, word = _LENGTHS[name]
        unit = "characters" if isinstance(value, str) else "entries"
        return "" if holds(len(value), bound) else f"have {word} {bound} {unit}"
    if name == "pattern":
        return _against_pattern(value, bound)
    if name == "valid_values":
        allowed = [comparable(type_name, one) for one in bound]
        return "" if comparable(type_name, value) in allowed else f"be one of {listed(bound, 12)}"
    if name == "schema":
        return _against_schema(value, bound)
    if name == "in_range":
        return _in_range(type_name, value, bound)
    holds_so, words = _COMPARISONS[name]
    fits = holds_so(comparable(type_name, value), comparable(type_name, bound))
    return "" if fits else f"{words} {bound}"


def _against_pattern(value: Value, bound: str) -> str:
    try:
        with bounded():
            matches = re.fullmatch(bound, str(value))
    except TooSlow:
        return f"match {shown(bound, 100)}, which takes too long to find out: write it simpler"
    return "" if matches else f"match {shown(bound, 100)}"


def _in_range(type_name: str, value: Value, bound: Any) -> str:
    low, high = bound
    if type_name == "range":
        ends = [value[0], value[1]]
        inside = (low == UNBOUNDED or ends[0] >= low) and (
            high == UNBOUNDED or (ends[1] != UNBOUNDED and ends[1] <= high)
        )
        return "" if inside else f"lie within {low} to {high}"
    measure = comparable(type_name, value)
    fits = (low == UNBOUNDED or measure >= comparable(type_name, low)) and (
        high == UNBOUNDED or measure <= comparable(type_name, high)
    )
    return "" if fits else f"be in the range {low} to {high}"


def _against_schema(value: Value, bound: str) -> str:
    from jsonschema import Draft202012Validator
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        document = json.loads(str(value))
        # A registry of its own: a schema must not make anybody fetch what it refers to.
        validator = Draft202012Validator(json.loads(bound), registry=Registry())
        with bounded():
            error = next(validator.iter_errors(document), None)
    except (ValueError, RecursionError):
        return "be JSON"
    except TooSlow:
        return "follow a schema that is simpler: this one takes too long to check"
    except Unresolvable:
        return "follow a schema that refers to another, which is not here"
    return f"follow its schema: {shown(error.message, 120)}" if error else ""
