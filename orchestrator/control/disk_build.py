"""Bake the roles of a group into a disk for clouds: the same oven, another base, another shelf.

Roles are applied to a container of the base, which is a machine's file system, and the container's
files become a disk that boots.  So a disk has what a container image of the same group has.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from orchestrator import data
from orchestrator.configure.ansible import AnsibleConfigurator
from orchestrator.configure.base import Configurator
from orchestrator.control import prepared
from orchestrator.control.image_build import Bakery, Built, Say, groups_of, own_installation
from orchestrator.errors import Terminal, UserError
from orchestrator.model import NodeGroup, Offer, SiteName
from orchestrator.providers import disk_assembly
from orchestrator.providers.container_engine import DIRECTORY_VARIABLE
from orchestrator.providers.disk_images import DiskImages, DiskNote
from orchestrator.providers.podman_configuration import free_subnet, routed_networks
from orchestrator.settings import Flavour, Settings, Site

SITE = "disk-images"
ARCHITECTURE = "x86_64"
OVEN = Flavour(name="oven", cores=1, memory_mb=2048, disk_gb=8)
GIB = 1 << 30


class Base(StrEnum):
    """The systems that disks can be made of, as ``images/cloud-*`` has them."""

    DEBIAN_12 = "debian-12"
    DEBIAN_13 = "debian-13"


@dataclass(frozen=True)
class Disk:
    """A disk for one group.  ``replaces`` is what clouds call the image that hosts of the group
    would be made from otherwise."""

    built: Built
    file: Path
    note: DiskNote
    replaces: str

    @property
    def properties(self) -> Mapping[str, str]:
        """What a cloud's image must say of itself, so that the planner finds it."""
        return {"vacuo_prepared": self.note.digest, "vacuo_base": self.replaces}

    @property
    def upload(self) -> str:
        """The command that gives it to an OpenStack."""
        return upload_command(self.file, self.properties, self.note.size)


def upload_command(file: Path, properties: Mapping[str, str], size: int) -> str:
    """How a disk of ``size`` bytes gets into an OpenStack, as a line for a shell."""
    words = ["openstack", "image", "create", "--disk-format", "qcow2", "--container-format", "bare"]
    words += ["--min-disk", str(-(-size // GIB)), "--file", str(file)]
    for name, value in properties.items():
        words += ["--property", f"{name}={value}"]
    return shlex.join([*words, file.stem])


def build(
    settings: Settings,
    template: str,
    inputs: Mapping[str, Any],
    *,
    base: Base,
    directory: Path,
    replaces: str | None = None,
    force: bool = False,
    say: Say = lambda _: None,
) -> list[Disk]:
    """Disks for all groups of ``template``, in ``directory``.

    Raises :class:`UserError` where a tool is missing or there is nothing to bake, and the errors of
    the compiler and of the ports.
    """
    disk_assembly.require_tools()
    groups = groups_of(settings, template, inputs)
    for group in groups:
        check(group)
    disks = []
    with own_installation(settings) as own:
        site = _site(own, reference := f"localhost/vacuo/cloud-{base.value}:current")
        ensure_base(base, site, say)
        configurator = AnsibleConfigurator(own, hidden=[settings.data_directory])
        bakery = Bakery(configurator, own.limits.boot_seconds, say)
        provider = DiskImages(site, own.data_directory, directory.absolute(), base.value)
        offer = Offer(
            SiteName(SITE), OVEN.name, OVEN.cores, OVEN.memory_mb, OVEN.disk_gb, reference
        )
        for group in groups:
            provider.carried = container_images(group, configurator)
            built = bakery.bake(SITE, provider, group, offer, force)
            note = provider.note(built.image.digest)
            if note is None:
                raise Terminal(f"{provider.file(built.image.digest)} went away as it was made.")
            disks.append(Disk(built, provider.file(note.digest), note, replaces or base.value))
    return disks


def check(group: NodeGroup) -> None:
    asked = group.requirements.architecture
    if asked != ARCHITECTURE or platform.machine() != ARCHITECTURE:
        raise UserError(
            f"No disk image can be made for group {group.name}.",
            f"Its hosts are {asked}, this machine is {platform.machine()}, and disks are made "
            f"for {ARCHITECTURE} only.",
            "docs/admin/images.md",
        )


def _site(settings: Settings, reference: str) -> Site:
    """Where the containers run: with the engine of the server's own local site, if it has one."""
    local = next((site for site in settings.sites if site.provider == "local"), None)
    return Site(
        name=SITE,
        provider="local",
        endpoint=local.endpoint if local else None,
        images={"default": reference},
        flavours=(OVEN,),
        network=f"vacuo-{SITE}",
        subnet=free_subnet(settings.data_directory, routed_networks()),
        options=local.options if local else {},
    )


def ensure_base(base: Base, site: Site, say: Say) -> None:
    """See that the container image is there that disks of ``base`` begin with: it is built if there
    is none, or if its recipe has changed."""
    say(f"{base.value}: looking for the base; the first time it takes a minute or two")
    recipe = f"cloud-{base.value}"
    command = [sys.executable, str(data.directory("images") / "build"), recipe]
    directory = site.options.get("engine_directory")
    environment = os.environ | ({DIRECTORY_VARIABLE: str(directory)} if directory else {})
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise Terminal(f"The base {recipe} was not built: {said[-1] if said else 'no message'}")


def container_images(group: NodeGroup, configurator: Configurator) -> Sequence[str]:
    """The container images that the group's roles will run, by the roles' variables that end with
    ``_image``."""
    found = set()
    for service in group.services:
        if configurator.preparation(service.role):
            variables = {**_defaults(service.role), **prepared.constants(service)}
            wanted = f"{service.role.rpartition('.')[2]}_image"
            found.add(variables.get(wanted, ""))
    return sorted(image for image in found if isinstance(image, str) and image)


def _defaults(role: str) -> Mapping[str, Any]:
    file = data.directory("ansible") / "roles" / role.rpartition(".")[2] / "defaults/main.yml"
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
