"""Pools that a deployment makes for itself: who is given which of their secrets."""

from __future__ import annotations

import base64
import stat
from dataclasses import replace
from pathlib import Path

import jwt
import pytest

from orchestrator import data
from orchestrator.batch import idtokens
from orchestrator.batch.own_pools import WORKER_SCOPES, OwnPools
from orchestrator.control.granting import granted
from orchestrator.control.values import Scope, Unresolved, is_secret, resolve
from orchestrator.control.wish import configuration
from orchestrator.errors import Terminal
from orchestrator.model import (
    Deployment,
    DeploymentId,
    DeploymentSpec,
    DeploymentStatus,
    GroupName,
    Node,
    NodeName,
    NodeState,
    Principal,
    SiteName,
)
from tests.unit.tosca_support import compiled, problems

TEMPLATE = data.directory("tosca-templates") / "batch-system.yaml"
ONE, OTHER = DeploymentId("one"), DeploymentId("other")
NODE = NodeName("worker-1")


def key_file(pools: OwnPools, deployment: DeploymentId = ONE, pool: str = "pool") -> bytes:
    return base64.b64decode(pools.signing_key(deployment, pool))


def claims(token: str, key: bytes) -> dict[str, object]:
    found = jwt.decode(token, idtokens.token_key(key, "POOL"), algorithms=["HS256"])
    assert jwt.get_unverified_header(token)["kid"] == "POOL"
    assert isinstance(found, dict)
    return found


def test_the_key_is_the_same_for_a_host_that_is_made_anew(tmp_path: Path) -> None:
    first = key_file(OwnPools(tmp_path))
    assert key_file(OwnPools(tmp_path)) == first
    assert b"\0" not in idtokens.scramble(first)


def test_every_pool_deployment_and_server_has_a_key_of_its_own(tmp_path: Path) -> None:
    here, there = OwnPools(tmp_path / "here"), OwnPools(tmp_path / "there")
    keys = {
        key_file(here),
        key_file(here, OTHER),
        key_file(here, ONE, "second"),
        key_file(there),
    }
    assert len(keys) == 4


def test_only_the_servers_account_may_read_the_secret_of_own_pools(tmp_path: Path) -> None:
    OwnPools(tmp_path).signing_key(ONE, "pool")
    directory = tmp_path / "own-pools"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()] == [0o600]


def test_a_workers_token_lets_one_node_join_one_pool_and_no_more(tmp_path: Path) -> None:
    pools = OwnPools(tmp_path)
    token = pools.worker_token(ONE, "pool", "batch.test", NODE, 3600)
    found = claims(token, key_file(pools))
    assert (found["iss"], found["sub"]) == ("batch.test", "worker-1@nodes.batch.test")
    assert found["scope"] == " ".join(f"condor:/{scope}" for scope in WORKER_SCOPES)
    assert found["exp"] == found["iat"] + 3600
    with pytest.raises(jwt.InvalidSignatureError):
        claims(token, key_file(pools, OTHER))


# --- what the hosts of the shipped template are given ---------------------------------------------


def node(group: str) -> Node:
    return Node(
        name=NodeName(f"{group}-1"),
        deployment=ONE,
        group=GroupName(group),
        site=SiteName("here"),
        flavour="small",
        cores=1,
        memory_mb=1024,
        state=NodeState.JOINED,
        since=0.0,
        created_at=0.0,
        address=f"{group}.test",
    )


NODES = [node("manager"), node("access"), node("worker")]


def deployment(spec: DeploymentSpec) -> Deployment:
    owner, status = Principal("here", "me"), DeploymentStatus.CREATE_IN_PROGRESS
    return Deployment(ONE, owner, "", {}, spec, status, created_at=0.0, updated_at=0.0)


@pytest.fixture(scope="module")
def spec() -> DeploymentSpec:
    return compiled(TEMPLATE.read_text())


def given_to(
    pools: OwnPools | None, spec: DeploymentSpec, group: str
) -> dict[tuple[str, str], str]:
    return dict(granted(pools, deployment(spec), NODES, node(group)))


def test_a_worker_is_given_a_token_and_never_the_key(tmp_path: Path, spec: DeploymentSpec) -> None:
    pools = OwnPools(tmp_path)
    ((wanted, token),) = given_to(pools, spec, "worker").items()
    assert wanted == ("pool", "worker_credential")
    found = claims(token, key_file(pools))
    assert (found["iss"], found["sub"]) == ("batch.internal", "worker-1@nodes.batch.internal")


def test_manager_and_access_points_are_given_the_same_key(
    tmp_path: Path, spec: DeploymentSpec
) -> None:
    pools = OwnPools(tmp_path)
    wanted = {("pool", "signing_key"): pools.signing_key(ONE, "pool")}
    assert given_to(pools, spec, "manager") == wanted
    assert given_to(pools, spec, "access") == wanted


def test_what_services_are_given_is_secret_and_says_where_the_pool_is(
    tmp_path: Path, spec: DeploymentSpec
) -> None:
    given = given_to(OwnPools(tmp_path), spec, "worker")
    execute = spec.group("worker").services[-1].variables
    secret = {name for name, value in execute.items() if is_secret(value)}
    assert secret == {"htcondor_execute_token"}
    scope = Scope(spec, NODES, node("worker"), {}, given)
    told = resolve(execute, scope)
    assert told["htcondor_execute_token"] == given["pool", "worker_credential"]
    assert told["htcondor_execute_collector"] == "manager.test:9618"
    assert told["htcondor_execute_wait_for"] == ["manager.test:9618"]
    assert "eyJ" not in repr(scope)


def test_who_was_given_nothing_learns_nothing(spec: DeploymentSpec) -> None:
    token = spec.group("worker").services[-1].variables["htcondor_execute_token"]
    with pytest.raises(Unresolved, match=r"pool\.worker_credential"):
        resolve(token, Scope(spec, NODES, node("worker")))


def test_groups_without_such_a_pool_need_no_keys_of_the_server() -> None:
    squid = compiled((TEMPLATE.parent / "squid.yaml").read_text())
    group = squid.groups[0].name
    assert given_to(None, squid, group) == {}


def test_a_server_without_keys_says_so(spec: DeploymentSpec) -> None:
    with pytest.raises(Terminal, match="no keys for pools"):
        given_to(None, spec, "worker")


def test_a_worker_is_set_up_once_its_pool_has_an_address_and_again_when_that_changes(
    spec: DeploymentSpec,
) -> None:
    worker = spec.group("worker")
    assert configuration(spec, worker, []) is None
    digest = configuration(spec, worker, NODES)
    assert digest is not None
    assert configuration(spec, worker, NODES) == digest
    moved = replace(node("manager"), address="elsewhere.test")
    assert configuration(spec, worker, [moved]) not in (None, digest)


@pytest.mark.parametrize("attribute", ["signing_key", "worker_credential"])
def test_no_output_may_have_a_secret_of_a_pool(attribute: str) -> None:
    text = TEMPLATE.read_text() + (
        f"    leak:\n      value: {{ get_attribute: [pool, {attribute}] }}\n"
    )
    (problem,) = problems(text)
    assert f"Only services of this template may know the `{attribute}` of `pool`" in problem.message
