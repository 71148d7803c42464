"""Hosts for the scenarios of the roles, and the run of all scenarios.

Molecule's driver is the one that leaves hosts to us: ``create`` and ``destroy`` are called by the
playbooks in ``ansible/molecule`` and make the same hosts that a local site has.  What belongs to a
scenario carries the name of its network as a label, so that ``destroy`` finds it even if all that
an earlier run wrote down is lost.

    python -m testbed.molecule test [ROLE…]   # from anywhere: the whole matrix, or some roles

Hosts are of the Debian release that images/host names, or of the one in VACUO_MOLECULE_SUITE
(`images/build host-SUITE host-bare-SUITE` makes its images).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker.errors
import yaml

from orchestrator.errors import Retryable
from orchestrator.model import DeploymentId, NodeName, UserData
from orchestrator.providers.base import InstanceRequest
from orchestrator.providers.container_engine import connect, find_engine
from orchestrator.providers.local import LocalProvider
from orchestrator.providers.local_host import SITE
from orchestrator.providers.podman_configuration import free_subnet, routed_networks
from orchestrator.settings import Flavour, Site, SiteLimits

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = ROOT / "ansible"
LOGS = ROOT / "build" / "molecule"
OWNER = DeploymentId("molecule")
SUITE = "VACUO_MOLECULE_SUITE"
MEMORY_MB = 3072
PATIENCE_SECONDS = 120.0
AT_ONCE = 4
MOST_AGAIN = 2


@dataclass(frozen=True)
class Scenario:
    """One scenario as molecule's environment describes it.

    ``directory`` is molecule's own, for what lives as long as the hosts do.
    """

    name: str  # unique on this machine
    directory: Path
    instance_config: Path

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Scenario:
        project = Path(environment["MOLECULE_PROJECT_DIRECTORY"])
        scenario = environment["MOLECULE_SCENARIO_NAME"]
        # Two checkouts on one machine must not find each other's hosts.
        digest = hashlib.sha256(f"{project}/{scenario}".encode()).hexdigest()[:6]
        role = project.name.replace("_", "-")
        return cls(
            f"molecule-{role}-{digest}",
            Path(environment["MOLECULE_EPHEMERAL_DIRECTORY"]),
            Path(environment["MOLECULE_INSTANCE_CONFIG"]),
        )


# --- hosts ----------------------------------------------------------------------------------------


def create(scenario: Scenario, platforms: Sequence[Mapping[str, Any]]) -> None:
    """Start the hosts of ``platforms``, wait for them and tell molecule where they are.

    A platform may name an ``image`` (``default``, ``bare`` or a reference) and ``memory_mb``.
    """
    link_collection(scenario.directory / "collections")
    key = _key(scenario.directory / "id_ed25519")
    authorized = key.with_suffix(".pub").read_text()
    provider = _provider(scenario, platforms)
    for platform in platforms:
        name = str(platform["name"])
        user_data = UserData(authorized_keys=(authorized,))
        image = str(platform.get("image", ""))
        provider.create(InstanceRequest(name, OWNER, NodeName(name), name, image, user_data))
    addresses = {str(one["name"]): _address(provider, str(one["name"])) for one in platforms}
    hosts = [
        {
            "instance": name,
            "address": address,
            "user": "root",
            "port": 22,
            "identity_file": str(key),
        }
        for name, address in addresses.items()
    ]
    scenario.instance_config.write_text(yaml.safe_dump(hosts))


def destroy(scenario: Scenario) -> None:
    """Remove every host and network of ``scenario``, whoever made them."""
    client = connect(find_engine())
    for host in client.containers.list(all=True, filters={"label": f"{SITE}={scenario.name}"}):
        with contextlib.suppress(docker.errors.APIError):
            host.kill()
        with contextlib.suppress(docker.errors.NotFound):
            host.remove(force=True, v=True)
    for network in client.networks.list(names=[scenario.name]):
        if network.name == scenario.name:
            network.remove()
    scenario.instance_config.write_text("[]\n")


def link_collection(directory: Path) -> None:
    """Let Ansible find the checkout below ``directory`` under the collection's name."""
    link = directory / "ansible_collections" / "vacuo" / "site"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(COLLECTION)


def images(environment: Mapping[str, str]) -> dict[str, str]:
    """What a platform's ``image`` may be, for the Debian release that is to be tested."""
    suite = environment.get(SUITE, "")
    release = f"-{suite}" if suite else ""
    return {
        "default": f"localhost/vacuo/host{release}:current",
        "bare": f"localhost/vacuo/host-bare{release}:current",
    }


