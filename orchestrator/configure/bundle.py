"""What a host needs to configure itself: what it is given at its creation, and the bundle of a run.

The bundle is a tar.gz of plain files: our collection, the same play and variables that a run over
ssh has (:mod:`orchestrator.configure.run_files`), and an inventory that is the host itself; the
collection has the callback plugin that tells what happens.  It holds secrets, and exists in memory
only.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import yaml

from orchestrator.configure import run_files
from orchestrator.configure.base import Bundle, HostToConfigure, PullOrder
from orchestrator.configure.run_events import secrets_of
from orchestrator.model import UserData

ORDER_FILE = "/etc/vacuo/pull.json"
_ON_HOST = Path(__file__).resolve().parent / "node"
_RUN = "/run/vacuo-configure/run"  # where vacuo-configure unpacks it
_UNIT = "/etc/systemd/system/vacuo-configure.service"
# A drop-in instead of the link that `systemctl enable` makes: a plain file is all that every
# provider can put on a host.
_ENABLED = "/etc/systemd/system/multi-user.target.d/vacuo-configure.conf"
_LEFT_OUT = ("molecule", "tests", "__pycache__")

# All of it is below /run: memory, and nobody's but root's.
_CONFIGURATION = f"""\
[defaults]
home = {_RUN}/home
local_tmp = {_RUN}/temporary
remote_tmp = {_RUN}/temporary
collections_path = {_RUN}/collections
roles_path = {_RUN}/collections
callbacks_enabled = vacuo.site.report
forks = 1
{run_files.EVERYWHERE}"""


def user_data(order: PullOrder, authorized_keys: Sequence[str] = ()) -> UserData:
    """The files by which a host configures itself as it boots."""
    wish = {"url": order.url, "credential": order.credential}
    enabled = "[Unit]\nWants=vacuo-configure.service\n"
    return UserData(
        tuple(authorized_keys),
        {
            ORDER_FILE: (0o600, json.dumps(wish) + "\n"),
            "/usr/local/sbin/vacuo-configure": (0o755, _shipped("vacuo-configure")),
            _UNIT: (0o644, _shipped("vacuo-configure.service")),
            _ENABLED: (0o644, enabled),
        },
    )


def pack(host: HostToConfigure, collection: Path) -> Bundle:
    """The bundle of ``host``; its calls were checked."""
    inventory = {"all": {"hosts": {str(host.node): {"ansible_connection": "local"}}}}
    own = {
        "ansible.cfg": _CONFIGURATION,
        "inventory.yml": yaml.safe_dump(inventory),
        "play.yml": run_files.play("ansible.builtin.linear", [host]),
        f"host_vars/{host.node}.yml": run_files.host_variables(host),
        "secrets.json": json.dumps(secrets_of([host])),
    }
    files = {**_collection(collection), **{name: text.encode() for name, text in own.items()}}
    archive = gzip.compress(_tar(files), 6, mtime=0)
    return Bundle(archive, hashlib.sha256(archive).hexdigest())


def roles_digest(collection: Path) -> str:
    """SHA-256 over the names and contents of the collection's files."""
    return _digest(collection, _newest(collection))


@lru_cache(maxsize=2)
def _digest(collection: Path, newest: int) -> str:
    seen = hashlib.sha256()
    for name, content in sorted(_read_collection(collection, newest).items()):
        seen.update(f"{name} {len(content)}\n".encode() + content)
    return seen.hexdigest()


def _tar(files: Mapping[str, bytes]) -> bytes:
    """The files in the order of their names: the same content is the same archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(files[name]), 0o600
            archive.addfile(entry, io.BytesIO(files[name]))
    return buffer.getvalue()


def _collection(source: Path) -> Mapping[str, bytes]:
    """The collection's files by their names in the bundle, without what only developers need."""
    return _read_collection(source, _newest(source))


def _newest(source: Path) -> int:
    """Changes with every file that is written, made or removed: directories count too."""
    return max(path.stat().st_mtime_ns for path in source.rglob("*"))


@lru_cache(maxsize=2)
def _read_collection(source: Path, _newest: int) -> Mapping[str, bytes]:
    """Read once as long as nothing changes: hundreds of hosts may ask at the same time."""
    found = {}
    for path in source.rglob("*"):
        inside = path.relative_to(source)
        if path.is_file() and not set(inside.parts) & set(_LEFT_OUT):
            found[f"collections/ansible_collections/vacuo/site/{inside}"] = path.read_bytes()
    return found


def _shipped(name: str) -> str:
    return (_ON_HOST / name).read_text(encoding="utf-8")
