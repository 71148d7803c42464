"""What must be true of every plan, whatever was seen."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.control.credentials import IN_POOL
from orchestrator.control.growth import ceiling
from orchestrator.control.lifecycle import LIVE
from orchestrator.control.plan import make_plan
from orchestrator.control.wish import configuration, used_addresses
from orchestrator.model import (
    CreateInstance,
    DeleteInstance,
    Demand,
    Deployment,
    DeploymentId,
    DeploymentSpec,
    DeploymentStatus,
    GroupName,
    Instance,
    InstanceId,
    InstanceState,
    JobShape,
    Machine,
    Node,
    NodeGroup,
    NodeName,
    NodeState,
    Observed,
    Offer,
    Outcome,
    OutcomeKind,
    Patience,
    PoolName,
    Principal,
    Quota,
    RenewCredential,
    Requirements,
    Run,
    RunState,
    Seen,
    SiteName,
    VacuumPolicy,
)
from orchestrator.reasons import reason

NOW = 1_000_000.0
CREDENTIAL_FAILED = "credential-renewal-failed"
SITE, POOL = SiteName("site"), PoolName("pool")
WORKER, CACHE = GroupName("worker"), GroupName("cache")
ID = DeploymentId("0123456789")
PATIENCE = Patience()
NAMES = [NodeName(f"worker-{n}") for n in range(4)] + [NodeName(f"cache-{n}") for n in range(2)]

worker_group = NodeGroup(
    WORKER,
    Requirements(2, 2048),
    vacuum=VacuumPolicy(0, 3, idle_seconds=60, lifetime_seconds=5000),
    pool=POOL,
    uses=(CACHE,),
)
cache_group = NodeGroup(CACHE, Requirements(1, 1024), vacuum=VacuumPolicy(0, 1))
blind = reason("site-unreachable", site=SITE, why="it is off")


def deployment(status: DeploymentStatus, forced: bool = False) -> Deployment:
    spec = DeploymentSpec("", (worker_group, cache_group))
    owner = Principal("https://issuer.example", "alice")
    return Deployment(ID, owner, "", {}, spec, status, NOW - 100, NOW - 100, forced=forced)


def observed(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(
        values.map(lambda value: Observed.fresh(value, NOW)),
        values.map(lambda value: Observed.stale(value, NOW - 9, blind)),
        st.just(Observed.unknown(NOW, blind)),
    )


@st.composite
def nodes(draw: st.DrawFn) -> list[Node]:
    return [
        Node(
            name=name,
            deployment=ID,
            group=GroupName(name.partition("-")[0]),
            site=SITE,
            cores=2,
            memory_mb=2048,
            state=draw(st.sampled_from([s for s in NodeState if s is not NodeState.PLANNED])),
            since=NOW - draw(st.sampled_from([0, 3, 100, 4000])),
            created_at=NOW - draw(st.sampled_from([4000, 6000])),
            instance=draw(st.sampled_from([None, InstanceId(f"i-{name}")])),
            address=draw(st.sampled_from([None, "192.0.2.1"])),
            attempts=draw(st.integers(0, 3)),
            pool=POOL if name.startswith("worker") else None,
            retry_at=NOW + draw(st.sampled_from([-1, 5])),
            idle_since=draw(st.sampled_from([None, NOW - 5, NOW - 500])),
            missing_since=draw(st.sampled_from([None, NOW - 5, NOW - 500])),
            made_for=draw(st.sampled_from([None, Requirements(2, 2048), Requirements(1, 512)])),
            outdated=draw(st.booleans()),
            configured_as=draw(st.sampled_from(["", "an earlier wish"])),
            refreshing=draw(st.booleans()),
            failed_refreshes=draw(st.sampled_from([0, 3])),
            uses=draw(st.sampled_from([(), ("192.0.2.1",), ("192.0.2.9",)])),
            flavour=draw(st.sampled_from(["any", "another"])),
            credential_at=(
                NOW - draw(st.sampled_from([0, 100, 2000, 4000]))
                if name.startswith("worker")
                else 0.0
            ),
            renewal_at=draw(st.sampled_from([0.0, NOW - 5, NOW - 400])),
        )
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True))
    ]


def instance(name: NodeName, state: InstanceState) -> Instance:
    return Instance(InstanceId(f"i-{name}"), name, state, ID, name, "192.0.2.1")


def machine(name: NodeName, jobs: int) -> Machine:
    return Machine(name, name, ID, 2, 2 - jobs, 2048, 2048 - 1024 * jobs, jobs)


def outcomes() -> st.SearchStrategy:
    each = st.sampled_from(list(OutcomeKind)).map(lambda kind: Outcome(kind, "why"))
    return st.dictionaries(st.sampled_from(NAMES), each)


@st.composite
def seen(draw: st.DrawFn) -> Seen:
    listed = st.lists(st.sampled_from([*NAMES, NodeName("stranger")]), unique=True)
    states = st.sampled_from(list(InstanceState))
    listing = listed.flatmap(
        lambda names: st.tuples(*[states.map(lambda s, n=n: instance(n, s)) for n in names])
    )
    pool = st.lists(st.sampled_from(NAMES[:4]), unique=True).flatmap(
        lambda names: st.tuples(
            *[st.integers(0, 2).map(lambda jobs, n=n: machine(n, jobs)) for n in names]
        )
    )
    shapes = st.lists(
        st.builds(JobShape, st.integers(1, 4), st.integers(0, 4096), st.integers(1, 10**6)),
        max_size=3,
    )
    demand = shapes.map(lambda found: Demand(tuple(found), 5.0))
    quota = st.builds(Quota, st.sampled_from([None, 0, 3]), st.integers(0, 3))
    offer = Offer(SITE, "any", 2, 2048, 20, "image")
    return Seen(
        instances={SITE: draw(observed(listing))},
        offers={WORKER: (offer,), CACHE: (offer,)},
        quotas={SITE: draw(observed(quota))},
        machines={POOL: draw(observed(pool))},
        demand={WORKER: draw(observed(demand))},
        reachable=frozenset(draw(st.sets(st.sampled_from(NAMES)))),
        runs={
            name: Run(name, draw(st.integers(0, 3)), draw(st.sampled_from(list(RunState))))
            for name in draw(st.sets(st.sampled_from(NAMES)))
        },
        creates=draw(outcomes()),
        renewals=draw(outcomes()),
        credential_seconds={POOL: 3600.0},
        asked_to_leave=dict.fromkeys(draw(st.sets(st.sampled_from(NAMES))), "alice@issuer"),
    )


statuses = st.sampled_from(
    [
        DeploymentStatus.CREATE_IN_PROGRESS,
        DeploymentStatus.CREATE_COMPLETE,
        DeploymentStatus.UPDATE_IN_PROGRESS,
        DeploymentStatus.DELETE_IN_PROGRESS,
    ]
)
wishes = st.builds(deployment, statuses, st.booleans())
many = settings(max_examples=100, deadline=None)


def after(before: list[Node], plan) -> dict[NodeName, Node]:  # type: ignore[no-untyped-def]
    merged = {node.name: node for node in before}
    merged.update({node.name: node for node in plan.nodes})
    return merged


@many
@given(wishes, nodes(), seen())
def test_the_same_input_gives_the_same_plan(wish, before, sight) -> None:
    assert make_plan(wish, before, sight, NOW, PATIENCE) == make_plan(
        wish, before, sight, NOW, PATIENCE
    )


@many
@given(wishes, nodes(), seen())
def test_never_above_a_maximum_or_a_quota(wish, before, sight) -> None:
    plan = make_plan(wish, before, sight, NOW, PATIENCE)
    creates = [a for a in plan.actions if isinstance(a, CreateInstance)]
    new = [node for node in plan.nodes if node.name not in {n.name for n in before}]
    for group in (worker_group, cache_group):
        live = sum(n.group == group.name and n.state in LIVE for n in after(before, plan).values())
        assert live <= max(
            group.maximum, sum(n.group == group.name and n.state in LIVE for n in before)
        )
        there = [n for n in after(before, plan).values() if n.group == group.name]
        machines = sum(n.state in LIVE or n.state is NodeState.DRAINING for n in there)
        if any(n.group == group.name for n in new):
            assert machines <= max(ceiling(group), group.minimum + machines - live)
    quota = sight.quotas[SITE]
    if new:
        assert quota.is_fresh
        assert sight.instances[SITE].is_fresh
        limit = quota.value.instances
        assert limit is None or quota.value.instances_used + len(new) <= limit
    assert {a.node for a in creates} >= {node.name for node in new}


@many
@given(nodes(), seen())
def test_nothing_new_is_made_for_a_deployment_that_is_deleted(before, sight) -> None:
    plan = make_plan(deployment(DeploymentStatus.DELETE_IN_PROGRESS), before, sight, NOW, PATIENCE)
    known = {node.name for node in before}
    assert all(node.name in known for node in plan.nodes)


@many
@given(wishes, nodes(), seen())
def test_nothing_is_deleted_because_of_what_is_not_known(wish, before, sight) -> None:
    """With a site that cannot be seen only people and what was decided before delete there."""
    sight = replace(sight, instances={SITE: Observed.unknown(NOW, blind)})
    sight = replace(sight, machines={POOL: Observed.unknown(NOW, blind)})
    sight = replace(sight, demand={WORKER: Observed.unknown(NOW, blind)})
    plan = make_plan(wish, before, sight, NOW, PATIENCE)
    was = {node.name: node.state for node in before}
    asked = wish.deleting
    for action in plan.actions:
        if isinstance(action, DeleteInstance):
            assert action.node is not None
            allowed = (NodeState.DELETING, NodeState.DRAINING)
            assert asked or was[action.node] in allowed or _is_cache(action.node)
    assert not any(
        node.state is NodeState.GONE and was[node.name] is not NodeState.GONE
        for node in plan.nodes
        if node.name in was
    )


def _is_cache(name: NodeName) -> bool:
    """A cache goes when nobody uses it, which the store knows without looking."""
    return name.startswith("cache")


@many
@given(wishes, nodes(), seen())
def test_gone_needs_a_fresh_listing_without_the_instance(wish, before, sight) -> None:
    plan = make_plan(wish, before, sight, NOW, PATIENCE)
    was = {node.name: node.state for node in before}
    listing = sight.instances[SITE]
    for node in plan.nodes:
        if node.state is NodeState.GONE and was.get(node.name) is not NodeState.GONE:
            assert listing.is_fresh
            assert node.name not in {found.node for found in listing.value}


@many
@given(wishes.filter(lambda wish: not wish.forced), nodes(), seen())
def test_a_busy_node_is_drained_before_it_is_deleted(wish, before, sight) -> None:
    running = InstanceState.RUNNING
    names = [node.name for node in before]
    sight = replace(
        sight, instances={SITE: Observed.fresh(tuple(instance(n, running) for n in names), NOW)}
    )
    busy = tuple(machine(name, 1) for name in NAMES[:4])
    sight = replace(sight, machines={POOL: Observed.fresh(busy, NOW)})
    plan = make_plan(wish, before, sight, NOW, PATIENCE)
    was = {node.name: node for node in before}
    for action in plan.actions:
        if isinstance(action, DeleteInstance) and action.node in was:
            node = was[action.node]
            overdue = NOW - node.since > PATIENCE.drain_seconds
            assert node.state is not NodeState.JOINED or node.pool is None
            assert node.state is not NodeState.DRAINING or overdue or node.pool is None


@many
@given(wishes, nodes(), seen())
def test_a_floor_is_never_given_up_for_an_update(wish, before, sight) -> None:
    """Of a group that promises a number, nobody in service goes before another serves, unless the
    host is not what it was."""
    promised = replace(worker_group, vacuum=VacuumPolicy(2, 3, 60, 50_000), uses=())
    wish = replace(wish, spec=DeploymentSpec("", (promised,)), status=statuses_of_updates[0])
    before = [replace(n, uses=(), idle_since=None) for n in before if n.group == WORKER]
    running = tuple(instance(node.name, InstanceState.RUNNING) for node in before)
    machines = tuple(machine(node.name, 1) for node in before)
    sight = replace(
        sight,
        instances={SITE: Observed.fresh(running, NOW)},
        machines={POOL: Observed.fresh(machines, NOW)},
        runs={n: r for n, r in sight.runs.items() if r.state is not RunState.DISTRUSTED},
        asked_to_leave={},  # that is somebody's own wish
    )
    plan = make_plan(wish, before, sight, NOW, PATIENCE)
    served = sum(node.state is NodeState.JOINED for node in before)
    serving = sum(node.state is NodeState.JOINED for node in after(before, plan).values())
    assert serving >= min(served, promised.minimum)


statuses_of_updates = (DeploymentStatus.UPDATE_IN_PROGRESS,)


@many
@given(wishes, nodes(), seen())
def test_an_instance_that_nobody_knows_is_reaped_at_once(wish, before, sight) -> None:
    stranger = instance(NodeName("stranger"), InstanceState.RUNNING)
    sight = replace(sight, instances={SITE: Observed.fresh((stranger,), NOW)})
    plan = make_plan(wish, before, sight, NOW, PATIENCE)
    assert stranger.id in {a.instance for a in plan.actions if isinstance(a, DeleteInstance)}


@many
@given(wishes, nodes(), seen())
def test_a_credential_is_renewed_before_its_end_or_somebody_is_told(wish, before, sight) -> None:
    plan = make_plan(wish, before, sight, NOW, PATIENCE)
    renewed = [a.node for a in plan.actions if isinstance(a, RenewCredential)]
    assert len(renewed) == len(set(renewed))
    told = " ".join(why.sentence for why in plan.reasons if why.code == CREDENTIAL_FAILED)
    for node in after(before, plan).values():
        if node.name in renewed:
            assert node.renewal_at == NOW
            assert node.state in IN_POOL
            assert node.pool
        reached = node.state in IN_POOL and node.pool and node.instance and node.address
        if reached and node.credential_at + 3600 <= NOW and node.credential_at:
            assert node.name in renewed or f"Node {node.name} " in told or node.renewal_at


@many
@given(wishes, nodes(), seen())
def test_a_node_never_goes_back(wish, before, sight) -> None:
    order = list(NodeState)
    plan = make_plan(wish, before, sight, NOW, PATIENCE)
    was = {node.name: node for node in before}
    for node in plan.nodes:
        if node.name in was:
            assert order.index(node.state) >= order.index(was[node.name].state)


def as_wished(node: Node, spec: DeploymentSpec, everybody: list[Node]) -> Node:
    group = spec.group(node.group)
    return replace(
        node,
        made_for=group.requirements,
        configured_as=configuration(spec, group, everybody) or "",
        uses=used_addresses(group, everybody),
    )


def test_the_plan_of_a_converged_world_is_empty() -> None:
    joined = Node(
        NAMES[0],
        ID,
        WORKER,
        SITE,
        "any",
        2,
        2048,
        NodeState.JOINED,
        NOW - 50,
        NOW - 60,
        instance=InstanceId("i-worker-0"),
        address="192.0.2.1",
        pool=POOL,
        joined_at=NOW - 50,
    )
    served = replace(
        joined, name=NAMES[4], group=CACHE, pool=None, instance=InstanceId("i-cache-0")
    )
    running = InstanceState.RUNNING
    listing = (instance(NAMES[0], running), instance(NAMES[4], running))
    sight = Seen(
        instances={SITE: Observed.fresh(listing, NOW)},
        machines={POOL: Observed.fresh((machine(NAMES[0], 1),), NOW)},
        demand={WORKER: Observed.fresh(Demand(), NOW)},
    )
    wish = deployment(DeploymentStatus.CREATE_COMPLETE)
    known = [as_wished(node, wish.spec, [joined, served]) for node in (joined, served)]
    plan = make_plan(wish, known, sight, NOW, PATIENCE)
    assert plan.empty
    assert plan.status is DeploymentStatus.CREATE_COMPLETE
