"""What ClassAds mean to us."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.batch import ads
from orchestrator.model import JobShape, Requirements


def slot(kind: str = "Partitionable", **more: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "Name": "slot1@host",
        "SlotType": kind,
        "State": "Unclaimed",
        "Activity": "Idle",
        "Cpus": 8,
        "Memory": 4096,
        "DaemonStartTime": 100,
        "VacuoNode": "n",
        "VacuoDeployment": "d",
        "AuthenticatedIdentity": "n@nodes.example.org",
    }
    return known | more


def test_a_partitionable_slot_and_its_parts_are_one_machine() -> None:
    slots = [
        slot(Cpus=5, Memory=1024, TotalSlotCpus=8, TotalSlotMemory=4096),
        slot("Dynamic", Name="slot1_1@host", Cpus=1, Memory=1024, State="Claimed"),
        slot("Dynamic", Name="slot1_2@host", Cpus=2, Memory=2048, State="Claimed"),
    ]
    (machine,) = ads.machines(slots)
    assert (machine.name, machine.node, machine.deployment) == ("host", "n", "d")
    assert (machine.cores, machine.cores_free, machine.jobs) == (8, 5, 2)
    assert (machine.memory_mb, machine.memory_mb_free) == (4096, 1024)
    assert machine.started_at == 100


def test_static_slots_stand_for_themselves() -> None:
    slots = [
        slot("Static", Cpus=1, Memory=512),
        slot("Static", Name="slot2@host", Cpus=1, Memory=512, State="Claimed"),
    ]
    (machine,) = ads.machines(slots)
    assert (machine.cores, machine.cores_free, machine.jobs) == (2, 1, 1)
    assert (machine.memory_mb, machine.memory_mb_free) == (1024, 512)


@pytest.mark.parametrize("said", [{"State": "Drained"}, {"Activity": "Retiring"}])
def test_a_draining_slot_is_a_draining_machine(said: dict[str, str]) -> None:
    (machine,) = ads.machines([slot(**said), slot("Dynamic", State="Claimed")])
    assert machine.draining
    assert machine.jobs == 1


def test_only_ads_that_name_a_node_of_ours_count() -> None:
    nameless = slot()
    del nameless["VacuoNode"]
    assert ads.machines([nameless, slot(VacuoDeployment=7), slot(VacuoNode="")]) == []


def test_a_startd_cannot_speak_for_another_node() -> None:
    mine = slot(VacuoNode="n")
    forged = slot(VacuoNode="other")
    found = ads.machines([mine, forged], "nodes.example.org")
    assert [machine.node for machine in found] == ["n"]


def test_the_template_is_an_empty_slot_with_all_that_is_asked_for() -> None:
    need = Requirements(cores=4, memory_mb=2048, disk_gb=3, architecture="aarch64")
    ad = ads.template_ad(need, {"Colour": "blue"})
    assert (ad["Cpus"], ad["TotalCpus"], ad["TotalSlotCpus"]) == (4, 4, 4)
    assert ad["Memory"] == 2048
    assert ad["Disk"] == 3 * 1024 * 1024
    assert ad["Arch"] == "aarch64"
    assert ad["Colour"] == "blue"


def test_what_is_advertised_replaces_ours_however_it_is_spelt() -> None:
    ad = ads.template_ad(Requirements(), {"HASFILETRANSFER": False})
    assert [name for name in ad if name.lower() == "hasfiletransfer"] == ["HASFILETRANSFER"]


def test_equal_shapes_are_added_up_and_the_largest_comes_first() -> None:
    groups = [(1, 512, 3), (8, 1024, 1), (1, 512, 4), (0, -1, 2)]
    assert ads.shapes(groups) == (JobShape(8, 1024, 1), JobShape(1, 512, 7), JobShape(1, 0, 2))


def test_a_machine_whose_probes_keep_jobs_away_is_not_free_and_says_why() -> None:
    broken = {"VacuoNodeFit": False, "VacuoNodeWhy": "10.0.0.2:3128 does not answer"}
    (machine,) = ads.machines([slot(**broken)])
    assert (machine.cores_free, machine.memory_mb_free) == (0, 0)
    assert machine.unfit == "10.0.0.2:3128 does not answer"
    (machine,) = ads.machines([slot(VacuoNodeFit=True, VacuoNodeWhy="")])
    assert machine.cores_free > 0
    assert machine.unfit == ""


@pytest.mark.parametrize(
    ("ids", "first"),
    [("3.4 ... 3.7", (3, 4)), ("5.0 5.1", (5, 0)), ("9.2", (9, 2)), ("", None), ("x.y", None)],
)
def test_the_lowest_job_of_a_group(ids: str, first: tuple[int, int] | None) -> None:
    assert ads.first_job(ids) == first


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("true", ["true"]),
        ("a && b", ["a", "b"]),
        ("((a) && (b && c))", ["a", "b", "c"]),
        ("(a || b) && c", ["a || b", "c"]),
        ("a || b && c", ["a || b && c"]),
        ('(x == "a && b") && y', ['x == "a && b"', "y"]),
        ('x == "(" && y', ['x == "("', "y"]),
        ('x == "\\")" && f(a && b)', ['x == "\\")"', "f(a && b)"]),
        ("(a) == (b)", ["(a) == (b)"]),
        ("", [""]),
    ],
)
def test_requirements_are_cut_at_their_topmost_conjunctions(
    expression: str, parts: list[str]
) -> None:
    assert ads.clauses(expression) == parts


@given(st.text('ab()"&|\\ []', max_size=30))
def test_no_expression_is_too_odd_to_be_cut(expression: str) -> None:
    assert ads.clauses(expression)
