from __future__ import annotations

import re
from pathlib import Path

import classad2
import pytest
import yaml

from orchestrator.model import Attribute, Concat, Requirements, VacuumPolicy
from orchestrator.tosca import catalogue
from tests.unit.tosca_support import SOUND, checked, compiled, spoilt, the_problem

SHIPPED = {template.name: template for template in catalogue.templates()}


def _shipped(name: str, **inputs: object):  # type: ignore[no-untyped-def]
    return compiled(SHIPPED[name].path.read_text(), inputs)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_template_compiles_with_its_defaults(name: str) -> None:
    spec = _shipped(name)
    assert spec.groups
    assert SHIPPED[name].title == spec.description
    assert "vacuo/types.yaml" in dict(spec.imports)
    assert all(len(checksum) == 64 for _, checksum in spec.imports)


@pytest.mark.parametrize("name", SHIPPED)
def test_where_no_input_has_a_value_yet_nothing_is_wrong(name: str) -> None:
    document = yaml.safe_load(SHIPPED[name].path.read_text())
    declared = document["topology_template"]["inputs"]
    for one in declared.values():
        one.pop("default", None)
        one["required"] = True
    found = checked(yaml.safe_dump(document, sort_keys=False))
    assert found.groups == tuple(str(group.name) for group in _shipped(name).groups)
    noted = {note.sentence.split("`")[1] for note in found.notes}
    assert noted >= set(declared)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("maximum: 3", "{minimum: {get_input: unknown}, maximum: 3}"),
        ("maximum: 3", "{minimum: 5, maximum: {get_input: unknown}}"),
        ("num_cpus: { get_input: cores }", "num_cpus: {get_input: unknown}"),
        ("mem_size: 4 GB", "mem_size: {concat: [{get_input: unknown}, ' GB']}"),
        ("pool: test", "pool: {get_input: unknown}"),
        (
            "        host:\n          properties:\n",
            "        scalable: {properties: {min_instances: 2, max_instances: 4, "
            "default_instances: {get_input: unknown}}}\n"
            "        host:\n          properties:\n",
        ),
    ],
)
def test_nothing_is_concluded_from_a_value_that_is_not_known_yet(old: str, new: str) -> None:
    template = spoilt("  inputs:\n", "  inputs:\n    unknown: {type: integer}\n", spoilt(old, new))
    (note,) = checked(template).notes
    assert note.sentence.startswith("The input `unknown` has no value yet")


def test_the_site_starts_from_nothing_and_can_leave_nothing() -> None:
    spec = _shipped("htcondor-site")
    assert {group.name: group.minimum for group in spec.groups} == {"worker": 0, "cache": 0}
    assert spec.group("worker").uses == ("cache",)
    assert spec.group("cache").uses == ()
    assert spec.group("cache").pool is None


def test_inputs_reach_sizes_policies_and_roles() -> None:
    spec = _shipped(
        "htcondor-site", pool="grid", workers_minimum=1, workers_maximum=7, worker_cores=8,
        worker_memory="16 GiB", worker_disk="100 GB", idle_time="20 s", lifetime="2 h",
        attributes={"Tier": 2, "Fast": True}, cvmfs_required=True,
    )  # fmt: skip
    worker = spec.group("worker")
    assert worker.requirements == Requirements(cores=8, memory_mb=16384, disk_gb=94)
    assert worker.vacuum == VacuumPolicy(1, 7, 20, 7200)
    assert worker.pool == "grid"
    assert worker.advertised == {"Tier": 2, "Fast": True}
    by_name = {service.template: service for service in worker.services}
    assert by_name["worker_cvmfs"].variables["cvmfs_required"] is True
    assert by_name["execute"].variables["htcondor_execute_attributes"] == worker.advertised


def test_services_come_in_the_order_in_which_they_stand_on_one_another() -> None:
    worker = _shipped("htcondor-site").group("worker")
    names = [service.template for service in worker.services]
    assert names == ["worker_containers", "worker_cvmfs", "worker_validation", "execute"]
    reversed_template = spoilt(
        "    containers:\n      type: vacuo.nodes.ContainerRuntime\n      requirements:\n"
        "        - host: worker\n",
        "",
    )
    reversed_template = spoilt(
        "  policies:",
        "    containers:\n      type: vacuo.nodes.ContainerRuntime\n      requirements:\n"
        "        - host: worker\n  policies:",
        reversed_template,
    )
    services = compiled(reversed_template).group("worker").services
    assert [service.template for service in services] == ["containers", "execute"]


def test_what_is_only_known_later_stays_a_late_value() -> None:
    spec = _shipped("htcondor-site")
    execute = spec.group("worker").services[-1]
    assert execute.variables["htcondor_execute_xcache"] == Concat(
        (Attribute("xcache", ("private_address",)), ":", "1094")
    )
    assert execute.variables["htcondor_execute_token"] == Attribute("execute", ("join_credential",))
    assert spec.outputs["worker_addresses"] == Attribute("worker", ("private_address",))


def test_an_unused_requirement_leaves_its_variables_out() -> None:
    (_, execute) = compiled(SOUND).group("worker").services
    assert "htcondor_execute_proxy" not in execute.variables
    assert "htcondor_execute_xcache" not in execute.variables
    assert execute.variables["htcondor_execute_cores"] == Attribute("execute", ("cores",))


def test_a_property_of_the_template_wins_over_the_input_of_its_type() -> None:
    template = spoilt("pool: test", "pool: test\n        cores: 2\n        memory: 1 GiB")
    (_, execute) = compiled(template).group("worker").services
    assert execute.variables["htcondor_execute_cores"] == 2
    assert execute.variables["htcondor_execute_memory_mb"] == 1024


