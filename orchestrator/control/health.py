"""How a server is: what keeps it from its work, and every site and pool looked at now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orchestrator.control.ports import Ports
from orchestrator.errors import PortError, Retryable, VacuoError
from orchestrator.identity.moving import elsewhere
from orchestrator.model import SiteName
from orchestrator.reasons import Reason, reason
from orchestrator.settings import Settings
from orchestrator.store.repository import Repository


@dataclass(frozen=True)
class Check:
    """One look at a site or a pool: ``ok`` is None where it cannot be told."""

    name: str
    ok: bool | None = None
    detail: str = ""
    reason: Reason | None = None


class Health:
    """Looks at the parts of one server."""

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        ports: Ports,
        engine_alive: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._repository = repository
        self._ports = ports
        self._engine_alive = engine_alive

    def problems(self) -> tuple[Reason, ...]:
        """What keeps this server from doing its work."""
        found = []
        try:
            self._repository.ready()
        except (VacuoError, OSError) as error:
            found.append(reason("store-unavailable", why=str(error)))
        if not self._engine_alive():
            found.append(reason("engine-stopped"))
        return tuple(found)

    def checks(self) -> tuple[Check, ...]:
        """The sandbox, every site and every pool, looked at now."""
        sites = [self._check_site(site) for site in self._ports.providers]
        pools = []
        for name, pool in self._ports.pools.items():
            try:
                machines = len(pool.machines())
            except PortError as error:
                why = reason("pool-unreachable", pool=name, why=str(error))
                pools.append(Check(f"pool {name}", _told(error), reason=why))
            else:
                pools.append(Check(f"pool {name}", True, f"{machines} of our machines are in it."))
        return (*self._check_sandbox(), *self._check_secrets(), *sites, *pools)

    def _check_secrets(self) -> Iterator[Check]:
        why = secrets_elsewhere(self._settings, self._repository)
        if why:
            yield Check("secrets", reason=why)

    def _check_sandbox(self) -> Iterator[Check]:
        found = self._ports.configurator.confinement()
        if found is not None:
            why = None if found.confined else reason("no-sandbox", why=found.detail)
            yield Check("sandbox", True if found.confined else None, found.detail, why)

    def _check_site(self, name: SiteName) -> Check:
        try:
            quota = self._ports.providers[name].quota()
        except PortError as error:
            why = reason("site-unreachable", site=name, why=str(error))
            return Check(f"site {name}", _told(error), reason=why)
        limit = "any number of" if quota.instances is None else str(quota.instances)
        return Check(f"site {name}", True, f"{quota.instances_used} of {limit} instances are used.")


def secrets_elsewhere(settings: Settings, repository: Repository) -> Reason | None:
    """Why some secrets are not where the settings say, if they are not."""
    into_vault = settings.secrets.backend == "vault"
    count = elsewhere(repository.secrets, into_vault)
    if not count:
        return None
    places = ("in the database", "in Vault") if into_vault else ("in Vault", "in the database")
    return reason("secrets-elsewhere", count=count, here=places[0], there=places[1])


def _told(error: PortError) -> bool | None:
    """A site that may answer again in a moment is not broken: it cannot be told."""
    return None if isinstance(error, Retryable) and error.after < 1 else False
