"""What the roles promise in their files: variables, documents, names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

COLLECTION = Path(__file__).resolve().parents[2] / "ansible"
ROLES = sorted(path.name for path in (COLLECTION / "roles").iterdir() if path.is_dir())


def options(role: str) -> dict[str, Any]:
    specs = yaml.safe_load((COLLECTION / "roles" / role / "meta/argument_specs.yml").read_text())
    return dict(specs["argument_specs"]["main"]["options"])


def defaults(role: str) -> dict[str, Any]:
    return dict(yaml.safe_load((COLLECTION / "roles" / role / "defaults/main.yml").read_text()))


def test_every_role_of_the_first_cut_is_there() -> None:
    assert set(ROLES) >= {"container_runtime", "cvmfs", "htcondor_execute", "squid", "xcache"}


@pytest.mark.parametrize("role", ROLES)
def test_argument_specs_and_defaults_say_the_same(role: str) -> None:
    assert list(options(role)) == list(defaults(role))
    assert {name: option["default"] for name, option in options(role).items()} == defaults(role)


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_carries_its_roles_name_and_a_meaning(role: str) -> None:
    for name, option in options(role).items():
        assert name.startswith(role + "_")
        assert option["description"].strip().endswith(".")
    assert options(role)[f"{role}_state"]["choices"] == ["present", "absent"]


@pytest.mark.parametrize("name", ["token", "administrator_key"])
def test_a_secret_variable_is_marked_as_one(name: str) -> None:
    assert options("htcondor_execute")[f"htcondor_execute_{name}"]["no_log"] is True


def test_a_task_that_handles_a_secret_is_not_logged() -> None:
    tasks = yaml.safe_load((COLLECTION / "roles/htcondor_execute/tasks/present.yml").read_text())
    handling = [task for task in tasks if "secrets/" in str(task.get("ansible.builtin.copy", ""))]
    assert len(handling) == 2
    assert all(task["no_log"] is True and task["diff"] is False for task in handling)


def test_the_variables_tables_are_those_of_the_argument_specs() -> None:
    subprocess.run([sys.executable, COLLECTION / "tools/readme.py", "--check"], check=True)


@pytest.mark.parametrize("role", ROLES)
def test_only_modules_of_ansible_core_are_used(role: str) -> None:
    known = {"name", "when", "loop", "loop_control", "register", "notify", "vars", "no_log", "diff"}
    known |= {"changed_when", "failed_when", "check_mode", "environment"}
    for file in (COLLECTION / "roles" / role).glob("*/*.yml"):
        if file.parent.name in ("tasks", "handlers"):
            for task in yaml.safe_load(file.read_text()):
                modules = set(task) - known
                assert len(modules) == 1, f"{file}: {task['name']}"
                assert modules.pop().startswith("ansible.builtin."), f"{file}: {task['name']}"


def types_of_templates() -> dict[str, set[str]]:
    """For each role that a TOSCA type names: the variables that the type can set."""
    sizes = {"scalar-unit.size": "_mb", "scalar-unit.time": "_seconds"}
    documents = [
        yaml.safe_load(file.read_text())
        for file in (COLLECTION.parent / "tosca-templates/types").glob("*.yaml")
    ]
    types = {name: t for d in documents for name, t in (d.get("node_types") or {}).items()}
    found: dict[str, set[str]] = {}
    for name, definition in types.items():
        standard = definition.get("interfaces", {}).get("Standard", {}).get("configure")
        if not standard:
            continue
        role = standard["implementation"].rpartition(".")[2]
        variables = {f"{role}_{key}" for key in standard.get("inputs", {})}
        line: str | None = name
        while line in types:
            for key, prop in (types[line].get("properties") or {}).items():
                variables.add(f"{role}_{key}{sizes.get(prop['type'], '')}")
            line = types[line].get("derived_from")
        found[role] = variables
    return found


@pytest.mark.parametrize("role", ROLES)
def test_every_property_of_a_type_is_a_variable_of_its_role(role: str) -> None:
    assert types_of_templates()[role] <= set(options(role))
