"""A shipped template with something changed compiles, or is refused with problems: never else."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.tosca import catalogue
from orchestrator.tosca.imports import ImportsNeeded
from orchestrator.tosca.problems import TemplateInvalid
from tests.unit.tosca_mutations import may_pass, mutations, places
from tests.unit.tosca_support import compiled

TEMPLATES = {one.name: yaml.safe_load(one.path.read_text()) for one in catalogue.templates()}
# One that uses what the shipped ones do not: types of its own, groups, every kind of value.
TEMPLATES["rich"] = yaml.safe_load(Path(__file__).with_name("tosca_rich.yaml").read_text())
_PLACES: dict[str, list[tuple[Any, ...]]] = {}


for _name, _template in TEMPLATES.items():
    _PLACES[_name] = list(places(_template))

_FUNCTIONS = st.sampled_from(
    [
        {"get_input": "pool"},
        {"get_input": ["nothing", 1]},
        {"get_property": ["SELF", "squid", "port"]},
        {"get_property": ["execute", "pool"]},
        {"get_property": []},
        {"get_attribute": ["worker", "private_address"]},
        {"get_attribute": ["HOST", "cores", 0]},
        {"get_attribute": [None, {}]},
        {"concat": ["a", {"get_attribute": ["SELF", "private_address"]}]},
        {"concat": [[], {}]},
        {"token": ["a-b", "-", 7]},
        {"token": [{"get_attribute": ["worker", "site"]}, "-", 0]},
        {"get_artifact": ["SELF", "x"]},
    ]
)
_WORDS = st.sampled_from(
    ["", "x", "worker", "4 GB", "5 m", "1.0", "yes", "tosca.nodes.Compute", "tosca.nodes.Root",
     "vacuo.nodes.Squid", "vacuo.policies.Vacuum", "tosca.datatypes.Credential", "SELF", "string"]
)  # fmt: skip
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _WORDS | _FUNCTIONS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=5,
)


def _outcome(document: Any, inputs: dict[str, Any] | None = None) -> str:
    text = json.dumps(document, indent=1, default=str)  # JSON is YAML, and faster written
    try:
        compiled(text, inputs)
    except ImportsNeeded:
        return "refused"  # another import than there is
    except TemplateInvalid as error:
        invalid = error
    else:
        return "compiled"
    assert invalid.problems
    for problem in invalid.problems:
        assert 1 <= problem.line <= text.count("\n") + 1
        assert problem.column >= 1
        assert problem.sentence.endswith(".")
        assert "Traceback" not in problem.sentence
        assert "site-packages" not in problem.sentence
    return "refused"


def _parent(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        document = document[key]
    return document


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_value_anywhere(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(TEMPLATES)))
    document = copy.deepcopy(TEMPLATES[name])
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(_PLACES[name]))
        value = data.draw(_VALUES)
        try:
            _parent(document, path)[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    _outcome(document)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_parameters(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(TEMPLATES)))
    inputs = TEMPLATES[name]["topology_template"]["inputs"]
    given_values = data.draw(st.dictionaries(st.sampled_from(sorted(inputs)), _VALUES, max_size=3))
    _outcome(TEMPLATES[name], given_values)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_unchanged_they_compile(name: str) -> None:
    assert _outcome(TEMPLATES[name]) == "compiled"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_every_mutation_at_every_place(name: str) -> None:
    document = TEMPLATES[name]
    passed = [
        f"{'.'.join(map(str, place))}: {mutation}"
        for place in _PLACES[name]
        for mutation, changed in mutations(document, place)
        if _outcome(changed) == "compiled" and not may_pass(document, place, mutation)
    ]
    assert passed == []


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_every_type_renamed_in_turn(name: str) -> None:
    for path in _PLACES[name]:
        if path[-1] == "type" and isinstance(_parent(TEMPLATES[name], path)["type"], str):
            document = copy.deepcopy(TEMPLATES[name])
            _parent(document, path)["type"] += "x"
            assert _outcome(document) == "refused", path
