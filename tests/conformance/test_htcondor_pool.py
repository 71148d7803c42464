"""What only a real HTCondor pool can show: who is let in, what is refused, what is told apart."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest
from pool_worlds import HTCondorWorld, demand, is_unknown, joined, machine

from orchestrator.batch import idtokens
from orchestrator.batch.htcondor import JOIN_SCOPES, HTCondorPool
from orchestrator.errors import PortError, Retryable, Unauthorised
from orchestrator.model import DeploymentId, JobId, NodeName, Requirements
from orchestrator.settings import Pool
from testbed.engine import TestbedNetwork
from testbed.jobs import JobRequest, Submitter
from testbed.pool import CondorPool
from testbed.waiting import eventually

NODE = NodeName("node-a")
NEED = Requirements(cores=2, memory_mb=1024, disk_gb=10)

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


@pytest.fixture
def world(condor_pool: CondorPool, tmp_path: Path) -> Iterator[HTCondorWorld]:
    world = HTCondorWorld(tmp_path, lambda: condor_pool)
    yield world
    world.close()


def pool_with(condor_pool: CondorPool, directory: Path, **changes: object) -> HTCondorPool:
    settings = condor_pool.settings(f"pool-{uuid.uuid4().hex[:6]}").model_copy(update=changes)
    return HTCondorPool(settings, directory)


def a_token(condor_pool: CondorPool, directory: Path, identity: str, key: bytes = b"") -> Path:
    """A file with a token for ``identity``, signed with the pool's key or with ``key``."""
    key = key or idtokens.token_key((condor_pool.signing_keys / "POOL").read_bytes(), "POOL")
    token = idtokens.mint(
        key,
        "POOL",
        issuer=condor_pool.trust_domain,
        identity=identity,
        scopes=("READ", "WRITE"),
        issued_at=time.time(),
        lifetime_seconds=600,
    )
    path = directory / f"token-{uuid.uuid4().hex}"
    path.write_text(token)
    return path


# --- who is let in ---


def test_our_tokens_are_what_condor_token_create_makes(condor_pool: CondorPool) -> None:
    name = f"d-{uuid.uuid4().hex[:8]}"
    key = idtokens.SigningKeys(condor_pool.signing_keys).get_or_create(name)
    code, output = condor_pool.execute(
        *("condor_token_create", "-identity", "n@example.org", "-key", name),
        *("-lifetime", "60", "-authz", "READ", "-authz", "ADVERTISE_STARTD"),
    )
    assert code == 0
    claims = jwt.decode(output.strip(), key, algorithms=["HS256"])
    ours = idtokens.mint(
        key,
        name,
        issuer=condor_pool.trust_domain,
        identity="n@example.org",
        scopes=("READ", "ADVERTISE_STARTD"),
        issued_at=claims["iat"],
        lifetime_seconds=60,
    )
    assert {**jwt.decode(ours, key, algorithms=["HS256"]), "jti": claims["jti"]} == claims
    assert jwt.get_unverified_header(ours)["kid"] == name


def test_a_pools_key_is_used_whole_though_it_holds_a_nul(condor_pool: CondorPool) -> None:
    """The keys that HTCondor makes are any bytes: one in five of 64 bytes holds a NUL."""
    path = condor_pool.signing_keys / "POOL"
    before = path.read_bytes()
    try:
        path.write_bytes(idtokens.scramble(b"k" * 20 + b"\0" + b"k" * 40 + b"\0\0\0"))
        code, output = condor_pool.execute(
            "condor_token_create", "-identity", "n@example.org", "-key", "POOL"
        )
        key = idtokens.token_key(path.read_bytes(), "POOL")
    finally:
        path.write_bytes(before)
    assert code == 0
    assert jwt.decode(output.strip(), key, algorithms=["HS256"])["sub"] == "n@example.org"


