"""A type and its role are two halves of one thing; here they are held together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import data
from orchestrator.tosca import catalogue
from orchestrator.tosca.compile import base_library
from orchestrator.tosca.definitions import KINDS, SERVICE, Library
from orchestrator.tosca.variables import variable_names
from tests.unit.tosca_support import compiled


def _library() -> Library:
    bundle = catalogue.load("vacuo/types.yaml")
    assert bundle is not None
    return base_library().with_types(bundle.sections)


def _realised() -> list[tuple[str, str]]:
    library = _library()
    return [
        (name, role)
        for name in library.names("node_types")
        if library.derives("node_types", name, SERVICE)
        and (role := library.configure(name).implementation)
    ]


def _options(role: str) -> dict[str, Any]:
    name = role.rpartition(".")[2]
    path: Path = data.directory("ansible") / "roles" / name / "meta" / "argument_specs.yml"
    assert path.is_file(), f"the role {name} lacks {path.name}"
    options = yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"]
    assert isinstance(options, dict)
    return options


@pytest.mark.parametrize(("node_type", "role"), _realised())
def test_every_variable_of_a_type_is_an_argument_of_its_role(node_type: str, role: str) -> None:
    library = _library()
    names = variable_names(
        role.rpartition(".")[2],
        library.own_properties(node_type),
        library.configure(node_type).inputs,
    )
    assert names <= set(_options(role))


_PYTHON = {
    "str": str,
    "path": str,
    "int": int,
    "bool": bool,
    "float": float,
    "list": list,
    "dict": dict,
}


@pytest.mark.parametrize("template", catalogue.templates(), ids=lambda template: template.name)
def test_known_values_have_the_types_that_the_role_wants(
    template: catalogue.ShippedTemplate,
) -> None:
    for group in compiled(template.path.read_text()).groups:
        for service in group.services:
            options = _options(service.role)
            for name, value in service.variables.items():
                wanted = options[name]
                if isinstance(value, str | int | float | bool | list | dict):
                    assert isinstance(value, _PYTHON[wanted.get("type", "str")]), name
                if "choices" in wanted:
                    assert value in wanted["choices"]


@pytest.mark.parametrize("name", catalogue.importable())
def test_every_file_of_types_can_be_imported_by_itself(name: str) -> None:
    bundle = catalogue.load(name)
    assert bundle is not None
    assert name in dict(bundle.files)


def test_every_shipped_type_and_property_says_what_it_is() -> None:
    bundle = catalogue.load("vacuo/types.yaml")
    assert bundle is not None
    for types in bundle.sections.values():
        for name, definition in types.items():
            assert definition.get("description"), name
            for section in ("properties", "attributes"):
                for word, one in (definition.get(section) or {}).items():
                    assert one.get("description"), f"{name}.{word}"


@pytest.mark.parametrize("name", catalogue.importable())
def test_every_shipped_type_passes_the_checks_of_a_templates_own_types(name: str) -> None:
    path = data.directory("tosca-templates") / "types" / name.removeprefix(catalogue.PREFIX)
    types = {
        section: {f"mine.{one}": definition for one, definition in definitions.items()}
        for section, definitions in yaml.safe_load(path.read_text()).items()
        if section in KINDS
    }
    template = {
        "tosca_definitions_version": "tosca_simple_yaml_1_3",
        "imports": ["vacuo/types.yaml"],
        **types,
        "topology_template": {"node_templates": {"host": {"type": "tosca.nodes.Compute"}}},
    }
    assert compiled(yaml.safe_dump(template, sort_keys=False)).groups
