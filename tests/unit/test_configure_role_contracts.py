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


KEYWORDS = {"name", "when", "loop", "loop_control", "register", "notify", "vars", "no_log", "diff"}
KEYWORDS |= {"changed_when", "failed_when", "check_mode", "environment", "listen", "tags"}
KEYWORDS |= {"until", "retries", "delay", "delegate_to", "run_once", "become", "become_user"}


def tasks(role: str) -> list[tuple[Path, dict[str, Any]]]:
    """Every task and handler of ``role``, those in blocks included, and the file it is in."""
    found: list[tuple[Path, dict[str, Any]]] = []
    for file in sorted((COLLECTION / "roles" / role).glob("*/*.yml")):
        if file.parent.name not in ("tasks", "handlers"):
            continue
        open_ones = list(yaml.safe_load(file.read_text()) or [])
        while open_ones:
            task = open_ones.pop(0)
            parts = [task.get(key, []) for key in ("block", "rescue", "always")]
            if any(parts):
                open_ones = [*parts[0], *parts[1], *parts[2], *open_ones]
            else:
                found.append((file, task))
    return found


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
    handling = [task for task in tasks if "secrets" in str(task.get("vacuo.site.files", ""))]
    assert len(handling) == 1
    assert all(task["no_log"] is True and task["diff"] is False for task in handling)


def test_the_variables_tables_are_those_of_the_argument_specs() -> None:
    subprocess.run([sys.executable, COLLECTION / "tools/readme.py", "--check"], check=True)


@pytest.mark.parametrize("role", ROLES)
def test_only_modules_of_ansible_core_and_our_own_are_used(role: str) -> None:
    for where, task in tasks(role):
        modules = set(task) - KEYWORDS
        assert len(modules) == 1, f"{where}: {task['name']}"
        module = modules.pop()
        known = module.startswith("ansible.builtin.") or module == "vacuo.site.files"
        assert known, f"{where}: {task['name']}"


@pytest.mark.parametrize("role", ROLES)
def test_a_command_says_when_it_has_changed_something_and_no_error_is_ignored(role: str) -> None:
    for where, task in tasks(role):
        for module in {"ansible.builtin.command", "ansible.builtin.shell"} & set(task):
            told = "changed_when" in task or "creates" in task[module]
            assert told, f"{where}: {task['name']}"
        assert "ignore_errors" not in task, f"{where}: {task['name']}"


@pytest.mark.parametrize("role", ROLES)
def test_every_service_of_a_handler_is_reloaded_or_restarted_by_name(role: str) -> None:
    notified = {
        name
        for _, task in tasks(role)
        for name in (
            [task["notify"]] if isinstance(task.get("notify"), str) else task.get("notify", [])
        )
    }
    offered = {task["name"] for where, task in tasks(role) if where.parent.name == "handlers"}
    offered |= {task["listen"] for where, task in tasks(role) if "listen" in task}
    assert notified <= offered
    assert offered <= notified, "a handler that nobody notifies"


@pytest.mark.parametrize("role", ROLES)
def test_a_role_that_installs_packages_knows_every_family_and_can_be_told_others(role: str) -> None:
    if not any({"ansible.builtin.apt", "ansible.builtin.dnf"} & set(t) for _, t in tasks(role)):
        return
    for family in ("Debian", "RedHat"):
        assert (COLLECTION / "roles" / role / f"vars/{family}.yml").is_file()
    assert f"{role}_packages" in options(role)
    assert {f"{role}_manage_repo", f"{role}_manage_packages"} & set(options(role))


@pytest.mark.parametrize("role", ROLES)
def test_every_role_has_a_scenario_that_looks_at_what_it_does_and_at_what_it_leaves(
    role: str,
) -> None:
    scenario = COLLECTION / "roles" / role / "molecule/default"
    for name in ("molecule.yml", "converge.yml", "verify.yml", "absent.yml"):
        assert (scenario / name).is_file(), f"{role} lacks {name}"
    # The sequence is the common one: no role may leave out what it does not pass.
    assert "scenario" not in yaml.safe_load((scenario / "molecule.yml").read_text())


@pytest.mark.parametrize("role", ROLES)
def test_a_readme_says_how_to_use_the_role_by_hand_and_what_to_do_when_it_fails(role: str) -> None:
    text = (COLLECTION / "roles" / role / "README.md").read_text()
    assert text.startswith(f"# vacuo.site.{role}\n")
    for heading in ("## Variables", "## By hand", "## When it fails"):
        assert f"\n{heading}\n" in text
    failures = text.split("## When it fails")[1]
    assert "| what you see | why | what to do |" in failures
    assert failures.count("\n| ") >= 3
    assert "ansible-playbook" in text.split("## By hand")[1].split("\n## ")[0]


def test_the_collections_page_lists_every_role() -> None:
    text = (COLLECTION / "README.md").read_text()
    assert [role for role in ROLES if f"`vacuo.site.{role}`" not in text] == []


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
    # A role that no type names is for people, or runs as a part of another.
    assert types_of_templates().get(role, set()) <= set(options(role))