def test_an_input_of_the_template_wins_over_all_and_maps_are_merged() -> None:
    template = spoilt(
        "pool: test",
        "pool: test\n        job_environment: { A: 1, B: b }\n"
        "      interfaces:\n        Standard:\n          configure:\n            inputs:\n"
        "              job_environment: { B: c, C: { get_attribute: [SELF, node_name] } }",
    )
    (_, execute) = compiled(template).group("worker").services
    assert execute.variables["htcondor_execute_job_environment"] == {
        "A": "1",
        "B": "c",
        "C": Attribute("execute", ("node_name",)),
    }


def test_the_pool_is_for_vacuo_and_reaches_no_role() -> None:
    (_, execute) = compiled(SOUND).group("worker").services
    assert "htcondor_execute_pool" not in execute.variables


def test_without_a_policy_the_scalable_capability_counts() -> None:
    scalable = (
        "        scalable:\n          properties:\n            min_instances: 1\n"
        "            max_instances: 9\n            default_instances: 4\n"
    )
    template = spoilt("    containers:\n", scalable + "    containers:\n")
    with_policy = compiled(template.replace("maximum: 3", "idle_time: 60 s")).group("worker")
    assert (with_policy.minimum, with_policy.maximum) == (1, 9)
    without = template[: template.index("  policies:")]
    assert compiled(without).group("worker").count == 4
    assert "not between" in the_problem(without.replace("s: 4", "s: 40")).sentence


def test_a_placement_policy_names_the_site() -> None:
    template = spoilt(
        "  outputs:",
        "    - here:\n        type: vacuo.policies.Placement\n        targets: [execute]\n"
        "        properties: { site: desy }\n  outputs:",
    )
    assert compiled(template).group("worker").site == "desy"


def test_a_policy_may_target_a_group_of_templates() -> None:
    template = spoilt(
        "  policies:",
        "  groups:\n    all: { type: tosca.groups.Root, members: [worker] }\n  policies:",
    )
    spec = compiled(spoilt("targets: [worker]", "targets: [all]", template))
    assert spec.group("worker").maximum == 3


def test_a_host_can_name_its_image() -> None:
    template = spoilt("type: tosca.nodes.Compute", "type: vacuo.nodes.Host")
    template = spoilt(
        "        host:\n          properties:",
        "        os:\n          properties: { image: bare }\n        host:\n          properties:",
        template,
    )
    assert compiled(template).group("worker").requirements.image == "bare"


def test_sizes_never_become_less_than_was_asked_for() -> None:
    need = compiled(spoilt("4 GB", "4 gb")).group("worker").requirements
    assert need.memory_mb == 3815


def test_token_and_concat_of_known_values_are_known() -> None:
    template = spoilt("pool: test", "pool: { token: [ { concat: [a-, b, -c] }, '-', 1 ] }")
    assert compiled(template).group("worker").pool == "b"


def test_text_stays_as_it_was_written() -> None:
    template = spoilt(
        "pool: test", "pool: test\n        job_environment: { VERSION: 1.10, N: 010 }"
    )
    (_, execute) = compiled(template).group("worker").services
    environment = execute.variables["htcondor_execute_job_environment"]
    assert environment == {"VERSION": "1.10", "N": "010"}


def test_names_of_advertised_attributes_are_checked() -> None:
    problem = the_problem(spoilt("pool: test", "pool: test\n        attributes: { 'a b': 1 }"))
    assert "must match" in problem.sentence
    problem = the_problem(spoilt("pool: test", "pool: test\n        attributes: { a: [1] }"))
    assert "text, a number or a boolean" in problem.sentence


def test_what_may_start_is_known_to_the_group_and_checked() -> None:
    high = "pool: test\n        start: TARGET.RequestMemory > 2000"
    assert (
        compiled(spoilt("pool: test", high)).group("worker").start == "TARGET.RequestMemory > 2000"
    )
    problem = the_problem(spoilt("pool: test", "pool: test\n        start: TARGET.RequestMemory >"))
    assert "is not a ClassAd expression" in problem.sentence


def test_the_templates_of_the_documentation_compile() -> None:
    text = (Path(__file__).parents[2] / "docs" / "user" / "tosca.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    whole = next(block for block in blocks if block.startswith("tosca_definitions_version"))
    assert compiled(whole, {"cores": 4}).group("worker").maximum == 10
    types = next(block for block in blocks if block.startswith("node_types"))
    assert compiled(whole + types).groups


def test_no_job_is_for_both_kinds_of_worker_of_the_cms_site() -> None:
    spec = _shipped("cms-ephemeral-site")
    ordinary, high = spec.group("worker").start, spec.group("high_memory_worker").start
    for memory in (1, 2048, 2049, 64000):
        job = classad2.ClassAd({"RequestMemory": memory, "RequestCpus": 1})
        here = [classad2.ExprTree(s).eval(classad2.ClassAd(), job) for s in (ordinary, high)]
        assert sorted(here) == [False, True]


def test_what_properties_have_a_machine_say_is_known_beforehand() -> None:
    template = spoilt(
        "        pool: test\n",
        "        pool: test\n        owners: [alice, bob@example.org]\n"
        "        cms_site: T2_XX_Rack\n"
        "        supported_vos: [cms, dteam]\n        attributes: { Tier: 2 }\n",
    )
    assert compiled(template).group("worker").advertised == {
        "VacuoOwners": "alice,bob@example.org",
        "GLIDEIN_CMSSite": "T2_XX_Rack",
        "GLIDEIN_Supported_VOs": "cms,dteam",
        "Tier": 2,
    }
