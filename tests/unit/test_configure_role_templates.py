"""What the roles write, rendered by Ansible itself and read by who will read it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "ansible" / "roles"

CVMFS = {"cvmfs_repositories": ["cms.cern.ch", "sft.cern.ch"]}
SQUID = {"squid_destinations": [".cern.ch", "10.2.0.0/16", "fc00::/7"], "squid_disk_mb": 0}
PROBED: dict[str, Any] = {
    "stdout_lines": ["podman", "limits 20000 unlimited", "limits-missing", "hybrid-cgroups"]
}

# name of the file: role, template, variables
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "squid.conf": ("squid", "squid.conf.j2", {}),
    "restricted.conf": ("squid", "squid.conf.j2", SQUID),
    "squid.service": ("squid", "vacuo-squid.service.j2", {}),
    "squid_check.py": ("squid", "vacuo-squid-check.j2", {}),
    "single.local": ("cvmfs", "default.local.j2", CVMFS),
    "proxies.local": (
        "cvmfs",
        "default.local.j2",
        CVMFS | {"cvmfs_proxies": ["a:3128", "b:3128"], "cvmfs_direct": True},
    ),
    "containers.conf": (
        "container_runtime",
        "containers.conf.j2",
        {"_container_runtime_probe": PROBED},
    ),
    "storage.conf": (
        "container_runtime",
        "storage.conf.j2",
        {"container_runtime_image_stores": ["/a", "/b"]},
    ),
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every case, rendered in one run of Ansible on this machine."""
    directory = tmp_path_factory.mktemp("rendered")
    tasks = [
        {
            "name": name,
            "ansible.builtin.template": {
                "src": str(ROLES / role / "templates" / template),
                "dest": str(directory / name),
            },
            "vars": variables,
        }
        for name, (role, template, variables) in CASES.items()
    ]
    files = [str(path) for path in ROLES.glob("*/defaults/main.yml")]
    play = {"hosts": "localhost", "gather_facts": False, "vars_files": files, "tasks": tasks}
    (directory / "play.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    command = [sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,"]
    done = subprocess.run(
        [*command, "-c", "local", str(directory / "play.yml")],
        env=os.environ
        | {"ANSIBLE_HOME": str(directory / "home"), "ANSIBLE_PYTHON_INTERPRETER": sys.executable},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


@pytest.mark.parametrize("name", ["squid_check.py"])
def test_every_helper_is_a_python_program(rendered: Path, name: str) -> None:
    compile((rendered / name).read_text(), name, "exec")


def test_squid_denies_what_nobody_allowed(rendered: Path) -> None:
    for name in ("squid.conf", "restricted.conf"):
        rules = [
            line
            for line in (rendered / name).read_text().splitlines()
            if line.startswith("http_access")
        ]
        assert rules[-1] == "http_access deny all"
        assert rules.index("http_access deny to_localhost") < rules.index(
            "http_access deny !allowed_ports"
        )


def test_squid_tells_domains_from_networks(rendered: Path) -> None:
    text = (rendered / "restricted.conf").read_text()
    assert "acl allowed_domains dstdomain .cern.ch\n" in text
    networks = text.split("acl allowed_networks dst ")[1].splitlines()[0].split()
    assert sorted(networks) == ["10.2.0.0/16", "fc00::/7"]
    assert "http_access allow clients\n" not in text
    assert "cache_dir" not in text


@pytest.mark.parametrize(
    ("name", "profile", "proxy"),
    [
        ("single.local", "single", "DIRECT"),
        ("proxies.local", "", "http://a:3128|http://b:3128;DIRECT"),
    ],
)
def test_a_shell_reads_the_cvmfs_configuration_as_meant(
    rendered: Path, name: str, profile: str, proxy: str
) -> None:
    script = f'. {rendered / name}; echo "$CVMFS_CLIENT_PROFILE,$CVMFS_HTTP_PROXY,$CVMFS_NFILES"'
    done = subprocess.run(
        ["sh", "-c", "ulimit -n 500; " + script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"{profile},{proxy},500"


def test_podman_is_fitted_to_a_machine_that_may_not_raise_limits(rendered: Path) -> None:
    import tomllib

    seen = tomllib.loads((rendered / "containers.conf").read_text())
    limits = ["nofile=20000:20000", "nproc=1048576:1048576"]
    assert seen["containers"]["default_ulimits"] == limits
    assert seen["engine"]["runtime"] == "runc"
    stores = tomllib.loads((rendered / "storage.conf").read_text())["storage"]["options"]
    assert stores["additionalimagestores"] == ["/a", "/b"]
