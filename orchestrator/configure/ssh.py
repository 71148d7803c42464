"""Hosts over ssh, without Ansible: whether one is there, and one file put on it."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import tempfile
from pathlib import Path

from orchestrator.configure import run_files
from orchestrator.configure.base import HostToConfigure, SecretFile
from orchestrator.errors import Retryable, Terminal

PORT = 22
PROBE_SECONDS = 1.0
CONNECT_SECONDS = 5
PUT_SECONDS = 20.0
_PATH = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+")


def answers(address: str) -> bool:
    """Whether an ssh server greets us; a port that is merely open may be an init still starting."""
    try:
        with socket.create_connection((address, PORT), timeout=PROBE_SECONDS) as connection:
            connection.settimeout(PROBE_SECONDS)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def put(host: HostToConfigure, file: SecretFile, private_key: Path) -> None:
    """See :meth:`orchestrator.configure.base.Configurator.put_secret`.

    The content goes through standard input: no process has it among its arguments.  It is written
    beside the file and renamed, so that whoever reads finds the old or the new, and only where the
    directory is there already: nothing is made on a host that was never configured.
    """
    run_files.check(host, ())
    if not _PATH.fullmatch(file.path):
        raise Terminal("The path of a secret file is not plain.")
    directory_of_it, _, name = file.path.rpartition("/")
    # Hidden: HTCondor takes any other file of the directory for a token.
    draft = shlex.quote(f"{directory_of_it}/.{name}.new")
    script = f"umask 077 && cat > {draft} && mv -f {draft} {shlex.quote(file.path)}"
    with tempfile.TemporaryDirectory(prefix="vacuo-") as directory:
        known = Path(directory) / "known_hosts"
        known.write_text(run_files.known_hosts([host]))
        options = [*run_files.SSH_OPTIONS, f"ConnectTimeout={CONNECT_SECONDS}"]
        command = ["ssh", "-F", "/dev/null", "-i", str(private_key)]
        command += ["-o", f'UserKnownHostsFile="{known}"']
        command += [word for option in options for word in ("-o", option)]
        command += ["-l", "root", "--", host.address, script]
        try:
            done = subprocess.run(
                command,
                input=file.content.encode(),
                capture_output=True,
                timeout=PUT_SECONDS,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Retryable(f"Node {host.node} does not answer: {type(error).__name__}.") from None
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise Retryable(f"Node {host.node} did not take the file: {last[0][:200]}.")
