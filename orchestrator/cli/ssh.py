"""``ssh``: onto a node, with a host key that is known before the first connection."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli import completion, resolve, session
from orchestrator.cli.resolve import segment
from orchestrator.errors import UserError

Json = dict[str, Any]

_HOST_KEY = re.compile(r"(ssh-[a-z0-9-]+|ecdsa-[a-z0-9-]+|sk-[a-z0-9@.-]+) [A-Za-z0-9+/=]+")
# No leading dash: what the API says never becomes an option of ssh.
_NAME = re.compile(r"[A-Za-z0-9_.:\[\]][A-Za-z0-9_.:\[\]-]*")


def ssh(
    context: typer.Context,
    node: Annotated[
        str,
        typer.Argument(metavar="NODE", help="A node.", autocompletion=completion.nodes),
    ],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND]...", help="What to run there; a shell when left out."),
    ] = None,
    identity: Annotated[
        Path | None, typer.Option("-i", "--identity", help="The private key to use.")
    ] = None,
) -> None:
    """Open a shell on a node, or run a command there.

    The exit code is that of ssh.  Options of the command follow after --.
    """
    current = session.of(context)
    if shutil.which("ssh") is None:
        raise UserError("There is no ssh on this machine.", attempt="install an OpenSSH client")
    owner, found = resolve.node(current.api, node)
    path = f"/deployments/{segment(owner['uuid'])}/resources/{segment(found['uuid'])}/ssh"
    access = current.api.get(path)
    with tempfile.TemporaryDirectory(prefix="vacuo-ssh-") as directory:
        known_hosts = Path(directory) / "known_hosts"
        known_hosts.write_text(known_hosts_of(found["uuid"], access))
        words = arguments(found["uuid"], access, known_hosts, identity) + (command or [])
        # Ctrl-C is for the far side: ssh passes it on, and this process only waits.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            ended = subprocess.run(words, check=False, preexec_fn=_interruptible)
        finally:
            signal.signal(signal.SIGINT, before)
    raise typer.Exit(ended.returncode if ended.returncode >= 0 else 128 - ended.returncode)


def known_hosts_of(name: str, access: Json) -> str:
    """The content of a known_hosts file for exactly this node."""
    keys = [key for key in access.get("hostKeys") or () if _HOST_KEY.match(key) and "\n" not in key]
    if not keys:
        raise UserError(
            f"The host key of node {name} is not known yet.",
            "Without it nobody can tell who answers at its address.",
            f"vacuo logs {name}",
            code="host-key-unknown",
        )
    return "".join(f"{name} {key}\n" for key in keys)


def arguments(name: str, access: Json, known_hosts: Path, identity: Path | None) -> list[str]:
    """The words of the ssh command: it accepts the keys of ``known_hosts`` and no others."""
    for word in (access["user"], access["address"]):
        if not _NAME.fullmatch(str(word)):
            raise UserError("The server gave an address that is none.", code="address-invalid")
    words = ["ssh", "-l", access["user"], "-p", str(int(access["port"]))]
    for option in (
        "StrictHostKeyChecking=yes",
        f"HostKeyAlias={name}",
        f"UserKnownHostsFile={known_hosts}",
        "GlobalKnownHostsFile=/dev/null",
        "UpdateHostKeys=no",
        "CheckHostIP=no",
    ):
        words += ["-o", option]
    key = identity or Path(access.get("keyFile") or os.devnull)
    if key.is_file() and os.access(key, os.R_OK):
        words += ["-i", str(key), "-o", "IdentitiesOnly=yes"]
    return [*words, "--", access["address"]]


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
