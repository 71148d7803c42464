#!/usr/bin/env python3
"""XCache in a container: its configuration from the environment, its daemons, its health.

vacuo-xcache run [--config FILE]   run the daemons in the foreground; ends when one of them does
vacuo-xcache check [--live]        exit status 0 if it is well; otherwise 1, and why
vacuo-xcache render                print the configuration that `run` would use

The environment is described in xcache/README.md.  `--config FILE` takes a complete configuration
of XRootD instead; XCACHE_MODE and the rest then tell only what the health check has to look at.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import pwd
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from xcache_configuration import (
    CERTIFICATE,
    KEY,
    RUN,
    Settings,
    Wrong,
    authorisations,
    configuration,
    facts_of,
    read_settings,
)

STATE = RUN / "state.json"
CONFIGURATION = RUN / "xcache.cfg"
ORIGIN_TOKEN = RUN / "origin.token"
USER = "xrootd"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")

STOP_SECONDS = 8.0  # containers are given ten
LOOK_SECONDS = 0.2
WATCH_SECONDS = 30.0  # between two looks at daemons that ran before
STRIKES = 4  # so many failed looks in a row end the container
ANSWER_SECONDS = 10.0
CANARY_SECONDS = 60.0
ROOM_BYTES = 16 << 20

# --- the daemons ----------------------------------------------------------------------------------


def run(settings: Settings, given: Path | None) -> int:
    """Run the daemons until one ends or somebody stops us; 0 only if somebody did."""
    told: list[int] = []

    def tell(number: int, _: FrameType | None) -> None:
        told.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, tell)
    names = ("xrootd", "cmsd") if settings.clustered else ("xrootd",)
    account = pwd.getpwnam(USER) if os.geteuid() == 0 else None
    file = prepare(settings, given, account)
    copy_secrets(settings, account)
    daemons = {name: start(name, file, account) for name in names}
    pids = {name: daemon.pid for name, daemon in daemons.items()}
    STATE.write_text(json.dumps({"pids": pids, "settings": dataclasses.asdict(settings)}))
    why = watch(settings, daemons, told, account)
    for daemon in daemons.values():
        daemon.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for daemon in daemons.values():
        try:
            daemon.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            daemon.kill()
    if why:
        say(why)
    return 1 if why else 0


def watch(
    settings: Settings,
    daemons: Mapping[str, subprocess.Popen[bytes]],
    told: list[int],
    account: pwd.struct_passwd | None,
) -> str:
    """Wait for an end: why it came, or nothing if we were told to stop.

    A daemon that hangs is as dead as one that is gone, but a container manager does not see it.
    """
    strikes, looked = 0, time.monotonic()
    while not told:
        for name, daemon in daemons.items():
            if daemon.poll() is not None:
                return f"{name} ended with status {daemon.returncode}, so all ends"
        if time.monotonic() - looked > WATCH_SECONDS:
            looked = time.monotonic()
            copy_secrets(settings, account)
            why = not_live(settings, {name: one.pid for name, one in daemons.items()})
            strikes = strikes + 1 if why else 0
            if strikes == STRIKES:
                return f"{why}, {STRIKES} times in a row, so all ends"
        time.sleep(LOOK_SECONDS)
    return ""


def prepare(settings: Settings, given: Path | None, account: pwd.struct_passwd | None) -> Path:
    """Make the directories and files that the daemons need: the configuration to start them by."""
    RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    CONFIGURATION.write_text(configuration(settings))
    (RUN / "authdb").write_text(authorisations(settings))
    (RUN / "authdb").chmod(0o644)
    owned = [RUN]
    if settings.mode == "cache":
        root = Path(settings.path)
        owned += [root] if given else [root, *(root / n for n in ("namespace", "data", "meta"))]
    for path in owned:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        if account and path.stat().st_uid != account.pw_uid:
            os.chown(path, account.pw_uid, account.pw_gid)
    return given or CONFIGURATION


def copy_secrets(settings: Settings, account: pwd.struct_passwd | None) -> None:
    """Bring what only we may read to where the daemons may, again whenever it was renewed."""
    sources = (settings.certificate, settings.key, settings.origin_token)
    for source, target in zip(sources, (CERTIFICATE, KEY, ORIGIN_TOKEN), strict=True):
        if not source:
            continue
        try:
            content = Path(source).read_bytes()
            if target.exists() and target.read_bytes() == content:
                continue
            draft = target.with_suffix(".new")
            draft.touch(mode=0o600)
            draft.write_bytes(content)
            if account:
                os.chown(draft, account.pw_uid, account.pw_gid)
            draft.rename(target)
        except OSError as error:
            # A renewal that is under way is done at the next look; a first copy must succeed.
            if not target.exists():
                raise Wrong(f"{source} cannot be read: {error.strerror}.") from error


def start(name: str, file: Path, account: pwd.struct_passwd | None) -> subprocess.Popen[bytes]:
    """One daemon, in the foreground, without root's rights."""
    rights: dict[str, object] = {}
    if account:
        rights = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [name, "-c", str(file), "-n", "vacuo"],
        cwd=RUN,
        env=environment_of_daemons(),
        stdin=subprocess.DEVNULL,
        **rights,
    )


