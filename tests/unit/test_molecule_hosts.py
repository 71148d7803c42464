"""The hosts of the roles' scenarios: whose they are, and how roles are found."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from testbed import molecule

ROOT = Path(__file__).resolve().parents[2]


def scenario(project: str, name: str = "default") -> molecule.Scenario:
    return molecule.Scenario.of(
        {
            "MOLECULE_PROJECT_DIRECTORY": project,
            "MOLECULE_SCENARIO_NAME": name,
            "MOLECULE_EPHEMERAL_DIRECTORY": "/tmp/e",
            "MOLECULE_INSTANCE_CONFIG": "/tmp/e/instance_config.yml",
        }
    )


def test_two_checkouts_never_find_each_others_hosts() -> None:
    one, two = scenario("/a/ansible/roles/squid"), scenario("/b/ansible/roles/squid")
    assert one.name != two.name
    assert one.name == scenario("/a/ansible/roles/squid").name
    assert one.name != scenario("/a/ansible/roles/squid", "other").name


def test_the_name_of_a_scenario_can_be_that_of_a_network() -> None:
    name = scenario("/a/ansible/roles/container_runtime").name
    assert name.startswith("molecule-container-runtime-")
    assert "_" not in name


def test_the_checkout_is_the_collection_without_galaxy(tmp_path: Path) -> None:
    molecule.link_collection(tmp_path)
    molecule.link_collection(tmp_path)  # a second run finds the first one's link
    assert (tmp_path / "ansible_collections/vacuo/site/galaxy.yml").is_file()


def test_a_role_without_a_scenario_is_told_with_those_that_have_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert molecule.test(["no-such-role"]) == 2
    told = capsys.readouterr().out
    assert "no-such-role" in told
    assert "squid" in told


def test_every_step_of_the_common_sequence_exists() -> None:
    config = yaml.safe_load((ROOT / ".config/molecule/config.yml").read_text())
    scenario_directory = ROOT / "ansible/roles/squid/molecule/default"
    steps = config["scenario"]["test_sequence"]
    assert steps[0] == steps[-1] == "destroy"
    assert {"check", "converge", "idempotence", "verify"} <= set(steps)
    for step in steps:
        _, _, playbook = step.partition(" ")
        if playbook:
            assert (scenario_directory / playbook).resolve().is_file(), step
    for playbook in config["provisioner"]["playbooks"].values():
        assert (scenario_directory / playbook).resolve().is_file()


def test_hosts_are_of_the_release_that_was_asked_for() -> None:
    assert molecule.images({})["default"] == "localhost/vacuo/host:current"
    older = molecule.images({molecule.SUITE: "bookworm"})
    assert older["default"] == "localhost/vacuo/host-bookworm:current"
    for name in older.values():
        recipe = ROOT / "images" / name.rpartition("/")[2].partition(":")[0] / "recipe.toml"
        assert "on_demand = true" in recipe.read_text()
