"""The embedded server: one process with the API, the control loop and, if asked for, the built-in
development issuer.

gunicorn (threads, one worker of our own kind) serves HTTP.  Everything that has threads is made in
the worker, after the fork; a worker that dies is replaced and takes up where the store says it was.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
import uuid
from dataclasses import dataclass, replace
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from orchestrator import logs
from orchestrator.api.app import create_app, trusted
from orchestrator.api.deployments import shown
from orchestrator.api.requests import Services
from orchestrator.api.worker import CONNECTIONS, Worker
from orchestrator.configure.playbooks import pins
from orchestrator.control import assembly
from orchestrator.control.callbacks import Callbacks, guard
from orchestrator.control.configuration import Configuration
from orchestrator.control.engine import InProcessEngine
from orchestrator.control.execute import Executor
from orchestrator.control.health import secrets_elsewhere
from orchestrator.control.housekeeping import Housekeeping
from orchestrator.control.loop import Loop
from orchestrator.control.observe import Observer
from orchestrator.control.service import Orchestrator, patience
from orchestrator.errors import Retryable, StoreUnavailable, UserError, VacuoError
from orchestrator.identity import access
from orchestrator.identity import issuer as development
from orchestrator.identity.moving import Moved, move
from orchestrator.identity.secrets import rotate
from orchestrator.identity.tokens import TokenValidator
from orchestrator.model import DeploymentId, Event, EventKind
from orchestrator.outbound import Outbound
from orchestrator.reasons import reason
from orchestrator.settings import Settings, check_files
from orchestrator.store.lock import ServerLock
from orchestrator.store.repository import Repository, Verification
from orchestrator.tosca import confined
from orchestrator.tosca.means import Means
from orchestrator.tosca.sandbox import Compiler
from orchestrator.tosca.sources import sources_of

log = logging.getLogger(__name__)

HTTP_THREADS = 32
ENGINE_THREADS = 4


@dataclass
class Running:
    """The parts of a running server, in the order in which they are stopped."""

    app: Flask
    orchestrator: Orchestrator
    engine: InProcessEngine
    housekeeping: Housekeeping
    callbacks: Callbacks
    executor: Executor
    observer: Observer
    compiler: Compiler
    repository: Repository

    def stop(self) -> None:
        """Let running passes end.  Configuration runs are not waited for: the next start finds
        them LOST and runs them again."""
        Services.of(self.app).closing.set()
        self.housekeeping.stop()
        self.callbacks.stop()
        self.engine.stop()
        self.executor.close()
        self.observer.close()
        self.compiler.close()
        Services.of(self.app).refused_tokens.tell(everything=True)
        self.repository.close()


def assemble(settings: Settings) -> Running:
    """Everything of a server but its HTTP listener, running; the caller holds the ServerLock."""
    repository = Repository.open(settings.database_url)
    repository.void_leases()
    secrets = assembly.secret_store(settings, repository)
    issuer = development.build(settings) if settings.development_issuer else None
    validator = TokenValidator(settings.issuers, own=issuer)
    logins = assembly.delegation(
        settings, repository, secrets, validator, trusted(settings, issuer)
    )
    ports = replace(assembly.build(settings), delegation=logins)
    holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    observer = Observer(ports, repository, holder)

    def wake(id: DeploymentId) -> None:
        engine.wake(id)

    configuration = Configuration(ports, repository, wake, secrets=secrets)
    executor = Executor(ports, repository, configuration)
    loop = Loop(repository, observer, executor, holder, patience(settings))
    engine = InProcessEngine(loop.run_once, _PassFailures(repository), ENGINE_THREADS)
    compiler = Compiler(
        settings.limits,
        command=confined.command(settings),
        imports=sources_of(settings),
        means=lambda: _means(settings),
    )
    compiler.warm()
    orchestrator = Orchestrator(
        settings,
        repository,
        ports,
        compiler,
        loop,
        observer,
        wake,
        lambda: engine.alive,
        pulling=configuration.pulling,
        secrets=secrets,
    )
    app = create_app(orchestrator, validator, issuer)
    housekeeping = Housekeeping(ports, repository, secrets=secrets)
    callbacks = Callbacks(
        repository,
        Outbound(guard(settings.callbacks)),
        Services.of(app).signer,
        lambda told: shown(orchestrator, told).model_dump_json().encode(),
        seconds=settings.callbacks.seconds,
    )
    engine.start()
    housekeeping.start()
    callbacks.start()
    for id in repository.to_work_on():
        engine.wake(id)
    return Running(
        app, orchestrator, engine, housekeeping, callbacks, executor, observer, compiler, repository
    )


class _PassFailures:
    """Tells of a pass that failed: in the log always, in the events where the store can."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def __call__(self, id: DeploymentId, error: Exception, pause: float) -> None:
        expected = isinstance(error, VacuoError)
        why = str(error) if expected else f"unexpected {type(error).__name__}"
        text = reason("pass-failed", why=why, seconds=round(pause))
        log.error(
            "%s", text.sentence, extra={"deployment": id}, exc_info=None if expected else error
        )
        if isinstance(error, StoreUnavailable):
            return
        event = Event(
            time.time(), EventKind.DEPLOYMENT, id, text.sentence, failed=True, code=text.code
        )
        try:
            self._repository.append([event])
        except VacuoError:
            log.warning("the event could not be stored", extra={"deployment": id})


