"""Where templates are read: by a process that has neither network nor files of the server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orchestrator
from orchestrator import data, sandbox
from orchestrator.sandbox import View
from orchestrator.settings import Settings, named_paths
from orchestrator.tosca.sandbox import COMMAND

WORKER = "orchestrator.tosca.worker"


def command(
    settings: Settings, worker: Sequence[str] = COMMAND, more: Sequence[Path] = ()
) -> tuple[str, ...]:
    """How ``worker`` is started so that it sees our own code and types, ``more``, and no more of
    this machine; as it is, where ``settings`` or the machine allow no sandbox.

    Raises :class:`~orchestrator.errors.UserError` where one is required and cannot be had.
    """
    package = Path(orchestrator.__file__).resolve().parent
    shown = (package, data.directory("tosca-templates"), *more)
    own = (settings.data_directory.resolve(), *named_paths(settings))
    view = View({path: path for path in shown}, hidden=own)
    found, _ = sandbox.choose(settings.sandbox, view, WORKER)
    return tuple(found.command(view, worker) if found else worker)