def test_a_node_may_not_submit_jobs(world: HTCondorWorld) -> None:
    credential = world.pool.join_credential(world.deployment, NODE)
    token = world.directory / "node-token"
    token.write_text(credential.token)
    as_node = CondorPool(world.condor.directory, world.condor.network, user=token.name)
    as_node.tokens = world.directory
    thief = Submitter(as_node, world.directory / "thief")
    with pytest.raises(PortError):
        thief.submit(JobRequest("true"))
    thief.close()


def test_a_key_made_a_moment_ago_is_accepted(world: HTCondorWorld) -> None:
    world.start_machine(NODE)
    assert joined(world, NODE).deployment == world.deployment


def test_a_startd_cannot_speak_for_another_node(world: HTCondorWorld) -> None:
    credential = world.pool.join_credential(world.deployment, NodeName("somebody-else"))
    world.start_machine(NODE, credential=credential)
    user = world.condor.execute
    name = f'VacuoNode == "{NODE}" && VacuoDeployment == "{world.deployment}"'
    eventually(lambda: user("condor_status", "-const", name, "-af", "Name")[1], "its ad")
    assert machine(world, NODE) is None


def test_the_credential_says_no_more_than_is_needed(world: HTCondorWorld) -> None:
    credential = world.pool.join_credential(world.deployment, NODE)
    claims = jwt.decode(credential.token, options={"verify_signature": False})
    assert claims["scope"].split() == [f"condor:/{scope}" for scope in JOIN_SCOPES]
    assert claims["exp"] - claims["iat"] <= 3600
    assert jwt.get_unverified_header(credential.token)["kid"] == world.deployment


def test_the_drain_key_opens_one_node_only(world: HTCondorWorld) -> None:
    first = world.pool.join_credential(world.deployment, NODE)
    again = world.pool.join_credential(world.deployment, NODE)
    other = world.pool.join_credential(world.deployment, NodeName("node-b"))
    assert first.drain_key == again.drain_key
    assert first.drain_key != other.drain_key


def test_no_other_server_can_drain_our_node(world: HTCondorWorld, tmp_path: Path) -> None:
    world.start_machine(NODE)
    joined(world, NODE)
    stranger = HTCondorPool(world.condor.settings(), tmp_path / "another-server")
    try:
        with pytest.raises(PortError):
            stranger.drain(world.deployment, NODE)
    finally:
        stranger.close()
    assert not joined(world, NODE).draining


# --- what is told apart ---


@pytest.mark.parametrize("case", ["forged", "stranger", "missing"])
def test_a_bad_credential_is_unauthorised(
    condor_pool: CondorPool, tmp_path: Path, case: str
) -> None:
    identity = f"vacuo@{condor_pool.trust_domain}"
    token = {
        "forged": lambda: a_token(condor_pool, tmp_path, identity, b"x" * 32),
        "stranger": lambda: a_token(condor_pool, tmp_path, "mallory@elsewhere"),
        "missing": lambda: tmp_path / "no-such-file",
    }[case]()
    pool = pool_with(condor_pool, tmp_path, token_file=token)
    try:
        with pytest.raises(Unauthorised) as raised:
            pool.machines()
        assert not token.exists() or token.read_text() not in str(raised.value)
    finally:
        pool.close()


def test_a_renewed_token_is_used_at_once(condor_pool: CondorPool, tmp_path: Path) -> None:
    identity = f"vacuo@{condor_pool.trust_domain}"
    token = a_token(condor_pool, tmp_path, identity, b"x" * 32)
    pool = pool_with(condor_pool, tmp_path, token_file=token)
    try:
        with pytest.raises(Unauthorised):
            pool.machines()
        a_token(condor_pool, tmp_path, identity).replace(token)
        pool.machines()
    finally:
        pool.close()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "192.0.2.1:9618", "no-such-host.invalid:9618"])
def test_a_collector_that_is_not_there_is_retryable(
    condor_pool: CondorPool, tmp_path: Path, address: str
) -> None:
    pool = pool_with(condor_pool, tmp_path, collector=address)
    try:
        with pytest.raises(Retryable):
            pool.machines()
    finally:
        pool.close()


