"""Five hundred hosts that configure themselves at once, by a real server; the hosts are simulated.

What asks is the program that real hosts run, as far as it speaks to the API; nothing plays what it
fetches.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import orchestrator
from bench.world import WORKERS
from orchestrator.model import DeploymentId, Event, Node, NodeState
from orchestrator.settings import Pool
from orchestrator.store.repository import Enrolled, Repository
from testbed.ports import free_port
from testbed.server import VacuoServer
from testbed.waiting import PATIENCE_SECONDS, eventually

HOSTS = 500
PROGRAM = Path(orchestrator.__file__).parent / "configure" / "node" / "vacuo-configure"
FAR_AWAY = {
    "name": "far-away",
    "provider": "simulated",
    "configure": "pull",
    "flavours": [{"name": "large", "cores": 16, "memory_mb": 32_768, "disk_gb": 100}],
    "limits": {"instances": HOSTS},
}
SIMULATED = Pool(name="simulated", batch="simulated", collector="pool.example:9618")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[VacuoServer]:
    """With a local site too, on which nothing fits: so the bundles are Ansible's."""
    made = VacuoServer(tmp_path, [SIMULATED], port=free_port(), more_sites=[FAR_AWAY])
    try:
        made.start().login()
        yield made
    finally:
        made.stop()


@pytest.fixture
def store(server: VacuoServer) -> Iterator[Repository]:
    found = Repository.open(f"sqlite:///{server.directory / 'data' / 'vacuo.db'}")
    yield found
    found.close()


@pytest.fixture
def program() -> ModuleType:
    """What runs on a host, as a module."""
    loader = SourceFileLoader("vacuo_configure", str(PROGRAM))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.timeout(1200)
def test_five_hundred_hosts_fetch_their_bundles_and_report(
    server: VacuoServer, store: Repository, program: ModuleType
) -> None:
    size = ("-p", "worker_cores=16", "-p", f"workers_minimum={HOSTS}")
    words = ("-p", "pool=simulated", *size, "-p", f"workers_maximum={HOSTS}")
    id = DeploymentId(server.json("up", str(WORKERS), *words)["deployment"]["uuid"])

    def booted() -> Sequence[Node]:
        nodes = store.nodes(id)
        return nodes if [n.state for n in nodes] == [NodeState.BOOTING] * HOSTS else ()

    nodes = eventually(booted, "hosts that boot")
    orders = {node.name: _order(store, node) for node in nodes}
    together = threading.Barrier(HOSTS)
    with ThreadPoolExecutor(HOSTS) as hosts:
        asked = {
            node: hosts.submit(_configure_itself, program, server.url, node, order, together)
            for node, order in orders.items()
        }
        digests = {asked[node].result() for node in asked}
    assert len(digests) == HOSTS  # each has its own
    eventually(
        lambda: all(node.state is NodeState.JOINING for node in store.nodes(id)),
        "hosts that are configured",
    )
    failed = [event for event in store.events(deployment=id, limit=50_000) if event.failed]
    assert failed == []
    assert list((server.directory / "data" / "ansible" / "logs").iterdir()) == []
    server.vacuo("down", str(id), "--now", "--wait")


def _order(store: Repository, node: Node) -> str:
    """A one-time credential of the node, beside the one that it was created with."""
    credential = base64.urlsafe_b64encode(hashlib.sha256(node.name.encode()).digest())
    text = credential.decode().rstrip("=")
    who = Enrolled(node.deployment, node.name)
    event = Event.audit(time.time(), "a test", "a credential was issued", node.deployment)
    store.issue(who, hashlib.sha256(text.encode()).hexdigest(), time.time() + 3600, event)
    return text


def _configure_itself(
    program: Any, url: str, node: str, credential: str, together: threading.Barrier
) -> str:
    """The whole conversation of one host; the checksum of what it fetched."""
    api = program.Api(url)
    secret = program.secrets.token_urlsafe(32)
    together.wait(PATIENCE_SECONDS)
    body = {"secretSha256": hashlib.sha256(secret.encode()).hexdigest()}
    api.ask("POST", "/pull/enrolment", credential, body)
    bundle = program.fetch(api, secret)
    archive = base64.b64decode(bundle["archive"])
    assert hashlib.sha256(archive).hexdigest() == bundle["sha256"]
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        assert f"host_vars/{node}.yml" in files.getnames()
    tasks = [{"role": "vacuo.site.squid", "task": f"task {n}", "status": "ok"} for n in range(10)]
    end = {"task": "finished", "status": "finished"}
    api.ask("POST", "/pull/report", bundle["reporter"], {"first": 0, "events": tasks})
    api.ask("POST", "/pull/report", bundle["reporter"], {"first": 10, "events": [end]})
    return str(bundle["sha256"])
