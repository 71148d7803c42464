"""What no single deployment sees: instances whose deployment is gone, and old rows."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable

from orchestrator.control.ports import Ports
from orchestrator.control.tell import tell
from orchestrator.errors import NotFound, PortError, VacuoError
from orchestrator.identity.secrets import SecretStore
from orchestrator.model import (
    DeploymentId,
    DeploymentStatus,
    Event,
    EventKind,
    Instance,
    SiteName,
)
from orchestrator.reasons import reason
from orchestrator.store.repository import Repository

log = logging.getLogger(__name__)

SWEEP_SECONDS = 30.0
KEEP_SECONDS = 7 * 86400.0


def strangers(instances: Iterable[Instance], worked_on: Collection[DeploymentId]) -> list[Instance]:
    """The instances that no pass will ever look at, because their deployment is not worked on."""
    return [instance for instance in instances if instance.owner not in worked_on]


class Housekeeping:
    """A thread that sweeps every :data:`SWEEP_SECONDS`."""

    def __init__(
        self,
        ports: Ports,
        repository: Repository,
        clock: Callable[[], float] = time.time,
        secrets: SecretStore | None = None,
    ) -> None:
        self._secrets = secrets
        self._ports = ports
        self._repository = repository
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="housekeeping", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _work(self) -> None:
        while not self._stop.wait(SWEEP_SECONDS):
            try:
                self.sweep()
            except VacuoError:
                log.warning("a sweep failed and is tried again", exc_info=True)
            except Exception:
                log.exception("a sweep failed unexpectedly and is tried again")

    def sweep(self) -> None:
        """Delete the instances of deployments that are not worked on, and forget old rows."""
        for site in self._ports.providers:
            try:
                self._sweep_site(site)
            except PortError as error:
                log.warning("site %s cannot be swept now: %s", site, error)
        self._repository.prune(self._clock(), KEEP_SECONDS)
        if self._secrets is not None:
            self._secrets.prune(self._clock() - KEEP_SECONDS)

    def _sweep_site(self, site: SiteName) -> None:
        provider = self._ports.providers[site]
        # The listing comes first: a deployment made after it has no instance in it.
        listing = provider.list(None)
        for instance in strangers(listing, frozenset(self._repository.to_work_on())):
            provider.delete(instance.id)
            why = reason("orphan-reaped", instance=instance.name, site=site)
            owner = instance.owner if self._known(instance.owner) else None
            event = Event(self._clock(), EventKind.ACTION, owner, why.sentence, code=why.code)
            self._repository.append([event])
            tell([event])

    def _known(self, id: DeploymentId) -> bool:
        try:
            return self._repository.deployment(id).status is DeploymentStatus.DELETE_COMPLETE
        except NotFound:
            return False