def test_a_schedd_that_is_down_makes_the_demand_unknown(world: HTCondorWorld) -> None:
    world.submit()
    eventually(lambda: demand(world).jobs == 1, "demand")
    assert world.condor.execute("condor_off", "-fast", "-schedd")[0] == 0
    try:
        eventually(lambda: is_unknown(world), "the demand being unknown")
        time.sleep(2)
        assert is_unknown(world)
    finally:
        world.condor.execute("condor_on", "-schedd")
    eventually(lambda: demand(world).jobs == 1, "demand again")


def test_a_schedd_that_is_configured_and_unknown_is_no_empty_queue(
    condor_pool: CondorPool, tmp_path: Path
) -> None:
    pool = pool_with(condor_pool, tmp_path, schedds=("elsewhere",))
    try:
        with pytest.raises(Retryable, match="elsewhere"):
            pool.demand(NEED, {})
    finally:
        pool.close()


def test_what_the_schedd_tells_apart_by_itself_is_counted_as_well(world: HTCondorWorld) -> None:
    """Once there is a machine that asks for an attribute, autoclusters go by it."""
    asks = 'START = TARGET.DESIRED_Sites =!= "x" && TARGET.Owner =!= "x" && TARGET.User =!= "x"'
    world.start_machine(NODE, cores=1, configuration=asks)
    joined(world, NODE)
    world.submit(1, cores=2, says={"DESIRED_Sites": "here"})
    world.submit(2, cores=2, says={"DESIRED_Sites": "elsewhere"})
    mine = (
        "condor_q",
        "-allusers",
        "-const",
        f'regexp("{world.deployment}", unparse(Requirements))',
    )
    look = (*mine, "-af", "AutoClusterAttrs")
    eventually(lambda: world.condor.execute(*look)[1].count("DESIRED_Sites") == 3, "autoclusters")
    for site, jobs in (("here", 1), ("elsewhere", 2), ("nowhere", 0)):
        assert demand(world, sites=[site], VacuoOwners="alice").jobs == jobs
    assert demand(world, sites=["here"], VacuoOwners="bob").jobs == 0


# --- many at once ---


def test_two_pools_with_their_own_tokens_live_in_one_process(
    world: HTCondorWorld, tmp_path: Path
) -> None:
    network = TestbedNetwork(f"vacuo-pool-{uuid.uuid4().hex[:6]}")
    other = CondorPool(tmp_path / "other", network, trust_domain="other.test", user="bob")
    pool = None
    try:
        pool = HTCondorPool(other.start().settings("other"), tmp_path / "data")
        world.submit(2)
        bob = Submitter(other, tmp_path / "bob")
        bob.wait_until_idle(bob.submit(JobRequest("sleep 600", 3)))
        bob.close()
        eventually(lambda: pool.demand(NEED, {}).jobs == 3, "bob's jobs")

        def look(number: int) -> tuple[int, int]:
            return demand(world).jobs, pool.demand(NEED, {}).jobs

        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(look, range(80))) == {(2, 3)}
    finally:
        if pool:
            pool.close()
        other.stop()
        network.remove()


# --- why a job waits ---


def test_a_job_is_told_why_it_waits(world: HTCondorWorld) -> None:
    pool, job = world.pool, world.job_id

    blue = world.submit(requires={"Colour": "blue"})
    world.start_machine(NODE, cores=1)
    joined(world, NODE)
    (why,) = pool.why_idle(job(blue))
    assert why.code == "job-fits-nowhere"
    assert 'Colour == "blue"' in why.sentence

    running = world.submit()
    eventually(lambda: world.states(running) == ["running"], "the job running")
    assert [reason.code for reason in pool.why_idle(job(running))] == ["job-not-waiting"]

    waiting = world.submit()
    eventually(
        lambda: [reason.code for reason in pool.why_idle(job(waiting))] == ["machines-full"],
        "the pool being full",
    )
    world.hold(waiting)
    assert [reason.code for reason in pool.why_idle(job(waiting))] == ["job-held"]
    assert [reason.code for reason in pool.why_idle(JobId("987654.0"))] == ["job-unknown"]
    assert [reason.code for reason in pool.why_idle(JobId("nonsense"))] == ["job-unknown"]


