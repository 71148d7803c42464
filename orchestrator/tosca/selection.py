"""Requirements that name no node template: the one that fits is found among those there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.filters import Condition, check_against, conditions, fits
from orchestrator.tosca.functions import Evaluator
from orchestrator.tosca.problems import listed, shown
from orchestrator.tosca.read import tree_of
from orchestrator.tosca.requirements import Wanted, fitting, provider
from orchestrator.tosca.topology import NodeTemplate, Requirement, Topology


def select(topology: Topology, wanted: Iterable[Wanted]) -> Topology:
    """``topology`` with the requirements in ``wanted`` led to the node templates that fit.

    Where none fits, or more than may, that is reported; so is a node that is named, and does not
    pass the filter of the requirement.
    """
    wanted = list(wanted)
    evaluator = Evaluator(topology)
    templates = dict(topology.templates)
    for one in wanted:
        found = _found(one, topology, evaluator)
        template = templates[one.source]
        together = (*template.requirements, *found)
        templates[one.source] = dataclasses.replace(template, requirements=together)
    complete = dataclasses.replace(topology, templates=templates)
    _check_filters(complete)
    return complete


def _found(wanted: Wanted, topology: Topology, evaluator: Evaluator) -> list[Requirement]:
    library = topology.library
    of_type = wanted.node_type or wanted.definition.node
    candidates = [
        one
        for one in topology.templates.values()
        if one.name != wanted.source
        and (not of_type or library.derives("node_types", one.type, of_type))
        and provider(wanted, one, library) is not None
    ]
    found = _conditions(wanted.node_filter, wanted.definition.node_filter, wanted.position)
    before = wanted.position.report.count
    check_against(found, candidates, evaluator)
    if wanted.position.report.count > before:
        return []
    with wanted.position.report.muted():  # values are told of where they stand
        fit = [one for one in candidates if fits(found, one, evaluator)]
    if not fit:
        _nothing(wanted, of_type, candidates, topology)
        return []
    if wanted.most is not None and len(fit) > wanted.most:
        names = listed(shown(one.name) for one in fit)
        wanted.position.problem(
            f"Several node templates fit the requirement {shown(wanted.definition.name)} of "
            f"{shown(wanted.source)}: {names}.",
            "Name one of them as its `node`, or say more in its `node_filter`.",
        )
        return []
    source = topology.templates[wanted.source]
    led = (fitting(wanted, source, one, library) for one in fit)
    return [one for one in led if one is not None]


def _nothing(
    wanted: Wanted, of_type: str | None, candidates: list[NodeTemplate], topology: Topology
) -> None:
    if topology.broken:
        return  # one of those may be meant, and they are reported
    sentence = (
        f"No node template fits the requirement {shown(wanted.definition.name)} of "
        f"{shown(wanted.source)}"
    )
    what = shown(of_type) if of_type else "such a node"
    hint = f"Add a {what}, and name it." if not candidates else ""
    if candidates:
        sentence += f": {listed(shown(one.name) for one in candidates)} do not pass its filter"
    wanted.position.problem(f"{sentence}.", hint)


def _conditions(written: Cursor | None, of_type: object, position: Cursor) -> list[Condition]:
    found = list(conditions(written)) if written is not None else []
    if of_type:  # what a type asks for stands nowhere in this document
        found += list(conditions(position.replaced(tree_of(of_type, position.tree.mark))))
    return found


def _check_filters(topology: Topology) -> None:
    """A node that is named must pass the filter that stands beside its name."""
    filtered = [
        (template, requirement, found)
        for template in topology.templates.values()
        for requirement in template.requirements
        if (found := _filter_of(requirement))
    ]
    if not filtered:
        return
    evaluator = Evaluator(topology)
    for template, requirement, found in filtered:
        target = topology.templates[requirement.target]
        report = requirement.position.report
        before = report.count
        check_against(found, [target], evaluator)
        with report.muted():
            passes = fits(found, target, evaluator)
        if not passes and report.count == before:
            requirement.position.problem(
                f"{shown(target.name)} does not pass the filter of the requirement "
                f"{shown(requirement.name)} of {shown(template.name)}."
            )


def _filter_of(requirement: Requirement) -> list[Condition]:
    written = requirement.position.get("node_filter")
    of_type = requirement.definition.node_filter
    if written is None and not of_type:
        return []
    return _conditions(written, of_type, requirement.position)
