"""A small sound template, and the ways in which tests spoil it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pytest

from orchestrator.model import DeploymentSpec
from orchestrator.tosca.compile import check_template, compile_template
from orchestrator.tosca.imports import ImportsNeeded, Shelf
from orchestrator.tosca.problems import Problem, TemplateInvalid
from orchestrator.tosca.sources import Gathering, ImportSources
from orchestrator.tosca.summary import TemplateCheck

SOUND = """\
tosca_definitions_version: tosca_simple_yaml_1_3

description: One worker node.

imports:
  - vacuo/types.yaml

topology_template:
  inputs:
    cores:
      type: integer
      default: 2
      constraints:
        - in_range: [1, 8]
  node_templates:
    worker:
      type: tosca.nodes.Compute
      capabilities:
        host:
          properties:
            num_cpus: { get_input: cores }
            mem_size: 4 GB
    containers:
      type: vacuo.nodes.ContainerRuntime
      requirements:
        - host: worker
    execute:
      type: vacuo.nodes.HTCondor.Execute
      properties:
        pool: test
      requirements:
        - host: containers
  policies:
    - vacuum:
        type: vacuo.policies.Vacuum
        targets: [worker]
        properties:
          maximum: 3
  outputs:
    address:
      value: { get_attribute: [worker, private_address] }
"""


T = TypeVar("T")


def with_imports(read: Callable[[Shelf], T], sources: ImportSources | None = None) -> T:
    """What ``read`` gives once it has all the documents that it asks for, as in the sandbox."""
    gathering = Gathering(sources or ImportSources())
    while True:
        try:
            return read(gathering.shelf)
        except ImportsNeeded as more:
            for name in more.needed:
                gathering.add(name)


def compiled(template: str, inputs: Mapping[str, Any] | None = None) -> DeploymentSpec:
    """As the sandbox does it for a server that imports from nowhere."""
    return with_imports(
        lambda shelf: compile_template(template, inputs or {}, "template.yaml", shelf)
    )


def checked(template: str, inputs: Mapping[str, Any] | None = None) -> TemplateCheck:
    """The same for its writer; without ``inputs`` their values are not known yet."""
    return with_imports(lambda shelf: check_template(template, inputs, "template.yaml", shelf))


def spoilt(old: str, new: str, template: str = SOUND) -> str:
    assert template.count(old) >= 1, f"{old!r} is not in the template"
    return template.replace(old, new, 1)


def problems(template: str, inputs: Mapping[str, Any] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(TemplateInvalid) as caught:
        compiled(template, inputs)
    return caught.value.problems


def the_problem(template: str, inputs: Mapping[str, Any] | None = None) -> Problem:
    found = problems(template, inputs)
    assert len(found) == 1, "\n".join(problem.as_text() for problem in found)
    return found[0]


def line_of(text: str, template: str) -> int:
    lines = template.splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)
