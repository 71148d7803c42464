"""Hosts on this machine: each is a container that runs systemd and sshd, with room for containers
of its own inside.

The engine is the only store of truth: a host's owner, node and size are labels on its container,
and the container's name is made of the installation and the request's name, so that the engine
itself refuses a second one.  Hosts of other installations on the same machine are never seen.
"""

from __future__ import annotations

import contextlib
import platform
import re
import shutil
import time
import uuid
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.types

from orchestrator.errors import OutcomeUnknown, QuotaExceeded, Retryable, Terminal, UserError
from orchestrator.model import (
    DeploymentId,
    Instance,
    InstanceId,
    Offer,
    PreparedImage,
    Quota,
    Rejection,
    Requirements,
    SiteName,
)
from orchestrator.providers.base import InstanceRequest
from orchestrator.providers.container_engine import locked
from orchestrator.providers.engine_client import (
    EngineClient,
    explanation,
    may_have_been_carried_out,
)
from orchestrator.providers.execution import execute
from orchestrator.providers.fit import exceeds, lacks, unmapped
from orchestrator.providers.local_host import (
    BASE,
    BASE_CONTENT,
    CORES,
    FORGET_ITSELF,
    INSTALLATION,
    MEMORY,
    NAME,
    OWNER,
    PREPARED,
    SITE,
    HostSetting,
    container_description,
    files_archive,
    instance_of,
    only_file,
)
from orchestrator.settings import Flavour, Site

DEFAULT_IMAGE = "localhost/vacuo/host:current"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)  # a label of a host name
_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"  # what the host images make at their first boot
_LOCKS = 16
_OPTIONS = {"engine_directory", "request_seconds"}


