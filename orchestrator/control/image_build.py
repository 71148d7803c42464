"""Bake the roles of a group into an image: make a host, apply them, keep it.

The host is made by the site's own provider and configured by the server's own configurator, so an
image is what its hosts would have become, up to what only they can know.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.configure.ansible import AnsibleConfigurator
from orchestrator.configure.base import Configurator, HostToConfigure, RoleCall, TaskStatus
from orchestrator.control import assembly, prepared
from orchestrator.control.concealing import conceal
from orchestrator.errors import PortError, Retryable, Terminal, UserError
from orchestrator.model import (
    DeploymentId,
    Instance,
    InstanceState,
    NodeGroup,
    NodeName,
    Offer,
    PreparedImage,
    Rejection,
)
from orchestrator.providers.base import InstanceRequest, Provider
from orchestrator.settings import Settings, Site
from orchestrator.tosca.sandbox import Compiler

OWNER = DeploymentId("image-build")
TRY_SECONDS = 0.5
REMOVE_SECONDS = 60.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """An image for one group; ``fresh`` is False where it was there already."""

    group: str
    site: str
    image: PreparedImage
    tasks: int
    seconds: float
    fresh: bool


def build(
    settings: Settings,
    template: str,
    inputs: Mapping[str, Any],
    *,
    site: str | None = None,
    force: bool = False,
    say: Say = lambda _: None,
) -> list[Built]:
    """Images for all groups of ``template``, at ``site`` or the first one that takes the group.

    Raises :class:`UserError` where there is no such site or nothing to bake, and the errors of the
    compiler and of the ports.
    """
    groups = groups_of(settings, template, inputs)
    built = []
    with own_installation(settings) as own:
        bakery = Bakery(
            AnsibleConfigurator(own, hidden=[settings.data_directory]), own.limits.boot_seconds, say
        )
        for group in groups:
            chosen, offer = _place(own, group, site)
            provider = assembly.provider(chosen, own)
            built.append(bakery.bake(chosen.name, provider, group, offer, force))
    return built


def groups_of(
    settings: Settings, template: str, inputs: Mapping[str, Any]
) -> tuple[NodeGroup, ...]:
    """The groups of ``template``, without secrets: a host is given them when it is configured."""
    compiler = Compiler(settings.limits)
    try:
        return conceal(
            compiler.compile(template, inputs), inputs, lambda name, text: ""
        ).spec.groups
    finally:
        compiler.close()


@contextlib.contextmanager
def own_installation(settings: Settings) -> Iterator[Settings]:
    """Settings for a build, whose own directory is their own installation: a running server must
    not take its hosts for lost.  One build at a time: what it finds was left by one that died."""
    own = settings.model_copy(update={"data_directory": settings.data_directory / "image-builds"})
    own.data_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (own.data_directory / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                "Another image build of this server is going on.",
                "There is one at a time.",
                "wait for it, or end it",
                code="conflict",
                status=409,
            ) from None
        yield own


def _place(settings: Settings, group: NodeGroup, name: str | None) -> tuple[Site, Offer]:
    sites = [one for one in settings.sites if name in (None, one.name)]
    if not sites:
        raise UserError(
            f"There is no site {name}." if name else "The configuration has no site.",
            attempt="vacuo server config",
            code="not-found",
            status=404,
        )
    why = []
    for site in sites:
        for offer in assembly.provider(site, settings).offers(group.requirements):
            if isinstance(offer, Rejection):
                why.append(f"{offer.site}/{offer.flavour}: {offer.why}")
            else:
                return site, offer
    raise UserError(
        f"No site takes a host of group {group.name}.", f"{'; '.join(why)}.", "vacuo server config"
    )


class Bakery:
    """Bakes images at the sites of one server."""

    def __init__(self, configurator: Configurator, boot_seconds: float, say: Say) -> None:
        self._configurator = configurator
        self._boot_seconds = boot_seconds
        self._say = say

    def bake(
        self, site: str, provider: Provider, group: NodeGroup, offer: Offer, force: bool
    ) -> Built:
        """The image of ``group`` on the offer's base; made unless it is there."""
        began = time.monotonic()
        digest = prepared.digest(group, self._configurator.roles_digest())
        image = prepared.named(offer.image, digest)
        if not force and image in provider.prepared_images():
            return Built(group.name, site, image, 0, 0.0, False)
        calls = self._calls(group)
        request = InstanceRequest(
            name=f"image-{digest}",
            owner=OWNER,
            node=NodeName(f"image-{digest}"),
            flavour=offer.flavour,
            image=offer.image,
            user_data=self._configurator.bootstrap(),
        )
        self._say(f"{group.name}: a host of {site}/{offer.flavour} from {offer.image}")
        self._remove_hosts(provider)
        provider.create(request)
        try:
            host = self._boot(provider, request.name)
            tasks = self._apply(replace(host, roles=calls), image)
            instance = self._instance(provider, request.name)
            provider.keep_image(instance.id, image)
        finally:
            self._remove_hosts(provider)
        return Built(group.name, site, image, tasks, time.monotonic() - began, True)

    def _calls(self, group: NodeGroup) -> tuple[RoleCall, ...]:
        calls = []
        for service in group.services:
            entry = self._configurator.preparation(service.role)
            if entry:
                variables = prepared.constants(service)
                calls.append(RoleCall(service.role, service.template, variables, entry=entry))
        if not calls:
            raise UserError(
                f"There is nothing to bake for group {group.name}.",
                "None of its roles has a tasks/prepare.yml.",
                "see docs/admin/images.md",
            )
        return tuple(calls)

    def _instance(self, provider: Provider, name: str) -> Instance:
        for instance in provider.list(OWNER):
            if instance.name == name:
                return instance
        raise Terminal(f"The host {name} is not among its site's instances.")

    def _boot(self, provider: Provider, name: str) -> HostToConfigure:
        deadline = time.monotonic() + self._boot_seconds
        while time.monotonic() < deadline:
            instance = self._instance(provider, name)
            if instance.state is InstanceState.FAILED:
                raise Terminal(f"The host {name} did not start: {instance.detail}")
            if instance.address and self._configurator.answers(instance.address):
                try:
                    keys = tuple(provider.host_keys(instance.id))
                    return HostToConfigure(instance.node, instance.address, keys, ())
                except Retryable:
                    pass
            time.sleep(TRY_SECONDS)
        raise Terminal(f"The host {name} did not answer on ssh within {self._boot_seconds:g} s.")

    def _apply(self, host: HostToConfigure, image: PreparedImage) -> int:
        tasks = 0
        for event in self._configurator.apply([host], f"image-{image.digest}"):
            if event.status.failed:
                raise Terminal(f"{event.task} failed: {event.message}")
            if not event.status.ends:
                tasks += event.status is not TaskStatus.SKIPPED
                self._say(f"{event.status.value} {event.role.rpartition('.')[2]}: {event.task}")
        return tasks

    def _remove_hosts(self, provider: Provider) -> None:
        """Of this build, and of builds that were killed.  Whatever they leave, the next removes."""
        deadline = time.monotonic() + REMOVE_SECONDS
        while True:
            try:
                for instance in provider.list(OWNER):
                    provider.delete(instance.id)
                return
            except PortError as error:
                if not isinstance(error, Retryable) or time.monotonic() > deadline:
                    self._say(f"a host may be left: {error}")
                    return
            time.sleep(TRY_SECONDS)
