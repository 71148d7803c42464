"""What being a batch pool means.  One suite, run against every pool in ``WORLDS``.

``htcondor`` is a real pool with real machines in containers: where it cannot run, it fails and
says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pool_worlds import WORLDS, PoolWorld, demand, is_unknown, joined, machine

from orchestrator.errors import Retryable, Terminal
from orchestrator.model import JobShape, NodeName
from testbed.waiting import eventually

REAL = {"htcondor"}
NODE = NodeName("node-a")
OTHER = NodeName("node-b")

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.real] * (name in REAL)) for name in WORLDS]
)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PoolWorld]:
    world = WORLDS[request.param](tmp_path, lambda: request.getfixturevalue("condor_pool"))
    yield world
    world.close()


def test_an_empty_queue_is_no_demand(world: PoolWorld) -> None:
    seen = demand(world)
    assert (seen.jobs, seen.cores, seen.shapes, seen.oldest_wait_seconds) == (0, 0, (), 0.0)


def test_idle_jobs_are_counted_by_shape(world: PoolWorld) -> None:
    world.submit(3, cores=1, memory_mb=64)
    world.submit(2, cores=4, memory_mb=512)
    shapes = eventually(lambda: len(demand(world).shapes) == 2 and demand(world).shapes, "demand")
    assert set(shapes) == {JobShape(1, 64, 3), JobShape(4, 512, 2)}


def test_the_oldest_wait_grows(world: PoolWorld) -> None:
    world.submit()
    first = eventually(lambda: demand(world).oldest_wait_seconds, "a wait")
    later = eventually(lambda: demand(world).oldest_wait_seconds >= first + 1, "a longer wait")
    assert later
    assert first < 60


def test_running_and_held_jobs_are_no_demand(world: PoolWorld) -> None:
    jobs = world.submit(3)
    world.start_machine(NODE, cores=2)
    eventually(lambda: sorted(world.states(jobs)) == ["idle", "running", "running"], "two running")
    eventually(lambda: demand(world).jobs == 1, "one idle job as demand")
    world.hold(jobs)
    eventually(lambda: demand(world).jobs == 0, "held jobs no longer being demand")


def test_jobs_that_no_such_machine_could_run_are_no_demand(world: PoolWorld) -> None:
    world.submit(2, cores=8)
    world.submit(2, memory_mb=8192)
    world.submit(2, requires={"Colour": "blue"})
    fits = world.submit(1)
    eventually(lambda: demand(world, cores=4, memory_mb=2048).jobs == 1, "the one that fits")
    assert world.states(fits) == ["idle"]
    assert demand(world, cores=8, memory_mb=2048).jobs == 3
    assert demand(world, cores=4, memory_mb=8192).jobs == 3
    assert demand(world, Colour="blue").jobs == 3
    assert demand(world, Colour="red").jobs == 1


def test_jobs_that_may_not_start_on_such_a_machine_are_no_demand(world: PoolWorld) -> None:
    world.submit(2, cores=1, memory_mb=64)
    world.submit(3, cores=1, memory_mb=1024)
    eventually(lambda: demand(world).jobs == 5, "all of them in the queue")
    per_core = "TARGET.RequestMemory / TARGET.RequestCpus > 500"
    assert demand(world, start=per_core).shapes == (JobShape(1, 1024, 3),)
    assert demand(world, start=f"!({per_core})").shapes == (JobShape(1, 64, 2),)


def test_only_the_owners_jobs_are_demand_for_a_machine_of_theirs(world: PoolWorld) -> None:
    world.submit(2)
    eventually(lambda: demand(world).jobs == 2, "the jobs in the queue")
    assert demand(world, VacuoOwners="alice").jobs == 2
    assert demand(world, VacuoOwners="bob,alice@vacuo.test").jobs == 2
    assert demand(world, VacuoOwners="bob,alice@elsewhere.test,ALICE,ali").jobs == 0
    assert demand(world, VacuoOwners="alice", start="TARGET.RequestCpus > 1").jobs == 0


def test_jobs_that_want_other_sites_are_no_demand(world: PoolWorld) -> None:
    world.submit(1)
    world.submit(2, says={"DESIRED_Sites": "here,T2_XX_There"})
    world.submit(4, says={"DESIRED_Sites": "elsewhere"})
    eventually(lambda: demand(world).jobs == 7, "all of them in the queue")
    assert demand(world, sites=["here"]).jobs == 3
    assert demand(world, sites=["HERE"]).jobs == 3
    assert demand(world, sites=["elsewhere"]).jobs == 5
    assert demand(world, sites=["nowhere"], GLIDEIN_CMSSite="T2_XX_There").jobs == 3
    # Where it may come up at either, only what it would take at both.
    assert demand(world, sites=["here", "elsewhere"]).jobs == 1


def test_a_start_that_is_no_expression_is_told_and_not_demand(world: PoolWorld) -> None:
    world.submit(1)
    with pytest.raises(Terminal, match="not a ClassAd expression"):
        eventually(lambda: demand(world, start="TARGET.Owner ==").jobs, "a refusal")


def test_a_machine_carries_the_name_of_its_node(world: PoolWorld) -> None:
    world.start_machine(NODE, cores=2, memory_mb=1024)
    world.start_machine(OTHER, cores=3, memory_mb=512)
    first, second = joined(world, NODE), joined(world, OTHER)
    assert (first.deployment, first.cores, first.memory_mb) == (world.deployment, 2, 1024)
    assert (second.deployment, second.cores, second.memory_mb) == (world.deployment, 3, 512)
    assert first.name != second.name
    assert not first.draining


def test_what_is_used_and_what_is_free_add_up(world: PoolWorld) -> None:
    world.start_machine(NODE, cores=3, memory_mb=1024)
    idle = joined(world, NODE)
    assert (idle.jobs, idle.cores_free, idle.memory_mb_free) == (0, 3, 1024)
    jobs = world.submit(2, cores=1, memory_mb=128)
    eventually(lambda: world.states(jobs) == ["running", "running"], "both running")

    def busy() -> bool:
        found = machine(world, NODE)
        return found is not None and found.jobs == 2 and found.cores_free == 1

    eventually(busy, "two jobs on the machine")
    found = joined(world, NODE)
    assert (found.cores, found.memory_mb) == (3, 1024)
    assert found.memory_mb_free == 1024 - 2 * 128


def test_a_drained_machine_finishes_its_job_and_takes_no_other(world: PoolWorld) -> None:
    world.start_machine(NODE, cores=2)
    joined(world, NODE)
    running = world.submit(1, seconds=8)
    eventually(lambda: world.states(running) == ["running"], "the first job running")
    eventually(lambda: (found := machine(world, NODE)) and found.jobs, "the job on the machine")
    world.pool.drain(world.deployment, NODE)
    later = world.submit(1)
    world.pool.reschedule()

    def draining_or_gone() -> bool:
        found = machine(world, NODE)
        return found is None or found.draining

    eventually(draining_or_gone, "the machine draining")
    eventually(lambda: world.states(running) == ["done"], "the first job finishing")
    assert world.states(later) == ["idle"]
    assert draining_or_gone()


def test_draining_is_asked_for_as_often_as_one_likes(world: PoolWorld) -> None:
    world.start_machine(NODE)
    joined(world, NODE)
    for _ in range(3):
        world.pool.drain(world.deployment, NODE)


def test_a_node_that_is_not_there_is_drained(world: PoolWorld) -> None:
    world.pool.drain(world.deployment, NodeName("never-was"))


def test_a_pool_that_cannot_be_reached_is_unknown_and_not_empty(world: PoolWorld) -> None:
    demand(world)
    world.pool.machines()
    world.switch_off()
    try:
        # What was seen a moment ago may be told again, for some seconds where looking is slow.
        eventually(lambda: is_unknown(world), "the demand being unknown")
        with pytest.raises(Retryable):
            world.pool.machines()
        with pytest.raises(Retryable):
            world.pool.drain(world.deployment, NODE)
        with pytest.raises(Retryable):
            world.pool.reschedule()
    finally:
        world.switch_on()
    eventually(lambda: demand(world).jobs == 0 and world.pool.machines() is not None, "an answer")


def test_a_credential_is_for_one_node_and_not_for_long(world: PoolWorld) -> None:
    first = world.pool.join_credential(world.deployment, NODE)
    second = world.pool.join_credential(world.deployment, OTHER)
    assert first.identity != second.identity
    assert NODE in first.identity
    assert time.time() < first.expires_at <= time.time() + 3600
    assert first.token not in repr(first)


def test_what_a_node_must_know_to_join_is_told(world: PoolWorld) -> None:
    assert {"collector", "trust_domain"} <= set(world.pool.join_attributes())


def test_a_revoked_credential_lets_nobody_join(world: PoolWorld) -> None:
    world.start_machine(OTHER)
    joined(world, OTHER)  # so that one knows that joining works
    credential = world.pool.join_credential(world.deployment, NODE)
    world.pool.revoke(world.deployment)
    world.pool.revoke(world.deployment)
    world.start_machine(NODE, credential=credential)
    time.sleep(8)
    assert machine(world, NODE) is None


def test_a_waiting_job_is_explained(world: PoolWorld) -> None:
    jobs = world.submit(requires={"Colour": "blue"})
    reasons = eventually(lambda: world.pool.why_idle(world.job_id(jobs)), "reasons")
    assert all(reason.sentence.endswith(".") for reason in reasons)