class LocalProvider:
    """The :class:`~orchestrator.providers.base.Provider` of a site of ``provider: local``.

    ``data_directory`` holds the installation's id.  The site's ``options`` may name
    ``engine_directory`` (where podman's stores are) and ``request_seconds`` (how long one request
    to the engine may take).
    """

    def __init__(self, site: Site, data_directory: Path) -> None:
        unknown = sorted(set(site.options) - _OPTIONS)
        if unknown:
            raise UserError(
                f"Site {site.name} has an option {unknown[0]} that local hosts do not know.",
                f"They know {' and '.join(sorted(_OPTIONS))}.",
                "remove it from the site's options",
                code="configuration-invalid",
            )
        self._site = site
        self._installation = installation_id(data_directory)
        self._data_directory = data_directory
        directory = site.options.get("engine_directory")
        self._client = EngineClient(
            Path(directory) if directory else None,
            site.endpoint,
            float(site.options.get("request_seconds", 60.0)),
        )
        self._ask = self._client.ask

    # --- what there is --------------------------------------------------------------------------

    def offers(self, need: Requirements) -> Sequence[Offer | Rejection]:
        machine = self._client.facts
        room = shutil.disk_usage(_existing(self._client.engine.directory)).free >> 30
        found = [self._offer(flavour, need, machine, room) for flavour in self._site.flavours]
        return sorted(found, key=lambda one: isinstance(one, Rejection))

    def _offer(
        self, flavour: Flavour, need: Requirements, machine: Mapping[str, Any], room_gb: int
    ) -> Offer | Rejection:
        site = SiteName(self._site.name)
        if need.architecture != platform.machine():
            why = f"this machine is {platform.machine()}, {need.architecture} is needed"
            return Rejection(site, flavour.name, why)
        cores, memory_mb = int(machine["NCPU"]), int(machine["MemTotal"]) >> 20
        why = (
            lacks(flavour, need)
            or exceeds(flavour, cores, memory_mb, room_gb)
            or unmapped(self._site.images, need.image)
        )
        if why:
            return Rejection(site, flavour.name, why)
        return Offer(
            site,
            flavour.name,
            flavour.cores,
            flavour.memory_mb,
            flavour.disk_gb,
            self._image(need.image),
            flavour.price_per_hour,
        )

    def quota(self) -> Quota:
        """Where the site sets no limit, cores and memory end where this machine's do."""
        machine = self._client.facts
        limits = self._site.limits
        hosts = self._containers()
        cores = int(machine["NCPU"]) if limits.cores is None else limits.cores
        whole = int(machine["MemTotal"]) >> 20
        memory = whole if limits.memory_mb is None else min(limits.memory_mb, whole)
        return Quota(
            instances=limits.instances,
            instances_used=len(hosts),
            cores=cores,
            cores_used=sum(int(host["Labels"].get(CORES, 0)) for host in hosts),
            memory_mb=memory,
            memory_mb_used=sum(int(host["Labels"].get(MEMORY, 0)) for host in hosts),
        )

    def list(self, owner: DeploymentId | None) -> Sequence[Instance]:
        labels = {} if owner is None else {OWNER: str(owner)}
        now = time.time()
        return [instance_of(host, now) for host in self._containers(labels)]

    # --- making and unmaking --------------------------------------------------------------------

    def create(self, request: InstanceRequest) -> InstanceId:
        """Create the host: container, files, start.  What is done already is not done again."""
        if not _NAME.fullmatch(request.name):
            raise Terminal(
                f"{request.name!r} cannot be the name of a host. Try: letters, digits and dashes, "
                "at most 63."
            )
        flavour = self._flavour(request.flavour)
        archive = files_archive(request.user_data, time.time())
        try:
            self._ensure_network()
            with locked(self._lock_of(request.name)):
                host = self._named(request.name) or self._reserve(request, flavour)
                if host["State"] == "created":
                    self._ask(lambda client: client.api.put_archive(host["Id"], "/", archive))
                    self._ask(lambda client: client.api.start(host["Id"]))
        except Retryable as error:
            if may_have_been_carried_out(error.__cause__):
                raise OutcomeUnknown(
                    f"The container engine did not answer whether host {request.name} was made."
                ) from error
            raise
        except docker.errors.NotFound as error:
            raise Retryable(f"Host {request.name} was removed while it was being made.") from error
        return InstanceId(host["Id"])

    def delete(self, instance: InstanceId) -> None:
        def kill_and_remove(client: docker.DockerClient) -> None:
            labels = client.api.inspect_container(instance)["Config"]["Labels"] or {}
            if labels.get(INSTALLATION) != self._installation:
                raise Terminal(f"Instance {instance} is not a host of this installation.")
            # A removal by force first waits out the stop time-out; a killed container has none.
            with contextlib.suppress(docker.errors.APIError):
                client.api.kill(instance, signal="SIGKILL")
            client.api.remove_container(instance, v=True, force=True)

        with contextlib.suppress(docker.errors.NotFound):
            self._ask(kill_and_remove)

    # --- looking into one -----------------------------------------------------------------------

    def console(self, instance: InstanceId, lines: int) -> str:
        try:
            raw: bytes = self._ask(
                lambda client: client.api.logs(instance, stdout=True, stderr=True, tail=lines)
            )
        except docker.errors.NotFound as error:
            raise Terminal(f"Site {self._site.name} has no instance {instance}.") from error
        return "\n".join(raw.decode("utf-8", errors="replace").splitlines()[-lines:])

    def host_keys(self, instance: InstanceId) -> Sequence[str]:
        try:
            archive = self._ask(
                lambda client: b"".join(client.api.get_archive(instance, _HOST_KEY)[0])
            )
        except docker.errors.NotFound as error:
            raise Retryable(f"Instance {instance} has no ssh host key yet.", 1.0) from error
        kind, key = only_file(archive).split()[:2]
        return [f"{kind} {key}"]

    # --- prepared images ------------------------------------------------------------------------

    def prepared_images(self) -> Sequence[PreparedImage]:
        known: dict[str, str] = {}

        def content(reference: str) -> str:
            if reference not in known:
                known[reference] = self._image_id(reference)
            return known[reference]

        listed = self._ask(lambda client: client.api.images(filters={"label": [PREPARED]}))
        found = []
        for image in listed:
            labels, tags = image.get("Labels") or {}, image.get("RepoTags") or []
            named = PreparedImage(tags[0] if tags else "", labels[BASE], labels[PREPARED])
            if named.image and labels.get(BASE_CONTENT) == content(named.base):
                found.append(named)
        return sorted(found, key=lambda image: image.image)

    def keep_image(self, instance: InstanceId, name: PreparedImage) -> None:
        repository, _, tag = name.image.rpartition(":")
        base = self._image_id(name.base)
        labels = {PREPARED: name.digest, BASE: name.base, BASE_CONTENT: base}

        def keep(client: docker.DockerClient) -> None:
            code, said = execute(client, instance, ["/bin/sh", "-ec", FORGET_ITSELF])
            if code != 0:
                why = said.decode(errors="replace")[-300:]
                raise Terminal(f"Host {instance[:12]} cannot be made an image: {why}")
            # It must not write any more, not even how it was stopped.
            client.api.kill(instance, signal="SIGKILL")
            client.api.commit(
                instance,
                repository=repository,
                tag=tag,
                changes=[f"LABEL {key}={value}" for key, value in labels.items()],
            )

        try:
            self._ask(keep, again=False)
        except docker.errors.NotFound as error:
            raise Terminal(f"Site {self._site.name} has no instance {instance}.") from error

    def _image_id(self, reference: str) -> str:
        """What is behind a reference now; empty where nothing is."""
        with contextlib.suppress(docker.errors.NotFound):
            found = self._ask(lambda client: client.images.get(reference).id)
            return str(found)
        return ""

    # --- how ------------------------------------------------------------------------------------

    def _lock_of(self, name: str) -> Path:
        """One of a few locks: two hosts may share one, two creations of a host always do."""
        return self._data_directory / f"create-{zlib.crc32(name.encode()) % _LOCKS}.lock"

    def _reserve(self, request: InstanceRequest, flavour: Flavour) -> Mapping[str, Any]:
        """Make the container without starting it; one at a time in this installation, so that the
        quota is not overrun."""
        with locked(self._data_directory / "create.lock"):
            self._check_quota(flavour)
            image = self._image(request.image)
            description = container_description(request, flavour, image, self._host_setting())
            name = f"vacuo-{self._installation}-{request.name}"
            try:
                made = self._ask(
                    lambda client: client.api.create_container_from_config(  # type: ignore[no-untyped-call]
                        description, name
                    ),
                    again=False,
                )
            except docker.errors.NotFound as error:
                raise Terminal(
                    f"Site {self._site.name} has no image {image}. Try: make images, or correct "
                    "the site's images in the configuration."
                ) from error
            return {"Id": made["Id"], "State": "created"}

    def _host_setting(self) -> HostSetting:
        engine, machine = self._client.engine, self._client.facts
        shared = str(engine.shared_images) if engine.shared_images.is_dir() else None
        return HostSetting(
            installation=self._installation,
            site=self._site.name,
            kind=str(engine.kind),
            network=self._site.network,
            shared_images=shared,
            limits_memory=bool(machine.get("MemoryLimit")),
            limits_cores=bool(machine.get("CpuCfsQuota")),
        )

    def _check_quota(self, flavour: Flavour) -> None:
        quota = self.quota()
        for what, limit, used, more in (
            ("instances", quota.instances, quota.instances_used, 1),
            ("cores", quota.cores, quota.cores_used, flavour.cores),
            ("MiB of memory", quota.memory_mb, quota.memory_mb_used, flavour.memory_mb),
        ):
            if limit is not None and used + more > limit:
                raise QuotaExceeded(
                    f"Site {self._site.name} allows {limit} {what}, {used} are in use and "
                    f"flavour {flavour.name} needs {more}."
                )

    def _ensure_network(self) -> None:
        name, subnet = self._site.network, self._site.subnet
        if self._network_exists():
            return
        ipam = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=subnet)])
        labels = {"vacuo.network": name}
        with locked(self._client.engine.runtime_directory / "networks.lock"):
            if self._network_exists():
                return
            try:
                self._ask(
                    lambda client: client.api.create_network(
                        name, driver="bridge", ipam=ipam, labels=labels
                    ),
                    again=False,
                )
            except (Retryable, Terminal) as error:
                if not isinstance(error.__cause__, docker.errors.APIError):
                    raise
                raise Terminal(
                    f"The network {name} with the addresses {subnet} cannot be made: "
                    f"{explanation(error.__cause__)}. Try: another network or subnet for site "
                    f"{self._site.name} in the configuration."
                ) from error

    def _network_exists(self) -> bool:
        name = self._site.network
        found = self._ask(lambda client: client.api.networks(names=[name]))
        return any(network["Name"] == name for network in found)

    def _containers(self, labels: Mapping[str, str] | None = None) -> Sequence[dict[str, Any]]:
        wanted = {INSTALLATION: self._installation, SITE: self._site.name, **(labels or {})}
        selection = {"label": [f"{key}={value}" for key, value in wanted.items()]}
        found: list[dict[str, Any]] = self._ask(
            lambda client: client.api.containers(all=True, filters=selection)
        )
        return found

    def _named(self, name: str) -> Mapping[str, Any] | None:
        return next(iter(self._containers({NAME: name})), None)

    def _flavour(self, name: str) -> Flavour:
        for flavour in self._site.flavours:
            if flavour.name == name:
                return flavour
        raise Terminal(f"Site {self._site.name} has no flavour {name}.")

    def _image(self, name: str) -> str:
        """The engine's reference for one of the site's names, or for a reference itself."""
        return self._site.images.get(name or "default", name or DEFAULT_IMAGE)


def installation_id(data_directory: Path) -> str:
    """Eight hex digits that tell the hosts of this data directory from all others; made once."""
    record = data_directory / "installation"
    with locked(data_directory / "installation.lock"):
        if not record.exists():
            draft = record.with_suffix(".draft")
            draft.write_text(uuid.uuid4().hex[:8] + "\n", encoding="ascii")
            draft.replace(record)
        return record.read_text(encoding="ascii").strip()


def _existing(directory: Path) -> Path:
    return next(path for path in (directory, *directory.parents) if path.exists())
