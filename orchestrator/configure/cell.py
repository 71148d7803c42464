"""What a run of Ansible on this machine sees of it, and what keeps it from the rest."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator import sandbox
from orchestrator.reasons import reason
from orchestrator.sandbox import Sandbox, View
from orchestrator.settings import Settings, named_paths

log = logging.getLogger(__name__)

LONGEST_SOCKET_PATH = 107  # <sys/un.h>, less the final NUL
SOCKET_NAME_LENGTH = 32  # Ansible's hash below its directory, and what ssh appends at first


@dataclass(frozen=True)
class Cell:
    """Where runs take place.  ``sandbox`` is None where nothing keeps them in, and ``why_open``
    then says why.  ``view`` is what all runs see: the roles, and never the server's own files."""

    view: View
    sandbox: Sandbox | None
    why_open: str = ""

    @contextlib.contextmanager
    def scratch(self, run: Path) -> Iterator[Path]:
        """A directory for what Ansible and ssh leave lying, sockets too: its path is short."""
        own = run / "s"
        if self.sandbox:
            yield sandbox.SCRATCH
        elif len(str(own)) + SOCKET_NAME_LENGTH <= LONGEST_SOCKET_PATH:
            own.mkdir(mode=0o700)
            yield own
        else:
            with tempfile.TemporaryDirectory(prefix="vacuo-") as short:
                yield Path(short)

    def command(self, run: Path, events: Path, command: Sequence[str]) -> list[str]:
        """``command`` as it is started.  The run's directory must be complete: from now on it is
        read only, but for ``events`` in it."""
        if self.sandbox is None:
            return list(command)
        accounts = {"passwd": sandbox.ACCOUNT, "group": sandbox.GROUP}
        for name, text in accounts.items():
            (run / name).write_text(text)
        self.sandbox.entrust(run, [events])
        seen = {run: run, **{Path("/etc", name): run / name for name in accounts}}
        view = View({**self.view.readable, **seen}, [events], self.view.hidden, network=True)
        return self.sandbox.command(view, command, run)


def make(settings: Settings, readable: Mapping[Path, Path], hidden: Sequence[Path] = ()) -> Cell:
    """Where runs that read ``readable`` take place, as ``settings`` ask for and this machine can.
    What the server has by ``settings`` is hidden too.

    Raises :class:`UserError` where a sandbox is required and cannot be had.
    """
    own = [path.resolve() for path in (settings.data_directory, *hidden)]
    view = View(readable, hidden=(*own, *named_paths(settings)), network=True)
    found, why_not = sandbox.choose(settings.sandbox, view, "ansible")
    if found is None:
        log.warning("%s", reason("no-sandbox", why=why_not))
    return Cell(view, found, why_not)
