"""From settings to ports: which implementation stands behind each site and pool."""

from __future__ import annotations

from orchestrator.batch.base import BatchPool
from orchestrator.batch.htcondor import HTCondorPool
from orchestrator.batch.own_pools import OwnPools
from orchestrator.batch.simulated import SimulatedPool
from orchestrator.configure.ansible import AnsibleConfigurator
from orchestrator.configure.base import Configurator
from orchestrator.configure.playbooks import WithPlaybooks
from orchestrator.configure.simulated import SimulatedConfigurator
from orchestrator.control.ports import Ports, PullSite
from orchestrator.identity.master_keys import KeyRing
from orchestrator.identity.secrets import EnvelopeSealer, SecretStore
from orchestrator.identity.vault import VaultSealer
from orchestrator.model import PoolName, SiteName
from orchestrator.providers.base import Provider
from orchestrator.providers.local import LocalProvider
from orchestrator.providers.simulated import SimulatedProvider
from orchestrator.settings import Pool, Settings, Site
from orchestrator.store.repository import Repository
from orchestrator.world import World


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
    if settings.secrets.backend == "vault":
        return SecretStore(repository.secrets, VaultSealer(settings.secrets))
    ring = key_ring(settings)
    ring.load()
    return SecretStore(repository.secrets, EnvelopeSealer(ring))


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
    return HTCondorPool(pool, settings.data_directory)