def environment_of_daemons() -> dict[str, str]:
    """Ours, with a home for the tokens' keys, and how the origin is known and asked."""
    added = {"HOME": str(RUN)}
    if ORIGIN_TOKEN.exists():
        added["BEARER_TOKEN_FILE"] = str(ORIGIN_TOKEN)
    if not {"X509_CERT_DIR", "X509_CERT_FILE"} & set(os.environ) and AUTHORITIES.exists():
        added["X509_CERT_FILE"] = str(AUTHORITIES)
    return os.environ | added


# --- health ---------------------------------------------------------------------------------------


def not_live(settings: Settings, pids: Mapping[str, int]) -> str:
    """Why a restart would help, or nothing."""
    try:
        for name, pid in pids.items():
            if not runs(name, pid):
                return f"{name} is dead or stopped"
        if not answers(settings.port):
            return f"xrootd does not answer on port {settings.port}"
        if settings.mode == "redirector":
            socket.create_connection(("127.0.0.1", settings.cmsd_port), ANSWER_SECONDS).close()
    except OSError as error:
        return f"a daemon does not answer: {error}"
    return ""


def not_well(settings: Settings) -> str:
    """Why nobody should read here, or nothing: the disk, the redirector, the canary."""
    if settings.mode == "cache":
        disk = os.statvfs(settings.path)
        if disk.f_bavail * disk.f_frsize < ROOM_BYTES:
            return f"the disk of {settings.path} is full"
        if settings.redirector and not connected(settings.cmsd_port):
            return f"it is not connected to the redirector {settings.redirector}"
    return canary_wrong(settings) if settings.canary and settings.mode != "redirector" else ""


def runs(name: str, pid: int) -> bool:
    """Whether ``pid`` is that daemon, and neither a zombie nor stopped (proc(5), stat)."""
    try:
        before, _, after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return False
    return before.endswith(f"({name}") and after.split()[0] not in "ZXTt"


def answers(port: int) -> bool:
    """The XRootD handshake (protocol reference, "Initial Handshake"): 20 bytes, then 16 back."""
    with socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS) as connection:
        connection.sendall(struct.pack("!5i", 0, 0, 0, 4, 2012))
        answer = b""
        while len(answer) < 16:
            part = connection.recv(16 - len(answer))
            if not part:
                return False
            answer += part
    return bool(struct.unpack("!2xH", answer[:4])[0] == 0)


def connected(port: int) -> bool:
    """Whether anything here has a connection to ``port`` elsewhere (proc_net_tcp, kernel docs)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                _, _, remote, state = line.split()[:4]
                if state == "01" and int(remote.rpartition(":")[2], 16) == port:
                    return True
    return False


def canary_wrong(settings: Settings) -> str:
    """Read the canary as a client does."""
    url = f"root://127.0.0.1:{settings.port}/{settings.canary}"
    command = ["xrdcp", "--silent", "--nopbar", url, "-"]
    try:
        read = subprocess.run(
            command, capture_output=True, timeout=CANARY_SECONDS, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return f"the canary could not be read within {CANARY_SECONDS:.0f} s"
    if read.returncode:
        lines = read.stderr.decode(errors="replace").strip().splitlines()
        return f"the canary cannot be read: {lines[-1] if lines else 'no reason given'}"
    if settings.canary_sha256 and hashlib.sha256(read.stdout).hexdigest() != settings.canary_sha256:
        return "the canary's SHA-256 is not the expected one"
    return ""


def check(live: bool) -> int:
    """Tell whether what `run` started is well; 0 is yes."""
    try:
        state = json.loads(STATE.read_text())
    except (OSError, ValueError):
        return failed("it has not started")
    settings = Settings(**state["settings"])
    why = not_live(settings, state["pids"]) or ("" if live else not_well(settings))
    return failed(why) if why else 0


def failed(why: str) -> int:
    say(f"not healthy: {why}")
    return 1


def say(text: str) -> None:
    print(f"vacuo-xcache: {text}", file=sys.stderr, flush=True)


# --------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="vacuo-xcache", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("what", nargs="?", default="run", choices=["run", "check", "render"])
    parser.add_argument("--config", type=Path, help="a complete configuration of XRootD")
    parser.add_argument("--live", action="store_true", help="check only what a restart would mend")
    chosen = parser.parse_args(arguments)
    if chosen.what == "check":
        return check(chosen.live)
    environment: Mapping[str, str] = os.environ
    try:
        if chosen.config:
            environment = {**facts_of(chosen.config.read_text()), **environment}
        settings = read_settings(environment)
        if chosen.what == "run":
            return run(settings, chosen.config)
        print(chosen.config.read_text() if chosen.config else configuration(settings), end="")
    except (Wrong, OSError) as wrong:
        say(str(wrong))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
