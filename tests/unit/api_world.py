"""A whole server but for its threads and its listener: real store, tokens, control side and API
over a simulated world.  Templates are compiled by a stand-in that needs no child process."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import yaml

from orchestrator.api.app import create_app
from orchestrator.batch.simulated import SimulatedPool
from orchestrator.configure.simulated import SimulatedConfigurator
from orchestrator.control import assembly
from orchestrator.control.configuration import Configuration
from orchestrator.control.execute import Executor as ActionExecutor
from orchestrator.control.loop import Loop
from orchestrator.control.observe import Observer
from orchestrator.control.ports import Ports, PullSite
from orchestrator.control.service import Orchestrator, patience
from orchestrator.identity import issuer as development
from orchestrator.identity.endpoints import IssuerAway, IssuerRejects
from orchestrator.identity.tokens import TokenValidator
from orchestrator.identity.web import Browsers
from orchestrator.model import (
    DeploymentId,
    DeploymentSpec,
    GroupName,
    NodeGroup,
    PoolName,
    Requirements,
    Service,
    SiteName,
    VacuumPolicy,
)
from orchestrator.providers.simulated import SimulatedProvider
from orchestrator.settings import Callbacks, Flavour, Limits, Pool, Settings, Site
from orchestrator.store.repository import Repository
from orchestrator.tosca.problems import Problem, TemplateInvalid
from orchestrator.world import Latencies, World

POOL = PoolName("pool")
AUDIENCE = "condor://pool.example:9618"
SITE = SiteName("site")
TEMPLATE = "tosca_definitions_version: tosca_simple_yaml_1_3\nminimum: 1\n"


class Compiler:
    """Knows three words: ``minimum``, how many workers there always are, their ``cores``, and after
    how many seconds they are ``idle``."""

    def compile(self, template: str, inputs: Mapping[str, Any]) -> DeploymentSpec:
        document = yaml.safe_load(template)
        if not isinstance(document, dict):
            raise TemplateInvalid(
                [Problem("template", 1, 1, "", "The template is not a mapping.", "Start again.")]
            )
        return DeploymentSpec("A test site", (self._workers(document),))

    def _workers(self, document: Mapping[str, Any]) -> NodeGroup:
        service = Service(
            "execute",
            "vacuo.nodes.HTCondor.Execute",
            "vacuo.site.htcondor_execute",
            {"htcondor_execute_idle_seconds": int(document.get("idle", 3600))},
        )
        return NodeGroup(
            name=GroupName("workers"),
            requirements=Requirements(int(document.get("cores", 2)), memory_mb=2048),
            services=(service,),
            vacuum=VacuumPolicy(int(document.get("minimum", 0)), 4),
            pool=POOL,
        )


class AtOnce(Executor):
    """Runs what it is given where it stands."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class ApiWorld:
    """A server, its world, and a client of it."""

    def __init__(
        self,
        directory: Path,
        compiler: Any = None,
        streams: int = 4,
        pull: PullSite | None = None,
        access: str | None = None,
        owners: str | None = None,
        callback_host: str = "",
    ) -> None:
        """With ``owners``, the address at which it is served, nodes join in their owner's name, and
        tokens go by the clock of the world."""
        flavours = (Flavour(name="medium", cores=2, memory_mb=2048, disk_gb=20),)
        site = Site(name=SITE, provider="simulated", flavours=flavours)
        options = {"join_with": "owner", "join_audience": AUDIENCE, "join_scope": "condor:/READ"}
        pool = Pool(
            name=POOL,
            batch="simulated",
            collector="pool.example:9618",
            options=options if owners else {},
        )
        access_file = None
        if access is not None:
            access_file = directory / "access.yaml"
            access_file.write_text(access)
        # The groups and the scope of people's tokens, by subject.
        self.groups: dict[str, tuple[str, ...]] = {"alice": ("/cms",)}
        self.scopes: dict[str, str] = {}
        self.settings = Settings(
            data_directory=directory,
            development_issuer=True,
            sites=(site,),
            pools=(pool,),
            limits=Limits(template_bytes=100_000),
            access_file=access_file,
            listen=owners or "127.0.0.1:8420",
            callbacks=Callbacks(hosts=(callback_host,) if callback_host else ()),
        )
        self.now = 1_700_000_000.0
        self.world = World(self._clock, latencies=Latencies(boot=1, configure=0, join=1))
        self.repository = Repository.open(self.settings.database_url)
        clock = self._clock if owners else time.time
        self.issuer = development.build(self.settings, clock)
        validator = TokenValidator((), clock, own=self.issuer)
        secrets = assembly.secret_store(self.settings, self.repository)
        self.delegation = assembly.delegation(
            self.settings, self.repository, secrets, validator, (self.issuer.issuer,), clock
        )
        ports = Ports(
            {SITE: SimulatedProvider(site, self.world)},
            {POOL: SimulatedPool(pool, self.world)},
            SimulatedConfigurator(self.world, sleep=lambda _: None),
            {SITE: pull} if pull else {},
            delegation=self.delegation if owners else None,
        )
        self.ports = ports
        at_once = AtOnce()
        observer = Observer(ports, self.repository, "test", at_once)
        configuration = Configuration(
            ports, self.repository, self._wake, self._clock, at_once, secrets
        )
        executor = ActionExecutor(ports, self.repository, configuration, self._clock, at_once)
        limits = patience(self.settings)
        self.loop = Loop(self.repository, observer, executor, "test", limits, self._clock)
        self.woken: list[str] = []
        self.alive = True
        self.orchestrator = Orchestrator(
            self.settings,
            self.repository,
            ports,
            compiler or Compiler(),
            self.loop,
            observer,
            self._wake,
            lambda: self.alive,
            self._clock,
            pulling=configuration.pulling,
            secrets=secrets,
        )
        self.browser_now = time.time
        browsers = Browsers.of(
            self.settings,
            (self.issuer.issuer,),
            validator,
            self.repository.sessions,
            self._ask,
            lambda: self.browser_now(),
        )
        self.app = create_app(
            self.orchestrator, validator, self.issuer, streams=streams, browsers=browsers
        )
        self.client = self.app.test_client()

    def _clock(self) -> float:
        return self.now

    def _wake(self, id: DeploymentId) -> None:
        self.woken.append(id)

    def _ask(
        self, url: str, authorization: str | None = None, form: Mapping[str, str] | None = None
    ) -> bytes:
        """The development issuer, asked without a network."""
        sent = {"Authorization": authorization} if authorization else {}
        client = self.app.test_client(use_cookies=False)
        path = url.removeprefix(self.settings.url)
        method = "GET" if form is None else "POST"
        answer = client.open(
            path, method=method, headers=sent, data=form, base_url=self.settings.url
        )
        if answer.status_code == 400:
            raise IssuerRejects(f"{url} answered 400")
        if answer.status_code != 200:
            raise IssuerAway(f"{url} answered {answer.status_code}")
        body: bytes = answer.data
        return body

    def close(self) -> None:
        self.repository.close()

    def headers(self, who: str = "alice") -> dict[str, str]:
        groups, scope = self.groups.get(who, ()), self.scopes.get(who, "")
        return {"Authorization": f"Bearer {self.issuer.mint(who, groups=groups, scope=scope)}"}

    def get(self, path: str, who: str = "alice", **headers: str) -> Any:
        return self.client.get(path, headers=self.headers(who) | headers)

    def send(
        self, method: str, path: str, body: Any = None, who: str = "alice", **headers: str
    ) -> Any:
        text = json.dumps(submission() if body is None else body)
        sent = self.headers(who) | {"Content-Type": "application/json"} | headers
        return self.client.open(path, method=method, data=text, headers=sent)

    def create(self, who: str = "alice", **headers: str) -> Any:
        answer = self.send("POST", "/deployments", who=who, **headers)
        assert answer.status_code == 201, answer.text
        self.now += 1
        return answer.json

    def passes(self, id: str, times: int = 1) -> None:
        for _ in range(times):
            self.now += 2
            self.loop.run_once(DeploymentId(id))


def submission(**fields: Any) -> dict[str, Any]:
    return {"template": TEMPLATE, "parameters": {}, **fields}