class _Application(BaseApplication):
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: Running | None = None
        super().__init__()

    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": self._settings.listen,
            "workers": 1,
            "worker_class": Worker,
            "worker_connections": CONNECTIONS,
            "threads": HTTP_THREADS,
            "keepalive": 0,
            "graceful_timeout": 15,
            "timeout": 120,
            "accesslog": None,
            "errorlog": "-",
            "loglevel": "warning",
            "limit_request_line": 8190,
            "limit_request_fields": 64,
            "limit_request_field_size": 16384,  # tokens with many groups are long
            "post_worker_init": self._ready,
            "worker_exit": self._exit,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        self._running = assemble(self._settings)
        return self._running.app

    def _ready(self, _worker: object) -> None:
        """End the event streams as soon as the server is told to stop: gunicorn waits for open
        requests, a stream never ends by itself, and a worker that is late is killed."""
        stop: Any = signal.getsignal(signal.SIGTERM)

        def end_streams(number: int, frame: Any) -> None:
            if self._running:
                Services.of(self._running.app).closing.set()
            stop(number, frame)

        signal.signal(signal.SIGTERM, end_streams)

    def _exit(self, _arbiter: object, _worker: object) -> None:
        if self._running:
            self._running.stop()
            self._running = None


def serve(settings: Settings) -> None:
    """Run the server until it is told to stop (SIGTERM, SIGINT).

    Raises :class:`UserError` when it cannot start: the address is taken, another server has the
    database, the issuer would not be on loopback.
    """
    logs.configure(settings.log_format)
    check_files(settings)
    _make_data_directory(settings)
    _refuse_taken_address(settings)
    with ServerLock(settings.database_url):
        _look_at_the_database(settings)
        # Made and thrown away: what they refuse is to be said once, here, and not by gunicorn.
        issuer = development.build(settings) if settings.development_issuer else None
        TokenValidator(settings.issuers, own=issuer)
        access.load(settings.access_file, trusted(settings, issuer))
        assembly.build(settings)
        log.info("Vacuo serves %s", settings.url)
        _Application(settings).run()


def _look_at_the_database(settings: Settings) -> None:
    """Create or migrate it, and say what an administrator should know of it."""
    repository = Repository.open(settings.database_url)
    try:
        why = secrets_elsewhere(settings, repository)
        if why:
            log.warning("%s", why)
    finally:
        repository.close()


def verify_audits(settings: Settings, known: str = "") -> Verification:
    """Look through the chain of audits of the server's database, whether or not it runs."""
    repository = Repository.open(settings.database_url)
    try:
        return repository.verify_audits(known)
    finally:
        repository.close()


def rotate_master_key(settings: Settings) -> int:
    """Seal all secrets with a new master key; how many there were."""
    repository = Repository.open(settings.database_url)
    try:
        return rotate(repository.secrets, assembly.key_ring(settings))
    finally:
        repository.close()


def move_secrets(settings: Settings) -> Moved:
    """Have all secrets where the settings say that they are kept; no server may run meanwhile."""
    with ServerLock(settings.database_url):
        repository = Repository.open(settings.database_url)
        try:
            return move(repository.secrets, assembly.sealers(settings))
        except Retryable as error:
            raise UserError(
                "The secrets are not all moved.",
                str(error),
                "call it again: what is moved stays so, and the rest is as it was",
                code="secrets-not-moved",
            ) from None
        finally:
            repository.close()


def _make_data_directory(settings: Settings) -> None:
    try:
        settings.data_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UserError(
            f"The data directory {settings.data_directory} cannot be made.",
            f"{error.strerror}.",
            "set another data_directory in vacuo.yaml, or VACUO_DATA_DIRECTORY",
            code="configuration-invalid",
        ) from None


def _refuse_taken_address(settings: Settings) -> None:
    host, _, port = settings.listen.rpartition(":")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]") or "0.0.0.0",  # noqa: S104 - as gunicorn reads an empty host
            int(port),
            type=socket.SOCK_STREAM,
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise UserError(
            f"Vacuo cannot listen on {settings.listen}.",
            f"{error.strerror or error}.",
            "stop what uses the port, or set another with VACUO_LISTEN=127.0.0.1:PORT",
            code="address-taken",
        ) from None


def _means(settings: Settings) -> Means:
    """What there is for foreign types now: a pinned file that has changed is not."""
    return Means(settings.templates.parameters, pins(settings.templates.playbooks))