def _provider(scenario: Scenario, platforms: Sequence[Mapping[str, Any]]) -> LocalProvider:
    memory = {str(one["name"]): int(one.get("memory_mb", MEMORY_MB)) for one in platforms}
    site = Site(
        name=scenario.name,
        provider="local",
        images=images(os.environ),
        flavours=tuple(
            Flavour(name=name, cores=1, memory_mb=megabytes, disk_gb=1)
            for name, megabytes in memory.items()
        ),
        # What a scenario asks for is written in it; no quota of a site's applies.
        limits=SiteLimits(instances=99, cores=99, memory_mb=1 << 20),
        network=scenario.name,
        subnet=free_subnet(scenario.directory, routed_networks()),
    )
    return LocalProvider(site, scenario.directory)


def _key(path: Path) -> Path:
    if not path.exists():
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(command, check=True)
    return path


def _address(provider: LocalProvider, name: str) -> str:
    """The address of a host, once its sshd answers."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    seen = "not listed"
    while time.monotonic() < deadline:
        with contextlib.suppress(Retryable, OSError):
            (found,) = [one for one in provider.list(OWNER) if one.name == name]
            seen = f"{found.state} at {found.address}"
            if found.address:
                with socket.create_connection((found.address, 22), timeout=5.0) as connection:
                    if connection.recv(4) == b"SSH-":
                        return found.address
        time.sleep(0.1)
    raise TimeoutError(f"Host {name} does not answer on ssh after {PATIENCE_SECONDS:g} s ({seen}).")


# --- the matrix -----------------------------------------------------------------------------------


def roles() -> list[str]:
    """Every role that has a scenario."""
    found = (COLLECTION / "roles").glob("*/molecule/default/molecule.yml")
    return sorted(path.parents[2].name for path in found)


def _hosts(role: str) -> int:
    scenario = COLLECTION / "roles" / role / "molecule" / "default" / "molecule.yml"
    return len(yaml.safe_load(scenario.read_text())["platforms"])


def test(chosen: Sequence[str]) -> int:
    """Run the scenarios of ``chosen`` roles; returns how many failed.

    Those of many hosts begin, and several run at once.  One or two that fail run once more, alone:
    see :mod:`testbed.second_chance`.
    """
    unknown = sorted(set(chosen) - set(roles()))
    if unknown:
        print(f"There is no scenario for {', '.join(unknown)}. Try: {', '.join(roles())}.")
        return 2
    LOGS.mkdir(parents=True, exist_ok=True)
    failed = _run(sorted(chosen or roles(), key=_hosts, reverse=True), AT_ONCE)
    if not 0 < len(failed) <= MOST_AGAIN:
        return len(failed)
    print("Once more, alone:", *failed)
    again = _run(failed, 1)
    unsteady = [role for role in failed if role not in again]
    if unsteady:
        print("UNSTEADY: these failed among others and passed alone:", *unsteady)
    return len(again)


def _run(queue: Sequence[str], at_once: int) -> list[str]:
    """The roles of ``queue`` that failed."""
    failed = []
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        runs = {pool.submit(_test_role, role): role for role in queue}
        for run in concurrent.futures.as_completed(runs):
            role, (status, seconds) = runs[run], run.result()
            log = LOGS / f"{role}.log"
            print(
                f"{'ok    ' if status == 0 else 'FAILED'}  {role:<20} {seconds:4.0f} s", flush=True
            )
            if status != 0:
                failed.append(role)
                lines = log.read_text(errors="replace").splitlines()
                print("\n".join(lines[-80:]), f"\nthe whole of it: {log}", sep="\n", flush=True)
    return failed


def _test_role(role: str) -> tuple[int, float]:
    began = time.monotonic()
    programs = Path(sys.executable).parent
    with (LOGS / f"{role}.log").open("w") as log:
        done = subprocess.run(
            [str(programs / "molecule"), "--base-config", *_base_config(), "test"],
            cwd=COLLECTION / "roles" / role,
            env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return done.returncode, time.monotonic() - began


def _base_config() -> list[str]:
    # Said aloud, for molecule looks for it at the root of a git repository only.
    return [str(ROOT / ".config" / "molecule" / "config.yml")]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m testbed.molecule", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("create", help="called by molecule")
    actions.add_parser("destroy", help="called by molecule")
    actions.add_parser("test", help="run scenarios").add_argument("roles", nargs="*")
    chosen = parser.parse_args(arguments)
    if chosen.action == "test":
        return test(chosen.roles)
    scenario = Scenario.of(os.environ)
    if chosen.action == "create":
        create(scenario, json.loads(os.environ["VACUO_MOLECULE_PLATFORMS"]))
    else:
        destroy(scenario)
    return 0


if __name__ == "__main__":
    sys.exit(main())
