"""What a local host is to the container engine: pure translations, both ways.

:func:`container_description` is the body of the engine's *create* request (Docker's API, which
podman speaks too); :func:`instance_of` reads one entry of its *list* answer.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.model import DeploymentId, Instance, InstanceId, InstanceState, NodeName, UserData
from orchestrator.providers.base import InstanceRequest
from orchestrator.providers.container_engine import SHARED_IMAGES_IN_HOST
from orchestrator.settings import Flavour

INSTALLATION = "vacuo.installation"
SITE = "vacuo.site"
OWNER = "vacuo.owner"
NODE = "vacuo.node"
NAME = "vacuo.name"
CORES = "vacuo.cores"
MEMORY = "vacuo.memory_mb"

# Of an image: what was baked into which base, and what that base was then.
PREPARED = "vacuo.prepared"
BASE = "vacuo.base"
BASE_CONTENT = "vacuo.base_content"

# What is a host's own and must not be in an image: run on the host, by sh -e.
FORGET_ITSELF = """\
rm -f /etc/ssh/ssh_host_* /root/.ssh/authorized_keys /root/.bash_history
rm -f /etc/vacuo/pull.json /etc/systemd/system/multi-user.target.d/vacuo-configure.conf
rm -rf /root/.ansible /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
find /tmp /var/tmp -mindepth 1 -delete
find /var/log -type f -delete
rm -f /var/lib/systemd/random-seed /var/lib/dbus/machine-id
: > /etc/machine-id
"""

# A host whose creation was cut short before it was started; starting takes a fraction of a second.
NEVER_STARTED_SECONDS = 60.0


@dataclass(frozen=True)
class HostSetting:
    """What all hosts of one site have in common.  ``kind`` is the engine's name for itself."""

    installation: str
    site: str
    kind: str
    network: str
    shared_images: str | None  # a directory of this machine, or None to share none
    limits_memory: bool  # whether this machine's cgroups can
    limits_cores: bool


def container_description(
    request: InstanceRequest, flavour: Flavour, image: str, setting: HostSetting
) -> dict[str, Any]:
    """The container that is the host of ``request``."""
    host_config: dict[str, Any] = {
        # systemd mounts, and so do the container runtime and CVMFS inside.
        "Privileged": True,
        "CgroupnsMode": "private",
        "NetworkMode": setting.network,
        "Tmpfs": {"/run": "rw,nosuid,nodev,exec,mode=755", "/run/lock": "rw,nosuid,nodev"},
    }
    if setting.shared_images:
        host_config["Binds"] = [f"{setting.shared_images}:{SHARED_IMAGES_IN_HOST}:ro"]
    if setting.limits_memory:
        host_config["Memory"] = flavour.memory_mb << 20
    if setting.limits_cores:
        host_config["NanoCpus"] = flavour.cores * 10**9
    return {
        "Image": image,
        "Hostname": request.name,
        "Labels": {
            INSTALLATION: setting.installation,
            SITE: setting.site,
            OWNER: str(request.owner),
            NODE: str(request.node),
            NAME: request.name,
            CORES: str(flavour.cores),
            MEMORY: str(flavour.memory_mb),
        },
        # With a terminal, systemd reports its boot there: that is the console.
        "Tty": True,
        "Env": [f"container={setting.kind}", "SYSTEMD_COLORS=0", "TERM=dumb"],
        "StopSignal": "SIGRTMIN+3",
        # Container storage cannot lie on the overlay of another container.
        "Volumes": {"/var/lib/containers": {}},
        "HostConfig": host_config,
        "NetworkingConfig": {"EndpointsConfig": {setting.network: {}}},
    }


def files_archive(user_data: UserData, now: float) -> bytes:
    """The files of ``user_data``, authorised keys among them, as a tar relative to the root."""
    keys = "".join(f"{key.strip()}\n" for key in user_data.authorized_keys)
    files = {"/root/.ssh/authorized_keys": (0o600, keys), **user_data.files}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, (mode, text) in files.items():
            content = text.encode()
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode, entry.mtime = len(content), mode, int(now)
            archive.addfile(entry, io.BytesIO(content))
        end = archive.offset + 2 * tarfile.BLOCKSIZE
    # Python pads an archive to 20 blocks.  Podman's reader goes away at the second empty one, and
    # whoever still writes then gets a broken pipe: the archive must end where it ends.
    return buffer.getvalue()[:end]


def only_file(archive: bytes) -> str:
    """The text of the one file in ``archive``, a tar."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        file = files.extractfile(files.getmembers()[0])
        assert file is not None
        return file.read().decode()


def instance_of(host: Mapping[str, Any], now: float) -> Instance:
    """The instance that a listed container is; ``now`` tells a slow start from a lost one."""
    labels = host["Labels"]
    state, detail = _state(host, now)
    networks = (host.get("NetworkSettings") or {}).get("Networks") or {}
    addresses = [network["IPAddress"] for network in networks.values() if network.get("IPAddress")]
    return Instance(
        id=InstanceId(host["Id"]),
        name=labels.get(NAME, ""),
        state=state,
        owner=DeploymentId(labels.get(OWNER, "")),
        node=NodeName(labels.get(NODE, "")),
        address=addresses[0] if addresses and state is InstanceState.RUNNING else None,
        created_at=float(host["Created"]),
        detail=detail,
    )


def _state(host: Mapping[str, Any], now: float) -> tuple[InstanceState, str]:
    detail = str(host.get("Status", ""))
    match host["State"]:
        case "created" | "configured" | "initialized":
            if now - float(host["Created"]) > NEVER_STARTED_SECONDS:
                return InstanceState.FAILED, "created and never started"
            return InstanceState.STARTING, detail
        case "running" | "paused" | "restarting" | "stopping":
            return InstanceState.RUNNING, detail
        case "exited" | "stopped":
            return InstanceState.STOPPED, detail
        case "removing":
            return InstanceState.DELETING, detail
        case other:
            return InstanceState.FAILED, detail or str(other)
