"""Node filters: conditions on the properties and capabilities of the node that is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.tosca.constraints import FITS, check_constraint, violated
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.problems import did_you_mean, listed, shown
from orchestrator.tosca.read import Listing, Scalar, Table, tree_of
from orchestrator.tosca.topology import NodeTemplate
from orchestrator.tosca.units import BadUnit
from orchestrator.tosca.values import INVALID, is_late

if TYPE_CHECKING:
    from orchestrator.tosca.functions import Evaluator


@dataclass(frozen=True)
class Condition:
    """One constraint that a node must meet: on a property of its own, or of the capability that
    has the name, or the type, ``capability``."""

    position: Cursor
    capability: str
    name: str
    constraint: str
    bound: Cursor


def check_filter(cursor: Cursor) -> None:
    """Reports a filter that is not well formed; whether the properties exist depends on the node
    that it is held against."""
    list(conditions(cursor))


def conditions(cursor: Cursor) -> Iterator[Condition]:
    """The conditions of a filter; what is not well formed is reported and left out."""
    keys = cursor.table(("properties", "capabilities"))
    if "properties" in keys:
        yield from _properties(keys["properties"], "")
    for capability in _entries(keys.get("capabilities"), "A capability of a filter"):
        inner = capability.table(("properties",))
        if "properties" in inner:
            yield from _properties(inner["properties"], capability.name)


def _properties(section: Cursor, capability: str) -> Iterator[Condition]:
    for one in _entries(section, "A property of a filter"):
        constraints = list(one.items()) if isinstance(one.tree, Listing) else [one]
        for constraint in constraints:
            if isinstance(constraint.tree, Scalar):  # a bare value is what it must be
                yield Condition(one, capability, one.name, "equal", constraint)
                continue
            bound = constraint.pair("A constraint")
            if bound is None:
                continue
            if bound.name not in FITS:
                hint = did_you_mean(bound.name, FITS) or f"There are {listed(FITS, 12)}."
                bound.problem_at_key(f"There is no constraint {shown(bound.name)}.", hint)
            else:
                yield Condition(one, capability, one.name, bound.name, bound)


def _entries(section: Cursor | None, what: str) -> Iterator[Cursor]:
    """The entries of a list of mappings with one key each, or of one mapping."""
    if section is None:
        return
    if isinstance(section.tree, Table):
        yield from section.table().values()
        return
    for item in section.items():
        entry = item.pair(what)
        if entry is not None:
            yield entry


def fits(found: list[Condition], template: NodeTemplate, evaluator: Evaluator) -> bool:
    """Whether a node template meets every condition, as far as it is known before it runs."""
    return all(_holds(condition, template, evaluator) for condition in found)


def _holds(condition: Condition, template: NodeTemplate, evaluator: Evaluator) -> bool:
    for capability in _capabilities(condition, template, evaluator):
        schema = evaluator.schemas(template, capability).get(condition.name)
        if schema is None:
            continue
        value = evaluator.property_value(template, condition.name, capability)
        bound = evaluator.checker(template.name).free(condition.bound)
        if value in (None, INVALID) or is_late(value) or bound in (None, INVALID) or is_late(bound):
            return False
        try:
            return not violated(schema.type, value, condition.constraint, bound)
        except (BadUnit, ValueError, ArithmeticError, TypeError):
            return False  # the bound is reported by `check_against`
    return False


def _capabilities(
    condition: Condition, template: NodeTemplate, evaluator: Evaluator
) -> tuple[str, ...]:
    """The capabilities of a node that a condition speaks of; "" is the node itself."""
    if not condition.capability:
        return ("",)
    library = evaluator.topology.library
    provided = library.capabilities(template.type)
    if condition.capability in provided:
        return (condition.capability,)
    return tuple(
        name
        for name, kind in provided.items()
        if library.derives("capability_types", kind, condition.capability)
    )


def check_against(
    found: list[Condition], candidates: list[NodeTemplate], evaluator: Evaluator
) -> None:
    """Reports conditions on what none of the candidates has, and bounds of the wrong type."""
    for condition in found:
        known: dict[str, str] = {}
        for template in candidates:
            for capability in _capabilities(condition, template, evaluator):
                schemas = evaluator.schemas(template, capability)
                known |= {name: schema.type for name, schema in schemas.items()}
        if not candidates:
            continue
        if condition.name not in known:
            of = f"a capability {shown(condition.capability)} with" if condition.capability else ""
            sentence = f"No node that could fit has {of} a property {shown(condition.name)}."
            hint = did_you_mean(condition.name, known)
            condition.position.problem_at_key(" ".join(sentence.split()), hint)
            continue
        bound = evaluator.checker(candidates[0].name).free(condition.bound)
        if bound is not INVALID and not is_late(bound):
            mark = condition.bound.tree.mark
            known_bound = {condition.constraint: bound}
            at = condition.bound.replaced(tree_of(known_bound, mark))
            check_constraint(at, known[condition.name])
