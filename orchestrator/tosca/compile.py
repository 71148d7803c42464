"""From a template to a :class:`DeploymentSpec`; pure, and slow only in proportion to its input.

Meant to run where it can be killed: see :mod:`orchestrator.tosca.sandbox`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from orchestrator.model import DeploymentSpec, NodeGroup, Value
from orchestrator.tosca.adapters import shipped
from orchestrator.tosca.check import header, topology
from orchestrator.tosca.conformance import conform
from orchestrator.tosca.cursor import Cursor
from orchestrator.tosca.definitions import Library
from orchestrator.tosca.functions import Evaluator
from orchestrator.tosca.groups import GroupMaker
from orchestrator.tosca.imports import NOTHING, Shelf
from orchestrator.tosca.inputs import inputs
from orchestrator.tosca.means import NO_MEANS, Means
from orchestrator.tosca.normative import normative_types
from orchestrator.tosca.problems import START, Problem, Report, TemplateInvalid
from orchestrator.tosca.read import Tree, read
from orchestrator.tosca.realise import realise
from orchestrator.tosca.references import Between
from orchestrator.tosca.roles import check_roles
from orchestrator.tosca.summary import InputSummary, TemplateCheck, TemplateSummary
from orchestrator.tosca.topology import NodeTemplate, Topology
from orchestrator.tosca.values import INVALID


@cache
def base_library() -> Library:
    """The types of the TOSCA specification itself."""
    return Library(normative_types())


def compile_template(
    template: str,
    given: Mapping[str, Any],
    file: str,
    shelf: Shelf = NOTHING,
    origin: str = "",
    means: Means = NO_MEANS,
) -> DeploymentSpec:
    """Read, check and compile; raises :class:`TemplateInvalid` with all that is wrong.

    ``shelf`` holds the documents that it may import, by canonical name; ``origin`` is its own,
    where it has one; ``means`` is what the server has for foreign types.  Raises
    :class:`ImportsNeeded` where the shelf lacks something.
    """
    found = _compiled(template, given, file, _Around(shelf, origin, means))
    return DeploymentSpec(
        found.topology.description,
        found.groups,
        found.outputs,
        found.topology.imports,
        (*(note.as_text() for note in found.notes), *(note.sentence for note in found.realised)),
        tuple(name for name, one in found.topology.inputs.items() if _says_secret(one.position)),
    )


def check_template(
    template: str,
    given: Mapping[str, Any] | None,
    file: str,
    shelf: Shelf = NOTHING,
    origin: str = "",
    means: Means = NO_MEANS,
) -> TemplateCheck:
    """What the template makes; reads, checks and raises as :func:`compile_template` does.

    Where ``given`` is None the values of the inputs are not known yet: an input that needs one is
    noted, and nothing is said of what depends on it.
    """
    found = _compiled(template, given, file, _Around(shelf, origin, means))
    groups = tuple(str(group.name) for group in found.groups)
    return TemplateCheck(groups, (*found.notes, *found.realised))


@dataclass(frozen=True)
class _Around:
    """What a template is read with: as for :func:`compile_template`."""

    shelf: Shelf
    origin: str
    means: Means


@dataclass(frozen=True)
class _Compiled:
    """All that a sound template means; values inside are INVALID where they are not known yet."""

    topology: Topology
    groups: tuple[NodeGroup, ...]
    outputs: dict[str, Value]
    notes: tuple[Problem, ...]
    realised: tuple[Problem, ...]


def _compiled(
    template: str, given: Mapping[str, Any] | None, file: str, around: _Around
) -> _Compiled:
    report = Report(file)
    root = Cursor.root(_document(template, report), report)
    library, imports = header(root, base_library(), around.shelf, around.origin)
    if library is None:
        raise TemplateInvalid(report.problems)
    adapters = shipped().with_parameters(around.means.parameters)
    found = topology(root, adapters.amended(library), given, imports)
    check_roles(found)
    realised = realise(found, adapters, around.means.pins)
    evaluator = Evaluator(realised.topology)
    _evaluate_everything(realised.topology, evaluator)
    maker = GroupMaker(realised.topology, evaluator)
    groups = maker.groups() if not found.circular else ()
    outputs = _outputs(realised.topology, evaluator)
    report.raise_if_any()
    if given is not None or not any(evaluator.input_value(n) is INVALID for n in found.inputs):
        # The second opinion is asked about whole templates: it takes an input without a value
        # for a mistake.
        conform(root, evaluator if realised.topology is found else Evaluator(found), given or {})
        report.raise_if_any()
    return _Compiled(found, groups, outputs, tuple(report.notes), realised.notes)


def _says_secret(declaration: Cursor) -> bool:
    metadata = declaration.get("metadata")
    said = metadata.get("secret") if metadata else None
    return said is not None and said.value in (True, "true")


def describe_template(
    template: str, file: str, shelf: Shelf = NOTHING, origin: str = ""
) -> TemplateSummary:
    """The description and the inputs; raises as :func:`compile_template` does."""
    report = Report(file)
    root = Cursor.root(_document(template, report), report)
    library, _ = header(root, base_library(), shelf, origin)
    if library is None:
        raise TemplateInvalid(report.problems)
    section = root.get("topology_template")
    before = report.count
    declared = inputs(section, library, _placeholders(section), root)
    if report.count > before:
        raise TemplateInvalid(report.problems)
    summaries = []
    for name, declaration in declared.items():
        schema = declaration.schema
        default = schema.default if schema.has_default else None
        summaries.append(
            InputSummary(
                name=name,
                type=schema.type,
                required=schema.required and default is None,
                default=default,
                description=schema.description,
                constraints=schema.constraints,
            )
        )
    report.raise_if_any()
    description = root.get("description")
    text = "" if description is None or description.empty else str(description.value)
    return TemplateSummary(" ".join(text.split()), tuple(summaries))


def _placeholders(section: Cursor | None) -> dict[str, Any]:
    """A value for each input that lacks one, so that describing does not ask for it."""
    found = section.get("inputs") if section else None
    declared = found.table() if found else {}
    return {name: "…" for name, one in declared.items() if one.get("default") is None}


def _document(template: str, report: Report) -> Tree:
    tree = read(template, report)
    if tree is None:
        report.add(START, (), "The template is empty.")
    if tree is None:
        raise TemplateInvalid(report.problems)
    return tree


def _evaluate_everything(found: Topology, evaluator: Evaluator) -> None:
    """Every input, property and policy is looked at once, whether it is used or not."""
    for name in found.inputs:
        evaluator.input_value(name)
    for template in found.templates.values():
        _evaluate_template(template, found, evaluator)
    for relationship in found.relationships.values():
        _evaluate_relationship(Between(relationship), evaluator)
    for policy in found.policies:
        for name in policy.properties:
            evaluator.policy_value(policy, name)
    for group in found.groups:
        for name in group.properties:
            evaluator.group_value(group, name)


def _evaluate_template(template: NodeTemplate, found: Topology, evaluator: Evaluator) -> None:
    properties = found.library.properties("node_types", template.type)
    for name, cursor in template.properties.items():
        value = evaluator.property_value(template, name)
        if value is None and properties[name].required:
            cursor.problem(f"The property `{name}` needs a value, and this is null.")
    for capability, given in template.capabilities.items():
        for name in given:
            evaluator.property_value(template, name, capability)
    for name in template.attributes:
        evaluator.attribute_value(template, name)
    for operation in template.operations.values():
        for cursor in operation.inputs.values():
            evaluator.checker(template.name).free(cursor)
    for requirement in template.requirements:
        if requirement.relationship is not None:
            inside = Between(requirement.relationship, template.name, requirement.target)
            _evaluate_relationship(inside, evaluator)


def _evaluate_relationship(scope: Between, evaluator: Evaluator) -> None:
    for name in scope.relationship.properties:
        evaluator.relationship_value(scope, name)
    for operation in scope.relationship.operations.values():
        for cursor in operation.inputs.values():
            evaluator.checker(scope).free(cursor)


def _outputs(found: Topology, evaluator: Evaluator) -> dict[str, Value]:
    outputs = {}
    for name, cursor in found.outputs.items():
        value = evaluator.checker(None).free(cursor)
        if value is not INVALID:
            outputs[name] = value
    return outputs
