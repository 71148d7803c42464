"""What every repository must do, on a database in memory and in a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from repository_world import ADA, ID, NODE, Worker, deployment, event, node

from orchestrator.errors import Conflict, LeaseLost, LimitExceeded, NotFound
from orchestrator.model import (
    Account,
    Action,
    Allowance,
    ConfigureNodes,
    CreateInstance,
    DeleteInstance,
    Deployment,
    DeploymentId,
    DeploymentStatus,
    DrainNode,
    EventKind,
    InstanceId,
    IntentId,
    NodeName,
    NodeState,
    Outcome,
    OutcomeKind,
    PoolName,
    Principal,
    Reschedule,
    RevokeCredentials,
    Run,
    RunState,
    Sight,
    SiteName,
    Use,
)
from orchestrator.reasons import Reason, reason
from orchestrator.store import Repository

DONE = Outcome(OutcomeKind.DONE)
WHY = reason("deployment-is-deleted")


@pytest.fixture(params=["memory", "file"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Repository]:
    memory = request.param == "memory"
    opened = Repository.open("sqlite://" if memory else f"sqlite:///{tmp_path / 'vacuo.db'}")
    yield opened
    opened.close()


@pytest.fixture
def worker(repository: Repository) -> Worker:
    repository.create(deployment())
    return Worker(repository).begin()


# --- deployments --------------------------------------------------------------------------------


def test_a_deployment_comes_back_as_it_was(repository: Repository) -> None:
    full = deployment(
        status=DeploymentStatus.UPDATE_FAILED,
        status_reason=WHY,
        reasons=(WHY, Reason("x", "A sentence.", "vacuo status")),
        outputs={"$map": [1, None, {"a": 1.5}]},
        callback="https://callback",
        user_group="cms",
        forced=True,
    )
    assert repository.create(full) == full
    assert repository.deployment(ID) == full


def test_a_deployment_that_is_not_there_is_not_found(repository: Repository) -> None:
    nobody = DeploymentId("nobody")
    for ask in (
        lambda: repository.deployment(nobody),
        lambda: repository.change(nobody, forced=True),
        lambda: repository.acquire(nobody, "server-1", 60.0, 100.0),
    ):
        with pytest.raises(NotFound, match="nobody"):
            ask()


def test_lists_show_the_owners_newest_first_by_page(repository: Repository) -> None:
    for number in range(5):
        repository.create(deployment(f"d{number}", created_at=100.0 + number // 2))
    repository.create(deployment("other", owner=Principal("https://other", "ada")))
    page = repository.deployments(ADA, page=0, size=2)
    assert ([item.id for item in page.items], page.total) == (["d4", "d3"], 5)
    assert [d.id for d in repository.deployments(ADA, page=1, size=2).items] == ["d2", "d1"]
    assert repository.deployments(ADA, page=9).items == ()
    assert repository.deployments(None).total == 6


def test_deleted_deployments_are_listed_only_when_asked_for(repository: Repository) -> None:
    repository.create(deployment("gone", status=DeploymentStatus.DELETE_COMPLETE))
    repository.create(deployment("stuck", status=DeploymentStatus.DELETE_FAILED, user_group="cms"))
    assert [d.id for d in repository.deployments(ADA).items] == ["stuck"]
    assert repository.deployments(ADA, include_deleted=True).total == 2
    assert repository.deployments(ADA, user_group="cms").total == 1
    assert repository.deployments(ADA, user_group="atlas").total == 0
    assert repository.to_work_on() == ("stuck",)


def shared(id: str, group: str | None, owner: Principal = ADA) -> Deployment:
    return deployment(id, owner=owner, user_group=group)


def test_lists_and_events_show_what_is_seen(repository: Repository) -> None:
    bob, other = Principal(ADA.issuer, "bob"), Principal("https://other", "ada")
    for made in (
        shared("own", None),
        shared("hers", "/atlas"),
        shared("shared", "/cms/uscms", bob),
        shared("above", "/cms", bob),
        shared("case", "/CMS", bob),
        shared("elsewhere", "/cms", other),
    ):
        told = replace(event("made"), deployment=made.id)
        repository.create(made, events=[told])

    def seen(sight: Sight) -> set[str]:
        page = repository.deployments(sight=sight, size=100)
        told = {found.deployment for found in repository.events(sight=sight)}
        assert told == {found.id for found in page.items}
        assert page.total == len(page.items)
        return {found.id for found in page.items}

    assert seen(Sight(ADA)) == {"own", "hers"}
    assert seen(Sight(ADA, frozenset({"/cms"}))) == {"own", "hers", "above"}
    groups = frozenset({"/cms", "/cms/uscms"})
    assert seen(Sight(Principal(ADA.issuer, "eve"), groups)) == {"shared", "above"}
    assert len(seen(Sight(ADA, everything=True))) == 6
    assert repository.deployments(bob, sight=Sight(ADA, groups)).total == 2


def test_what_is_counted_together_is_all_that_is_not_gone(repository: Repository) -> None:
    bob, other = Principal(ADA.issuer, "bob"), Principal("https://other", "ada")
    gone = replace(shared("gone", "/cms"), status=DeploymentStatus.DELETE_COMPLETE)
    going = replace(shared("going", "/cms"), status=DeploymentStatus.DELETE_IN_PROGRESS)
    below, case = shared("below", "/cms/uscms", bob), shared("case", "/CMS/uscms", bob)
    for made in (gone, going, below, case, shared("elsewhere", "/cms", other)):
        repository.create(made)
    one = Use.of(going.spec)
    assert repository.in_use(Account(ADA.issuer, ADA.subject)) == one
    assert repository.in_use(Account(ADA.issuer, group="/cms")) == one + one
    assert repository.in_use(Account(ADA.issuer, group="/cms/uscms")) == one
    assert repository.in_use(Account("https://other", group="/cms")) == one


def test_what_does_not_fit_is_not_stored(repository: Repository) -> None:
    allowance = Allowance(Account(ADA.issuer, group="/cms"), deployments=1)
    repository.create(shared("one", "/cms"), allowances=[allowance])
    with pytest.raises(LimitExceeded):
        repository.create(shared("two", "/cms"), events=[event("made")], allowances=[allowance])
    repository.create(shared("two", None), allowances=[])
    with pytest.raises(LimitExceeded):
        repository.change(DeploymentId("two"), user_group="/cms", allowances=[allowance])
    assert repository.deployment(DeploymentId("two")).user_group is None
    repository.change(DeploymentId("one"), user_group="/cms", allowances=[allowance])
    assert repository.last_sequence() == 0


def test_a_repeated_request_with_its_key_makes_one_deployment(repository: Repository) -> None:
    made = event("made")
    first = repository.create(deployment(), idempotency_key="k", fingerprint="f", events=[made])
    again = repository.create(
        deployment("two"), idempotency_key="k", fingerprint="f", events=[made]
    )
    assert again == first
    assert repository.deployments(None).total == 1
    assert repository.last_sequence() == 1


def test_a_key_used_for_another_request_is_a_conflict(repository: Repository) -> None:
    repository.create(deployment(), idempotency_key="k", fingerprint="f")
    with pytest.raises(Conflict) as conflict:
        repository.create(deployment("two"), idempotency_key="k", fingerprint="g")
    assert ID in conflict.value.why
    assert conflict.value.attempt
    assert repository.deployments(None).total == 1


def test_the_same_key_of_another_owner_is_another_key(repository: Repository) -> None:
    repository.create(deployment(), idempotency_key="k", fingerprint="f")
    other = deployment("two", owner=Principal("https://other", "ada"))
    assert repository.create(other, idempotency_key="k", fingerprint="g").id == "two"


def test_a_change_is_whole_and_counts_a_generation(repository: Repository) -> None:
    repository.create(deployment())
    changed = repository.change(
        ID,
        events=[event()],
        status=DeploymentStatus.DELETE_IN_PROGRESS,
        forced=True,
        updated_at=7.0,
    )
    expected = replace(
        deployment(),
        status=DeploymentStatus.DELETE_IN_PROGRESS,
        forced=True,
        updated_at=7.0,
        generation=1,
    )
    assert changed == repository.deployment(ID) == expected
    assert len(repository.events()) == 1


@pytest.mark.parametrize("field", ["id", "owner", "created_at", "generation", "colour"])
def test_what_must_not_change_cannot(repository: Repository, field: str) -> None:
    repository.create(deployment())
    with pytest.raises(TypeError, match=field):
        repository.change(ID, **{field: "x"})


def test_a_change_in_the_wrong_status_is_a_conflict(repository: Repository) -> None:
    repository.create(deployment())
    with pytest.raises(Conflict, match="CREATE_IN_PROGRESS"):
        repository.change(
            ID, events=[event()], only_if=[DeploymentStatus.CREATE_COMPLETE], forced=True
        )
    assert not repository.deployment(ID).forced
    assert repository.last_sequence() == 0


# --- leases -------------------------------------------------------------------------------------


def test_a_second_worker_has_to_wait_for_the_lease(worker: Worker) -> None:
    with pytest.raises(LeaseLost, match="server-1 works on"):
        worker.repository.acquire(ID, "server-2", 60.0, 159.0)


def test_a_lease_that_ran_out_can_be_taken_over_and_its_holder_cannot_write(
    worker: Worker,
) -> None:
    other = Worker(worker.repository, "server-2", now=160.0).begin()
    assert other.lease is not None
    assert worker.lease is not None
    assert other.lease.token > worker.lease.token
    with pytest.raises(LeaseLost):
        worker.save([CreateInstance(NODE)], [node()], events=[event()])
    with pytest.raises(LeaseLost):
        worker.repository.renew(worker.lease, 60.0, 161.0)
    worker.repository.release(worker.lease)  # of no effect
    other.save([], [node("other")])
    assert [n.name for n in worker.repository.nodes(ID)] == ["other"]
    assert worker.repository.intents(ID) == ()
    assert worker.repository.last_sequence() == 0


def test_a_lease_that_ran_out_cannot_write_even_if_nobody_took_it(worker: Worker) -> None:
    worker.now = 160.0
    with pytest.raises(LeaseLost, match="ran out"):
        worker.save([], [node()])
    assert worker.repository.nodes(ID) == ()
    assert worker.lease is not None
    worker.lease = worker.repository.renew(worker.lease, 60.0, worker.now)
    worker.save([], [node()])
    assert len(worker.repository.nodes(ID)) == 1


def test_an_earlier_lease_of_the_same_holder_is_void(worker: Worker) -> None:
    Worker(worker.repository).begin()
    with pytest.raises(LeaseLost):
        worker.save()


def test_a_released_lease_is_free_at_once_and_the_token_still_grows(worker: Worker) -> None:
    assert worker.lease is not None
    worker.repository.release(worker.lease)
    with pytest.raises(LeaseLost):
        worker.save()
    other = worker.repository.acquire(ID, "server-2", 60.0, 101.0)
    assert other.token > worker.lease.token


def test_a_server_that_starts_alone_need_not_wait_for_a_dead_one(worker: Worker) -> None:
    worker.repository.void_leases()
    Worker(worker.repository, "server-2", now=101.0).begin().save()
    with pytest.raises(LeaseLost):
        worker.save()


# --- what a pass saves --------------------------------------------------------------------------


def test_a_pass_is_saved_whole(worker: Worker) -> None:
    actions: list[Action] = [
        CreateInstance(NODE),
        ConfigureNodes((NODE,)),
        Reschedule(PoolName("pool")),
        DrainNode(NODE),
        DeleteInstance(SiteName("here"), InstanceId("i-1"), None, WHY),
        RevokeCredentials(PoolName("pool")),
    ]
    intents = worker.save(
        actions,
        [node()],
        status=DeploymentStatus.CREATE_COMPLETE,
        status_reason=WHY,
        reasons=[WHY],
        outputs={"a": 1},
        events=[event()],
    )
    assert [intent.action for intent in intents] == actions
    assert worker.repository.intents(ID) == intents
    assert worker.repository.nodes(ID) == (node(),)
    stored = worker.repository.deployment(ID)
    assert (stored.status, stored.status_reason, stored.reasons, stored.outputs) == (
        DeploymentStatus.CREATE_COMPLETE,
        WHY,
        (WHY,),
        {"a": 1},
    )
    assert [e.message for e in worker.repository.events(deployment=ID)] == ["happened"]


def test_outputs_that_a_pass_does_not_know_stay(worker: Worker) -> None:
    worker.save(outputs={"a": 1})
    worker.save()
    assert worker.repository.deployment(ID).outputs == {"a": 1}


def test_an_update_time_tells_of_news_only(worker: Worker) -> None:
    worker.now = 110.0
    worker.save(reasons=[WHY])
    assert worker.repository.deployment(ID).updated_at == 100.0
    worker.save(status=DeploymentStatus.CREATE_COMPLETE)
    assert worker.repository.deployment(ID).updated_at == 110.0


def test_nothing_of_a_pass_is_saved_when_one_part_cannot_be(worker: Worker) -> None:
    with pytest.raises(ValueError, match="do not exist"):
        worker.save([CreateInstance(NODE), ConfigureNodes((NodeName("nobody"),))], [node()])
    with pytest.raises(ValueError, match="not of deployment"):
        worker.save([], [node(), node("x", deployment=DeploymentId("other"))])
    assert worker.repository.nodes(ID) == ()
    assert worker.repository.intents(ID) == ()


@pytest.mark.parametrize(
    "wish", [DeploymentStatus.DELETE_IN_PROGRESS, DeploymentStatus.UPDATE_IN_PROGRESS]
)
def test_a_wish_that_races_with_a_pass_is_never_lost(
    worker: Worker, wish: DeploymentStatus
) -> None:
    worker.repository.change(ID, status=wish)
    worker.save(
        [], [node()], status=DeploymentStatus.CREATE_COMPLETE, status_reason=WHY, reasons=[WHY]
    )
    stored = worker.repository.deployment(ID)
    assert (stored.status, stored.status_reason) == (wish, None)
    assert stored.reasons == (WHY,)
    assert worker.repository.nodes(ID) == (node(),)
    worker.begin().save(status=DeploymentStatus.DELETE_COMPLETE)
    assert worker.repository.deployment(ID).status is DeploymentStatus.DELETE_COMPLETE


def test_a_second_update_is_not_completed_by_the_pass_of_the_first(worker: Worker) -> None:
    worker.repository.change(ID, status=DeploymentStatus.UPDATE_IN_PROGRESS)
    worker.begin()
    worker.repository.change(ID, status=DeploymentStatus.UPDATE_IN_PROGRESS, parameters={})
    worker.save(status=DeploymentStatus.UPDATE_COMPLETE)
    assert worker.repository.deployment(ID).status is DeploymentStatus.UPDATE_IN_PROGRESS


def test_nodes_that_are_gone_are_remembered_and_not_counted(worker: Worker) -> None:
    worker.save([], [node("a"), node("b")])
    worker.save([], [node("a", state=NodeState.GONE)])
    assert [n.name for n in worker.repository.nodes(ID)] == ["b"]
    assert [n.name for n in worker.repository.nodes(ID, include_gone=True)] == ["a", "b"]


# --- intents, creations, runs -------------------------------------------------------------------


def test_an_intent_is_settled_once(worker: Worker) -> None:
    (intent,) = worker.save([CreateInstance(NODE)], [node()])
    assert worker.repository.intents(ID, open_only=True) == (intent,)
    worker.repository.finish(intent.id, DONE, 101.0, [event()])
    assert worker.repository.intents(ID, open_only=True) == ()
    (settled,) = worker.repository.intents(ID)
    assert (settled.outcome, settled.finished_at) == (DONE, 101.0)
    for late in (intent.id, IntentId("nothing")):
        with pytest.raises(LeaseLost):
            worker.repository.finish(late, Outcome(OutcomeKind.FAILED), 102.0, [event()])
    assert worker.repository.intents(ID) == (settled,)
    assert worker.repository.last_sequence() == 1


def test_the_outcome_of_a_creation_is_that_of_the_last_attempt(worker: Worker) -> None:
    refused = Outcome(OutcomeKind.FAILED, "no room", 5.0)
    (first,) = worker.save([CreateInstance(NODE)], [node()])
    worker.repository.finish(first.id, refused, 101.0)
    assert worker.repository.creates(ID, "server-1") == {NODE: refused}
    (second,) = worker.save([CreateInstance(NODE)])
    assert worker.repository.creates(ID, "server-1") == {}  # still under way
    assert worker.repository.creates(ID, "server-2")[NODE].kind is OutcomeKind.UNKNOWN
    worker.repository.finish(second.id, DONE, 102.0)
    assert worker.repository.creates(ID, "server-2") == {NODE: DONE}
    worker.save([], [node(state=NodeState.GONE)])
    assert worker.repository.creates(ID, "server-1") == {}


def test_a_run_is_opened_for_each_node_and_ends_by_itself(worker: Worker) -> None:
    names = (NODE, NodeName("two"))
    (intent,) = worker.save([ConfigureNodes(names)], [node(attempts=2), node("two", attempts=1)])
    worker.repository.finish_run(intent.id, NODE, RunState.FAILED, "task x", 101.0, [event()])
    assert worker.repository.runs(ID, "server-1") == {
        NODE: Run(NODE, 2, RunState.FAILED, "task x"),
        "two": Run(names[1], 1, RunState.RUNNING),
    }
    assert worker.repository.runs(ID, "server-2")[names[1]].state is RunState.LOST
    with pytest.raises(LeaseLost):
        worker.repository.finish_run(intent.id, NODE, RunState.SUCCEEDED, "", 102.0, [event()])
    assert worker.repository.last_sequence() == 1


def test_the_last_run_of_a_node_counts(worker: Worker) -> None:
    (first,) = worker.save([ConfigureNodes((NODE,))], [node(attempts=1)])
    worker.repository.finish_run(first.id, NODE, RunState.FAILED, "task x", 101.0)
    worker.save([ConfigureNodes((NODE,))], [node(attempts=2)])
    assert worker.repository.runs(ID, "server-1") == {NODE: Run(NODE, 2, RunState.RUNNING)}
    worker.save([], [node(state=NodeState.GONE)])
    assert worker.repository.runs(ID, "server-1") == {}


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (OutcomeKind.FAILED, RunState.FAILED),
        (OutcomeKind.UNKNOWN, RunState.LOST),
        (OutcomeKind.DONE, RunState.LOST),
    ],
)
def test_no_run_outlives_its_intent(worker: Worker, kind: OutcomeKind, state: RunState) -> None:
    (intent,) = worker.save([ConfigureNodes((NODE,))], [node()])
    worker.repository.finish(intent.id, Outcome(kind, "ansible is gone"), 101.0)
    run = worker.repository.runs(ID, "server-1")[NODE]
    assert (run.state, run.why) == (state, "ansible is gone")


def test_a_background_run_ends_after_its_server_lost_the_lease(worker: Worker) -> None:
    (intent,) = worker.save([ConfigureNodes((NODE,))], [node()])
    Worker(worker.repository, "server-2", now=200.0).begin()
    worker.repository.finish_run(intent.id, NODE, RunState.SUCCEEDED, "", 201.0)
    assert worker.repository.runs(ID, "server-2")[NODE].state is RunState.SUCCEEDED


# --- events -------------------------------------------------------------------------------------


def test_events_come_back_in_order_and_as_they_were(repository: Repository) -> None:
    full = event("x", node=NODE, phase="configure", failed=True, actor="ada", correlation="c")
    repository.append([full, event("y", deployment=None, code="no-work", kind=EventKind.AUDIT)])
    repository.append([])
    repository.append([event("z")])
    stored = repository.events()
    assert stored[0] == replace(full, sequence=1)
    assert [(e.sequence, e.message) for e in stored] == [(1, "x"), (2, "y"), (3, "z")]
    assert repository.last_sequence() == 3


def test_events_can_be_narrowed_down(repository: Repository) -> None:
    repository.append(
        [
            event("a", node=NODE, kind=EventKind.TASK, failed=True),
            event("b", node=NODE, kind=EventKind.TASK),
            event("c", deployment=DeploymentId("other")),
            event("d", kind=EventKind.CONSOLE),
        ]
    )

    def messages(**wanted: object) -> str:
        return "".join(e.message for e in repository.events(**wanted))  # type: ignore[arg-type]

    assert messages(deployment=ID) == "abd"
    assert messages(node=NODE) == "ab"
    assert messages(failed=True) == "a"
    assert messages(failed=False) == "bcd"
    assert messages(kinds=[EventKind.TASK, EventKind.CONSOLE]) == "abd"
    assert messages(since=1, limit=2) == "bc"
    assert messages(since=4) == ""


def test_output_that_is_no_text_is_logged_as_far_as_it_can_be_read(
    repository: Repository,
) -> None:
    broken = b"caf\xe9 \x00".decode(errors="surrogateescape")
    repository.append([event(broken)])
    assert repository.events()[0].message == "caf? \N{REPLACEMENT CHARACTER}"


# --- growth -------------------------------------------------------------------------------------


def test_pruning_forgets_what_nothing_living_needs(worker: Worker) -> None:
    repository = worker.repository
    repository.create(
        deployment("old", status=DeploymentStatus.DELETE_COMPLETE), idempotency_key="k"
    )
    repository.create(deployment("new", status=DeploymentStatus.DELETE_COMPLETE, updated_at=1000.0))
    both = [CreateInstance(NODE), CreateInstance(NodeName("b"))]
    runs = [ConfigureNodes((NODE,)), ConfigureNodes((NodeName("b"),)), DrainNode(NODE)]
    for intent in worker.save([*both, *runs], [node(), node("b")]):
        repository.finish(intent.id, DONE, 101.0)
    worker.save([], [node("b", state=NodeState.GONE, since=101.0)])
    kinds = [EventKind.AUDIT, EventKind.DEPLOYMENT, EventKind.ACTION]
    repository.append([event(kind.value, kind=kind) for kind in kinds])
    repository.append([event("living", node=NODE), event("gone", node=NodeName("b"))])
    repository.append([event("of old", deployment=DeploymentId("old"), kind=EventKind.DEPLOYMENT)])

    repository.prune(now=1000.0, keep_seconds=10_000.0)
    assert len(repository.intents(ID)) == 5
    repository.prune(now=1000.0, keep_seconds=500.0)

    everything = repository.deployments(None, include_deleted=True)
    assert sorted(d.id for d in everything.items) == ["new", ID]
    assert [n.name for n in repository.nodes(ID, include_gone=True)] == [NODE]
    kept = [intent.action for intent in repository.intents(ID)]
    assert kept == [CreateInstance(NODE), ConfigureNodes((NODE,))]
    assert repository.creates(ID, "server-1") == {NODE: DONE}
    assert repository.runs(ID, "server-1")[NODE].state is RunState.LOST
    assert [e.message for e in repository.events()] == ["audit", "deployment", "living"]
    repository.append([event("next")])
    assert repository.events()[-1].sequence == 7
