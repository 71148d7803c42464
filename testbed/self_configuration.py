"""A site whose hosts configure themselves, and the routes that they ask over real HTTP; there is no
control loop: who uses it decides about nodes and runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from werkzeug.serving import make_server

from orchestrator.api.app import create_app
from orchestrator.configure.base import Configurator, HostToConfigure, RoleCall
from orchestrator.control.ports import Ports, PullSite
from orchestrator.control.pulling import Pulling
from orchestrator.identity.tokens import TokenValidator
from orchestrator.model import (
    ConfigureNodes,
    Deployment,
    DeploymentId,
    DeploymentSpec,
    DeploymentStatus,
    GroupName,
    IntentId,
    Node,
    NodeName,
    NodeState,
    Principal,
    Run,
    RunState,
    SiteName,
)
from orchestrator.providers.local import LocalProvider
from orchestrator.settings import Settings, Site
from orchestrator.store.repository import Repository

ID = DeploymentId("5e1fc0f1-0000-4000-8000-000000000000")
RUN_SECONDS = 300.0


@dataclass
class _Orchestrator:
    """As much of the control side as the routes for nodes ask for."""

    settings: Settings
    repository: Repository
    pulling: Pulling


class SelfConfiguration:
    """Nodes at ``site``; ``calls`` says what a node is to become and may be changed."""

    def __init__(
        self,
        directory: Path,
        site: Site,
        provider: LocalProvider,
        configurator: Configurator,
        calls: Callable[[str], tuple[RoleCall, ...]],
    ) -> None:
        self.calls = calls
        self._site = SiteName(site.name)
        self.repository = Repository.open(f"sqlite:///{directory / 'nodes.db'}")
        self.repository.create(_deployment())
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        self._server = make_server("0.0.0.0", 0, lambda *_: [], threaded=True)
        gateway = site.subnet.rpartition(".")[0] + ".1"
        url = f"http://{gateway}:{self._server.server_port}"
        pull = {self._site: PullSite(url, RUN_SECONDS)}
        ports = Ports({self._site: provider}, {}, configurator, pull)
        self.pulling = Pulling(ports, self.repository, self._host, lambda _: None)
        settings = Settings(data_directory=directory)
        control: Any = _Orchestrator(settings, self.repository, self.pulling)
        self._server.app = create_app(control, TokenValidator(()))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self.repository.close()

    def node(self, name: str) -> Node:
        """A node in the store, about to be made."""
        now = time.time()
        node = Node(
            name=NodeName(name),
            deployment=ID,
            group=GroupName("worker"),
            site=self._site,
            flavour="any",
            cores=1,
            memory_mb=2048,
            state=NodeState.BOOTING,
            since=now,
            created_at=now,
        )
        self._save([node], [])
        return node

    def run(self, nodes: Sequence[Node], attempt: int = 1) -> IntentId:
        """A configuration run on ``nodes``, as the loop decides it."""
        entered = [replace(n, state=NodeState.CONFIGURING, attempts=attempt) for n in nodes]
        (intent,) = self._save(entered, [ConfigureNodes(tuple(node.name for node in nodes))])
        self.pulling.offer(intent.id, entered)
        return intent.id

    def ended(self, name: str) -> Run | None:
        """The node's last run, once it has ended."""
        run = self.repository.runs(ID, "nobody", time.time())[NodeName(name)]
        return run if run.state in (RunState.SUCCEEDED, RunState.FAILED) else None

    def _save(self, nodes: Sequence[Node], actions: Sequence[Any]) -> Any:
        lease = self.repository.acquire(ID, "nobody", 60.0, time.time())
        try:
            return self.repository.save(
                lease,
                generation=0,
                status=DeploymentStatus.CREATE_IN_PROGRESS,
                status_reason=None,
                reasons=(),
                now=time.time(),
                nodes=nodes,
                actions=actions,
            )
        finally:
            self.repository.release(lease)

    def _host(
        self, _deployment: Deployment, _nodes: Sequence[Node], node: Node, keys: tuple[str, ...]
    ) -> HostToConfigure:
        return HostToConfigure(node.name, "", keys, self.calls(str(node.name)))


def _deployment() -> Deployment:
    now = time.time()
    return Deployment(
        id=ID,
        owner=Principal("https://nobody.example", "nobody"),
        template="",
        parameters={},
        spec=DeploymentSpec("nodes that configure themselves", ()),
        status=DeploymentStatus.CREATE_IN_PROGRESS,
        created_at=now,
        updated_at=now,
    )