# --- after the collector was away ---


def test_revoked_machines_do_not_come_back(world: HTCondorWorld) -> None:
    stays, goes = DeploymentId(f"{world.deployment}-s"), DeploymentId(f"{world.deployment}-g")
    for deployment, node in ((stays, NodeName("stays")), (goes, NodeName("goes"))):
        credential = world.pool.join_credential(deployment, node)
        world.start_machine(node, credential=credential, deployment=deployment)
        joined(world, node)
    world.pool.revoke(goes)
    world.switch_off()
    world.switch_on()
    with pytest.raises(Retryable):  # it does not know its machines yet: unknown, not none
        world.pool.machines()
    joined(world, NodeName("stays"))
    assert machine(world, NodeName("goes")) is None


def restart_collector(world: HTCondorWorld) -> None:
    assert world.condor.execute("condor_off", "-fast", "-collector")[0] == 0
    # The master starts it again by itself after a while; it is asked to at once.
    eventually(lambda: world.condor.execute("condor_on", "-collector")[0] == 0, "its restart")


def test_a_host_whose_token_was_renewed_survives_a_restart_of_the_collector(
    world: HTCondorWorld, tmp_path: Path
) -> None:
    """Two machines with tokens that end soon; one gets the next as Vacuo would give it."""
    brief = pool_with(world.condor, tmp_path / "brief", join_token_seconds=30)
    kept, left = NodeName("kept"), NodeName("left")
    try:
        credentials = {node: brief.join_credential(world.deployment, node) for node in (kept, left)}
        for node, credential in credentials.items():
            world.start_machine(node, credential=credential)
        for node in credentials:
            joined(world, node)
        job = world.submit(cores=2)
        other = world.submit(cores=2)
        eventually(lambda: world.states(job) + world.states(other) == ["running"] * 2, "the jobs")
        ends = max(credential.expires_at for credential in credentials.values())
        eventually(lambda: time.time() > ends + 1, "the end of the first tokens")
        assert {machine.node for machine in world.pool.machines()} >= {kept, left}
        world.startds[kept].renew(world.pool.join_credential(world.deployment, kept).token)
        restart_collector(world)
        # The slot that is left over may be told of before the one with the job.
        eventually(lambda: joined(world, kept).jobs == 1, "its job being seen again")
        assert machine(world, left) is None
        both = f"ClusterId == {job} || ClusterId == {other}"
        told = world.condor.execute("condor_q", "-allusers", "-const", both, "-af", "JobStatus")
        assert told == (0, "2\n2\n")  # neither was begun anew
    finally:
        brief.close()


@pytest.mark.parametrize("trick", ["after revocation", "after its end"])
def test_a_stolen_token_lets_nobody_in(world: HTCondorWorld, tmp_path: Path, trick: str) -> None:
    """What a thief of a token has of it, on a machine of their own."""
    brief = pool_with(world.condor, tmp_path / "brief", join_token_seconds=10)
    thief = NodeName("thief")
    try:
        credential = brief.join_credential(world.deployment, thief)
        if trick == "after revocation":
            world.pool.revoke(world.deployment)
        if trick == "after its end":
            eventually(lambda: time.time() > credential.expires_at + 1, "its end")
        world.start_machine(thief, credential=credential)
        refused = world.startds[thief]
        eventually(lambda: "AUTHENTICATE" in refused.log("StartLog"), "its refusal")
        assert machine(world, thief) is None
    finally:
        brief.close()


def test_the_token_is_in_no_process_argument(condor_pool: CondorPool, tmp_path: Path) -> None:
    pool = HTCondorPool(Pool.model_validate(condor_pool.settings().model_dump()), tmp_path)
    try:
        pool.machines()
        token = condor_pool.vacuo_token.read_text().strip()
        arguments = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
        assert not any(token.encode() in line for line in arguments)
    finally:
        pool.close()
