"""What goes into the store comes out of it exactly."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model import (
    Action,
    Attribute,
    Concat,
    Deployment,
    DeploymentSpec,
    Event,
    Intent,
    Node,
    NodeGroup,
    Outcome,
    Requirements,
    Run,
    Service,
    Token,
    VacuumPolicy,
)
from orchestrator.reasons import Reason
from orchestrator.store import schema
from orchestrator.store.codec import ACTIONS, action_from_json, from_json, to_json

texts = st.text(max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
keys = texts | st.sampled_from(["$map", "$late", "$attribute", "$tuple", "$float", "kind"])


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
        | st.dictionaries(st.integers() | st.booleans(), inner, max_size=2)
        | st.builds(Concat, st.lists(inner, max_size=3).map(tuple))
        | st.builds(Token, inner, texts, st.integers(0, 9))
    )


attributes = st.builds(Attribute, texts, st.lists(texts, max_size=3).map(tuple))
values = st.recursive(scalars | attributes, _containers, max_leaves=12)
variables = st.dictionaries(keys, values, max_size=3)
services = st.builds(Service, texts, texts, texts, variables)
groups = st.builds(
    NodeGroup,
    name=texts,
    requirements=st.builds(Requirements),
    services=st.lists(services, max_size=2).map(tuple),
    count=st.integers(0, 10),
    vacuum=st.none() | st.builds(VacuumPolicy),
    pool=st.none() | texts,
    uses=st.lists(texts, max_size=2).map(tuple),
    site=st.none() | texts,
    advertised=st.dictionaries(
        keys, texts | st.integers() | st.floats(allow_nan=False) | st.booleans(), max_size=3
    ),
)
specs = st.builds(
    DeploymentSpec,
    texts,
    st.lists(groups, max_size=2).map(tuple),
    variables,
    st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
)


def _same(first: object, second: object) -> bool:
    """Equal, and of the same types all the way down: 1, 1.0 and True are equal in Python."""
    return first == second and repr(first) == repr(second)


@given(values)
def test_any_value_with_late_values_inside_comes_back_exactly(value: Any) -> None:
    assert _same(from_json(to_json(value, Any), Any), value)


@given(specs)
def test_a_spec_comes_back_exactly(spec: DeploymentSpec) -> None:
    assert _same(from_json(to_json(spec, DeploymentSpec), DeploymentSpec), spec)


@given(st.from_type(Node))
def test_a_node_comes_back_exactly(node: Node) -> None:
    stored = from_json(to_json(node, Node), Node)
    assert repr(stored) == repr(node)  # not a number is not equal to itself


@given(st.from_type(Reason), st.from_type(Outcome), st.lists(st.from_type(Reason)).map(tuple))
def test_reasons_and_outcomes_come_back_exactly(
    one: Reason, outcome: Outcome, several: tuple[Reason, ...]
) -> None:
    assert from_json(to_json(one, Reason), Reason) == one
    assert repr(from_json(to_json(outcome, Outcome), Outcome)) == repr(outcome)
    assert from_json(to_json(several, tuple[Reason, ...]), tuple[Reason, ...]) == several


@given(st.from_type(Action))
def test_an_action_comes_back_exactly(action: Action) -> None:
    kind = type(action).__name__
    assert action_from_json(kind, to_json(action, ACTIONS[kind])) == action


def test_every_action_can_be_stored() -> None:
    assert set(ACTIONS.values()) == set(get_args(Action))


def test_a_mapping_that_looks_like_a_late_value_stays_a_mapping() -> None:
    for value in ({"$attribute": ["squid", ["address"]]}, {"kind": "concat", "parts": []}):
        assert from_json(to_json(value, Any), Any) == value


def test_floats_that_json_does_not_have_come_back() -> None:
    stored = from_json(to_json([math.inf, -math.inf, math.nan], Any), Any)
    assert stored[:2] == [math.inf, -math.inf]
    assert math.isnan(stored[2])


def test_the_text_is_ascii_so_that_every_database_takes_it() -> None:
    assert to_json({"ü": "\0☃"}, Mapping[str, Any]).isascii()


def test_a_field_added_to_the_model_takes_its_default_from_old_rows() -> None:
    stored = json.loads(to_json(Requirements(cores=4), Requirements))
    del stored["architecture"]
    assert from_json(json.dumps(stored), Requirements) == Requirements(cores=4)


def test_a_field_that_left_the_model_is_dropped() -> None:
    stored = json.loads(to_json(Requirements(), Requirements)) | {"colour": "red"}
    assert from_json(json.dumps(stored), Requirements) == Requirements()


def test_a_row_without_a_field_that_has_no_default_says_which() -> None:
    with pytest.raises(ValueError, match="a stored Reason lacks sentence"):
        from_json('{"code": "no-work"}', Reason)


def test_what_has_no_form_is_refused_when_it_is_written() -> None:
    with pytest.raises(TypeError, match="a value of type object cannot be stored"):
        to_json({"x": object()}, Mapping[str, Any])


@pytest.mark.parametrize(
    ("words", "table", "elsewhere"),
    [
        (Deployment, schema.deployments, {"owner": {"owner_issuer", "owner_subject"}}),
        (Event, schema.events, {}),
        (Intent, schema.intents, {}),
        (Run, schema.runs, {}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_field_of_the_model_has_its_column(
    words: type[Any], table: Any, elsewhere: dict[str, set[str]]
) -> None:
    for field in fields(words):
        assert elsewhere.get(field.name, {field.name}) <= set(table.columns.keys())
