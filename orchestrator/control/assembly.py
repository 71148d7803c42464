"""From settings to ports: which implementation stands behind each site and pool."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from functools import partial

from orchestrator.batch.base import BatchPool
from orchestrator.batch.htcondor import HTCondorPool
from orchestrator.batch.own_pools import OwnPools
from orchestrator.batch.simulated import SimulatedPool
from orchestrator.configure.ansible import AnsibleConfigurator
from orchestrator.configure.base import Configurator
from orchestrator.configure.playbooks import WithPlaybooks
from orchestrator.configure.simulated import SimulatedConfigurator
from orchestrator.control.ports import Ports, PullSite
from orchestrator.identity.delegation import Delegation
from orchestrator.identity.master_keys import KeyRing
from orchestrator.identity.moving import TwoSealers
from orchestrator.identity.secrets import EnvelopeSealer, SecretStore
from orchestrator.identity.token_endpoint import TokenEndpoint
from orchestrator.identity.tokens import TokenValidator
from orchestrator.identity.vault import VaultSealer
from orchestrator.model import Event, PoolName, Principal, SiteName
from orchestrator.providers.base import Provider
from orchestrator.providers.local import LocalProvider
from orchestrator.providers.simulated import SimulatedProvider
from orchestrator.settings import Issuer, Pool, Settings, Site
from orchestrator.store.repository import Repository
from orchestrator.world import World

log = logging.getLogger(__name__)


def build(settings: Settings) -> Ports:
    """The ports that ``settings`` name.  Simulated sites and pools share one world."""
    world = World()
    only_simulated = bool(settings.sites) and all(s.provider == "simulated" for s in settings.sites)
    configurator: Configurator = (
        SimulatedConfigurator(world) if only_simulated else AnsibleConfigurator(settings)
    )
    if settings.templates.playbooks:
        configurator = WithPlaybooks(configurator, settings.templates.playbooks)
    return Ports(
        {SiteName(site.name): _provider(site, settings, world) for site in settings.sites},
        {PoolName(pool.name): _pool(pool, settings, world) for pool in settings.pools},
        configurator,
        {
            SiteName(site.name): PullSite(url, settings.limits.configure_seconds)
            for site in settings.sites
            if (url := settings.pull_url(site))
        },
        OwnPools(settings.data_directory),
    )


def key_ring(settings: Settings) -> KeyRing:
    """The master keys of this server."""
    return KeyRing(settings.data_directory / "master-keys")


def secret_store(settings: Settings, repository: Repository) -> SecretStore:
    """Where this server keeps secrets, ready to be used.

    Raises :class:`~orchestrator.errors.UserError` where it cannot be.
    """
    return SecretStore(repository.secrets, sealers(settings))


def sealers(settings: Settings) -> TwoSealers:
    """How secrets are kept now, and how those are opened that were kept otherwise before.

    Raises :class:`~orchestrator.errors.UserError` where new ones cannot be kept.
    """
    into_vault = settings.secrets.backend == "vault"
    ring = key_ring(settings)
    if not into_vault:
        ring.load()
    vault = VaultSealer(settings.secrets) if settings.secrets.vault_url else None
    return TwoSealers(vault=vault, envelope=EnvelopeSealer(ring), into_vault=into_vault)


def delegation(
    settings: Settings,
    repository: Repository,
    secrets: SecretStore,
    validator: TokenValidator,
    issuers: Iterable[Issuer],
    clock: Callable[[], float] = time.time,
) -> Delegation:
    """The logins that this server keeps of people of ``issuers``."""
    wanted = (str(pool.options.get("join_scope", "")) for pool in settings.pools)
    scopes = {scope for text in wanted for scope in text.split()}

    def alarm(person: Principal, what: str) -> None:
        log.error("alarm: %s: %s", person, what)
        repository.append([Event.audit(clock(), person, what, denied=True)])

    endpoints = (TokenEndpoint(issuer, clock, scopes=scopes) for issuer in issuers)
    return Delegation(repository.logins, secrets, endpoints, validator, alarm, now=clock)


def provider(site: Site, settings: Settings) -> Provider:
    """What stands behind one site alone."""
    return _provider(site, settings, World())


def _provider(site: Site, settings: Settings, world: World) -> Provider:
    if site.provider == "simulated":
        return SimulatedProvider(site, world)
    return LocalProvider(site, settings.data_directory)


def _pool(pool: Pool, settings: Settings, world: World) -> BatchPool:
    if pool.batch == "simulated":
        return SimulatedPool(pool, world)
    path = pool.options.get("join_token_path")
    if not path:
        return HTCondorPool(pool, settings.data_directory)
    key = str(pool.options.get("join_token_key", "token"))
    vault = VaultSealer(settings.secrets)
    return HTCondorPool(pool, settings.data_directory, partial(vault.read, str(path), key))
