"""A place that keeps prepared hosts as disks for clouds: files, one qcow2 per image.

Hosts are made as local ones, from a base that is a machine's file system; kept, one becomes a disk
that boots.  Beside each disk lies a note, ``NAME.qcow2.json``, of what it is.  The two together are
the image: the note comes last, so there is none for half a disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import docker

from orchestrator.errors import Terminal
from orchestrator.model import InstanceId, PreparedImage
from orchestrator.providers import disk_assembly
from orchestrator.providers.container_engine import SHARED_IMAGES_IN_HOST
from orchestrator.providers.disk_assembly import Work
from orchestrator.providers.execution import Execution
from orchestrator.providers.local import LocalProvider
from orchestrator.providers.local_host import FORGET_ITSELF
from orchestrator.settings import Site

# What is not the host's: the kernel's, the engine's, and what it was told for the build.
_NOT_FILES = ("proc", "sys", "dev", "run", "tmp")
_NOT_ITS_OWN = ("etc/hosts", "etc/hostname", "etc/resolv.conf", SHARED_IMAGES_IN_HOST.lstrip("/"))
_TAR_SAW_A_CHANGE = 1
_WORK = ".vacuo-disk-"

# Images of the store that hosts here share must be the machine's own.  $@: their names.
CARRY_IMAGES = f"""\
export PODMAN_IGNORE_CGROUPSV1_WARNING=1
own=/run/vacuo-own-images.conf carried=/var/lib/containers/carried.tar
cat > $own <<CONF
[storage]
driver = "overlay"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
CONF
[ -d {SHARED_IMAGES_IN_HOST}/overlay-images ] || exit 0
for image; do
  CONTAINERS_STORAGE_CONF=$own podman image exists "$image" && continue
  podman image exists "$image" || continue
  podman save --quiet --output $carried "$image"
  CONTAINERS_STORAGE_CONF=$own podman load --quiet --input $carried
  rm $carried
done
"""


@dataclass(frozen=True)
class DiskNote:
    """What the note beside a disk says.  ``size`` is the disk's, in bytes."""

    image: str
    base: str
    digest: str
    base_content: str
    size: int
    sha256: str

    @property
    def prepared(self) -> PreparedImage:
        return PreparedImage(self.image, self.base, self.digest)


class DiskImages(LocalProvider):
    """A :class:`~orchestrator.providers.base.Provider` whose images are files in ``directory``,
    named after ``system`` and what they have in them.  ``carried`` are the container images that
    they must have."""

    def __init__(self, site: Site, data_directory: Path, directory: Path, system: str) -> None:
        super().__init__(site, data_directory)
        self._directory = directory
        self._system = system
        self.carried: Sequence[str] = ()

    def file(self, digest: str) -> Path:
        """Where the disk of this digest is, or will be."""
        return self._directory / f"vacuo-{self._system}-{digest}.qcow2"

    def note(self, digest: str) -> DiskNote | None:
        """What is known of a disk; None where there is none, or half of one."""
        file = self.file(digest)
        with contextlib.suppress(OSError, ValueError, TypeError):
            found = DiskNote(**json.loads(_note_of(file).read_text(encoding="utf-8")))
            if found.digest == digest and file.is_file():
                return found
        return None

    def prepared_images(self) -> Sequence[PreparedImage]:
        prefix = f"vacuo-{self._system}-"
        digests = [
            path.stem.removeprefix(prefix) for path in self._directory.glob(f"{prefix}*.qcow2")
        ]
        notes = [note for digest in sorted(digests) if (note := self.note(digest))]
        return [one.prepared for one in notes if one.base_content == self._image_id(one.base)]

    def keep_image(self, instance: InstanceId, name: PreparedImage) -> None:
        base_content = self._image_id(name.base)
        with _work_in(self._directory) as work:
            disk_assembly.unpack(self._files(instance), work.tree)
            draft = work.directory / "draft.qcow2"
            stamp = {"digest": name.digest, "base": self._system}
            size = disk_assembly.assemble(work, draft, stamp)
            note = DiskNote(name.image, name.base, name.digest, base_content, size, _sha256(draft))
            target = self.file(name.digest)
            _note_of(target).unlink(missing_ok=True)
            draft.replace(target)
            draft_note = work.directory / "note"
            draft_note.write_text(json.dumps(asdict(note), indent=2) + "\n", encoding="utf-8")
            draft_note.replace(_note_of(target))

    def _files(self, instance: InstanceId) -> Iterator[bytes]:
        """All files of a host that has forgotten itself, as a tar.

        Raises :class:`Terminal`, perhaps after the last piece.
        """
        self._in_host(instance, ["/bin/sh", "-ec", CARRY_IMAGES, "sh", *self.carried])
        self._in_host(instance, ["/bin/sh", "-ec", FORGET_ITSELF])
        command = ["tar", "--create", "--directory=/", "--numeric-owner", "--sparse"]
        command += ["--xattrs", "--xattrs-include=*", "--warning=no-file-changed"]
        command += [f"--exclude=./{name}/*" for name in (*_NOT_FILES, "var/log/journal")]
        command += [f"--exclude=./{name}" for name in _NOT_ITS_OWN]
        run = self._ask(lambda client: Execution(client, instance, [*command, "--file=-", "."]))
        yield from run.output()
        _check(run, "tar", (0, _TAR_SAW_A_CHANGE))

    def _in_host(self, instance: InstanceId, command: Sequence[str]) -> None:
        try:
            run = self._ask(lambda client: Execution(client, instance, command), again=False)
        except docker.errors.NotFound as error:
            raise Terminal(f"There is no instance {instance}.") from error
        for _ in run.output():
            pass
        _check(run, command[0])


def _check(run: Execution, command: str, good: Sequence[int] = (0,)) -> None:
    code = run.exit_code()
    if code not in good:
        why = run.complaint.splitlines()[-1][:300] if run.complaint else "no message"
        raise Terminal(f"{command} ended with {code} on the host: {why}.")


@contextlib.contextmanager
def _work_in(directory: Path) -> Iterator[Work]:
    """A place beside the result, so that that gets its name in one step; what builds that were
    killed left there is removed."""
    directory.mkdir(parents=True, exist_ok=True)
    for left in directory.glob(f"{_WORK}*"):
        with contextlib.suppress(OSError), (left / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    with contextlib.ExitStack() as stack:
        made = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=_WORK, dir=directory)))
        fcntl.flock(stack.enter_context((made / "lock").open("w")), fcntl.LOCK_EX)
        yield Work(made)


def _note_of(file: Path) -> Path:
    return file.with_name(file.name + ".json")


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
