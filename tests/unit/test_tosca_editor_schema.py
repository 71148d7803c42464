"""The JSON Schema for editors: what ships passes, what is mistyped does not."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.cli.templates import shipped


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    result = CliRunner().invoke(app, ["schema"])
    schema = json.loads(result.stdout)
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def document() -> dict[str, Any]:
    """The shipped site, to be broken in one place."""
    found: dict[str, Any] = yaml.safe_load(shipped()["htcondor-site"].read_text())
    return copy.deepcopy(found)


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_template_passes(validator: Draft7Validator, name: str) -> None:
    found = yaml.safe_load(shipped()[name].read_text())
    assert [error.message for error in validator.iter_errors(found)] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("node_templates", "worker", "capabilities", "host", "properties", "num_cpu"), 2),
        (("node_templates", "worker", "capabilities", "hots"), {}),
        (("node_templates", "squid", "properties"), {"prot": 3128}),
        (("node_templates", "squid", "properties"), {"port": "many"}),
        (("node_templates", "squid", "properties"), {"port": {"get_inputs": "port"}}),
        (("node_templates", "squid", "requirements"), [{"hsot": "cache"}]),
        (("node_templates", "worker"), {"properties": {}}),
        (("inputs", "pool", "defualt"), "here"),
        (("outputs", "nothing"), {"description": "no value"}),
    ],
)
def test_a_mistake_is_seen_in_the_editor(
    validator: Draft7Validator, path: tuple[str, ...], value: Any
) -> None:
    found = document()
    place = found["topology_template"]
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = value
    assert list(validator.iter_errors(found))


def test_a_type_of_the_templates_own_is_left_alone(validator: Draft7Validator) -> None:
    found = document()
    found["node_types"] = {"site.nodes.Frontier": {"derived_from": "vacuo.nodes.Service"}}
    templates = found["topology_template"]["node_templates"]
    templates["frontier"] = {"type": "site.nodes.Frontier", "properties": {"any": 1}}
    assert validator.is_valid(found)


def test_types_and_properties_are_explained_where_they_are_typed(
    validator: Draft7Validator,
) -> None:
    node = validator.schema["definitions"]["node"]
    known = {one["const"]: one["description"] for one in node["properties"]["type"]["anyOf"][:-1]}
    assert all(known[name] for name in known if name.startswith("vacuo."))
