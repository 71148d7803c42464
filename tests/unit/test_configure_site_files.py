"""What the roles for a host, its engine, squid and CVMFS write on every family of systems.

Rendered by Ansible itself with each family's facts, and read by who will read it; what runs on
Debian 13 is run by molecule.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "ansible" / "roles"
NASTY = 'it\'s "quoted", a $(command), a `back` and a back\\slash'

FAMILIES: dict[str, dict[str, str]] = {
    f"{name}-{version}": {
        "distribution": name,
        "distribution_release": release,
        "distribution_version": version,
        "distribution_major_version": version.split(".")[0],
        "os_family": family,
    }
    for name, version, release, family in (
        ("Debian", "12.9", "bookworm", "Debian"),
        ("Debian", "13.1", "trixie", "Debian"),
        ("Ubuntu", "22.04", "jammy", "Debian"),
        ("Ubuntu", "24.04", "noble", "Debian"),
        ("AlmaLinux", "9.6", "Sage Margay", "RedHat"),
        ("AlmaLinux", "10.0", "Purple Lion", "RedHat"),
    )
}
DOMAIN = {
    "domain": "example.org",
    "servers": ["http://a.example.org/cvmfs/@fqrn@", "http://b.example.org/cvmfs/@fqrn@"],
    "keys": {"example.org": "PEM"},
}
CVMFS = {
    "cvmfs_repositories": ["cms.cern.ch", "sft-nightlies.cern.ch"],
    "cvmfs_proxies": ["auto", "10.0.0.2:3128"],
    "cvmfs_pac_urls": ["http://wpad.example.org/wpad.dat"],
    "cvmfs_parameters": {"CVMFS_CACHE_BASE": "/var/lib/cvmfs 2", "CVMFS_NASTY": NASTY},
    "cvmfs_domains": [DOMAIN],
}
FIREWALL = {
    "base_firewall_ssh_from": ["10.1.0.0/16", "2001:db8::/32"],
    "base_firewall_allow": [{"port": "9618-9620"}, {"port": "3130", "protocol": "udp"}],
    "base_firewall_interface_trusted": ["podman*"],
}
LIMITS = {"base_open_files": 131072, "base_processes": 500}
PROBED = {"stdout_lines": ["container", "open-files 20000", "processes unlimited"]}

# name of the file: role, template, variables
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "default.local": ("cvmfs", "default.local.j2", CVMFS),
    "domain.local": ("cvmfs", "domain.local.j2", CVMFS | {"item": DOMAIN}),
    "cms.mount": ("cvmfs", "cvmfs.mount.j2", CVMFS | {"item": "cms.cern.ch"}),
    "config.mount": ("cvmfs", "cvmfs.mount.j2", CVMFS | {"item": "cvmfs-config.cern.ch"}),
    "exec.service": ("cvmfs", "vacuo-cvmfsexec.service.j2", CVMFS),
    "cvmfs_check.py": ("cvmfs", "vacuo-cvmfs-check.j2", CVMFS | {"cvmfs_method": "mount"}),
    "siblings.conf": ("squid", "squid.conf.j2", {"squid_siblings": ["10.0.0.3", "10.0.0.4"]}),
    "workers.conf": ("squid", "squid.conf.j2", {"squid_workers": 4}),
    "workers.service": ("squid", "vacuo-squid.service.j2", {"squid_workers": 4}),
    "docker.service": ("squid", "vacuo-squid.service.j2", {"squid_engine": "docker"}),
    "firewall.nft": ("base", "firewall.nft.j2", FIREWALL),
    "services.conf": ("base", "limits-services.conf.j2", LIMITS | {"_base_probe": PROBED}),
    "logins.conf": ("base", "limits-logins.conf.j2", LIMITS | {"_base_probe": PROBED}),
    "chrony.conf": ("base", "chrony.conf.j2", {"base_time_servers": ["ntp.example.org"]}),
}


def _template(role: str, template: str, target: Path) -> dict[str, Any]:
    return {"src": str(ROLES / role / "templates" / template), "dest": str(target)}


def _play(name: str, roles: list[str], tasks: list[Any], files: list[str]) -> dict[str, Any]:
    defaults = [str(ROLES / role / "defaults/main.yml") for role in roles]
    return {
        "name": name,
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [*defaults, str(ROLES / "cvmfs/vars/main.yml"), *files],
        "tasks": tasks,
    }


def _of_family(directory: Path, name: str, facts: dict[str, str]) -> dict[str, Any]:
    family = facts["os_family"]
    repository = "cernvm.sources.j2" if family == "Debian" else "cernvm.repo.j2"
    engines = [
        {
            "name": engine,
            "ansible.builtin.copy": {
                "content": "{{ _container_runtime_packages | to_json }}",
                "dest": str(directory / f"{name}-{engine}.json"),
            },
            "vars": {"container_runtime_engine": engine},
        }
        for engine in ("podman", "docker")
    ]
    tasks: list[Any] = [
        {
            "name": "repository",
            "ansible.builtin.template": _template("cvmfs", repository, directory / f"{name}.repo"),
        },
        *engines,
    ]
    files = [str(ROLES / role / f"vars/{family}.yml") for role in ("cvmfs", "container_runtime")]
    play = _play(name, ["cvmfs", "container_runtime"], tasks, files)
    return play | {"vars": {"ansible_facts": facts}}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every case, rendered in one run of Ansible on this machine."""
    directory = tmp_path_factory.mktemp("rendered")
    cases: list[Any] = [
        {
            "name": name,
            "ansible.builtin.template": _template(role, template, directory / name),
            "vars": variables,
        }
        for name, (role, template, variables) in CASES.items()
    ]
    plays = [_play("cases", ["base", "cvmfs", "squid"], cases, [])]
    plays += [_of_family(directory, name, facts) for name, facts in FAMILIES.items()]
    (directory / "play.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
    command = [sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,", "-c", "local"]
    environment = {
        "ANSIBLE_HOME": str(directory / "home"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
    }
    done = subprocess.run(
        [*command, str(directory / "play.yml")],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def shell(file: Path) -> dict[str, str]:
    """The variables that a shell has after it has read ``file``."""
    done = subprocess.run(
        ["sh", "-c", f"set -a; . {shlex.quote(str(file))}; env -0"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if "=" in line)


def unit(file: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(file.read_text().replace("\\\n", " "))
    return parser


def test_a_shell_reads_every_value_of_the_cvmfs_client_as_it_was_given(rendered: Path) -> None:
    seen = shell(rendered / "default.local")
    assert seen["CVMFS_HTTP_PROXY"] == "auto|http://10.0.0.2:3128;DIRECT"
    assert seen["CVMFS_PAC_URLS"] == "http://wpad.example.org/wpad.dat"
    assert seen["CVMFS_REPOSITORIES"] == "cms.cern.ch,sft-nightlies.cern.ch"
    assert seen["CVMFS_NASTY"] == NASTY
    assert seen["CVMFS_CACHE_BASE"] == "/var/lib/cvmfs 2"
    # chksetup calls it an error there: it belongs to the configuration's package.
    assert "CVMFS_CONFIG_REPOSITORY" not in seen


def test_a_domain_of_ones_own_has_its_servers_and_keys(rendered: Path) -> None:
    seen = shell(rendered / "domain.local")
    assert seen["CVMFS_SERVER_URL"] == ";".join(DOMAIN["servers"])
    assert seen["CVMFS_KEYS_DIR"] == "/etc/cvmfs/keys/example.org"
    assert seen["CVMFS_USE_GEOAPI"] == "no"


def test_the_repository_with_the_settings_is_mounted_before_all_others(rendered: Path) -> None:
    cms, config = unit(rendered / "cms.mount"), unit(rendered / "config.mount")
    assert cms["Unit"]["RequiresMountsFor"] == "/cvmfs/cvmfs-config.cern.ch"
    assert (cms["Mount"]["What"], cms["Mount"]["Where"]) == ("cms.cern.ch", "/cvmfs/cms.cern.ch")
    assert cms["Mount"]["Type"] == "cvmfs"
    assert "RequiresMountsFor" not in config["Unit"]
    starts = [
        line.split()[-1]
        for line in (rendered / "exec.service").read_text().splitlines()
        if "mountrepo" in line and line.startswith("ExecStart=")
    ]
    assert starts == ["cvmfs-config.cern.ch", "cms.cern.ch", "sft-nightlies.cern.ch"]


SERVERS = "http://a/cvmfs/@fqrn@;http://b/cvmfs/@fqrn@"
DEAD = "Warning: failed to access http://{}/cvmfs/cms.cern.ch/.cvmfspublished through proxy {}"


@pytest.mark.parametrize(
    ("told", "status", "said"),
    [
        ("OK", 0, "OK"),
        # chksetup itself exits with 0 in all of these.
        (DEAD.format("a", "http://p:1"), 0, "OK"),
        (
            DEAD.format("a", "http://p:1") + "\n" + DEAD.format("b", "http://p:1"),
            1,
            "no server of cms.cern.ch can be reached through the proxy http://p:1",
        ),
        (DEAD.format("a", "DIRECT") + "\n" + DEAD.format("b", "DIRECT"), 0, "OK"),
        ("Error: unable to find cvmfs.auto or auto.master in any of the paths!", 0, "OK"),
        ("Error: no public keys in /k", 1, "Error: no public keys in /k"),
    ],
)
def test_the_check_reads_what_chksetup_writes(
    rendered: Path, tmp_path: Path, told: str, status: int, said: str
) -> None:
    program = tmp_path / "cvmfs_config"
    (tmp_path / "told").write_text(told)
    program.write_text(
        "#!/bin/sh\ncase $1 in\n"
        f"chksetup) cat {tmp_path}/told ;;\n"
        f"showconfig) echo \"CVMFS_SERVER_URL='{SERVERS}'    # from /etc\" ;;\nesac\n"
    )
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, rendered / "cvmfs_check.py"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.strip()) == (status, said)


@pytest.mark.parametrize("name", FAMILIES)
def test_upstreams_packages_are_where_upstream_has_them(rendered: Path, name: str) -> None:
    facts = FAMILIES[name]
    text = (rendered / f"{name}.repo").read_text()
    if facts["os_family"] == "Debian":
        fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        assert fields["URIs"] == "https://cvmrepo.s3.cern.ch/cvmrepo/apt/"
        assert fields["Suites"] == f"{facts['distribution_release']}-prod"
        assert fields["Signed-By"] == "/etc/apt/keyrings/cernvm.gpg"
        return
    repositories = configparser.ConfigParser(interpolation=None)
    repositories.read_string(text)
    base, major = "https://cvmrepo.s3.cern.ch/cvmrepo/yum", facts["distribution_major_version"]
    for section in ("cvmfs", "cvmfs-config"):
        assert repositories[section]["baseurl"] == f"{base}/{section}/EL/{major}/$basearch/"
        assert repositories[section]["gpgcheck"] == "1"
        assert repositories[section]["gpgkey"].startswith("file:///etc/pki/rpm-gpg/")


@pytest.mark.parametrize(
    ("name", "has", "lacks"),
    [
        ("Debian-12.9", {"netavark", "runc"}, "docker-cli"),
        ("Debian-13.1", {"netavark", "docker-cli"}, "containernetworking-plugins"),
        # Neither netavark nor aardvark-dns is in 22.04.
        ("Ubuntu-22.04", {"containernetworking-plugins", "docker.io"}, "netavark"),
        ("Ubuntu-24.04", {"netavark", "docker.io"}, "docker-cli"),
        ("AlmaLinux-9.6", {"podman", "container-selinux"}, "docker.io"),
        ("AlmaLinux-10.0", {"podman"}, "runc"),
    ],
)
def test_each_release_gets_the_packages_that_it_has(
    rendered: Path, name: str, has: set[str], lacks: str
) -> None:
    found = {
        package
        for engine in ("podman", "docker")
        for package in json.loads((rendered / f"{name}-{engine}.json").read_text())
    }
    assert has <= found
    assert lacks not in found


def armoured(body: bytes) -> str:
    packet = bytes([0x99]) + len(body).to_bytes(2, "big") + body
    lines = base64.encodebytes(packet).decode()
    begin, end = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
    return f"{begin}\nComment: a key\n\n{lines}=AAAA\n{end}\n"


def test_only_a_key_with_a_known_fingerprint_is_installed(tmp_path: Path) -> None:
    body = b"\x04" + b"a version 4 key" * 20
    fingerprint = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()
    key, target = tmp_path / "key", tmp_path / "keyrings" / "cernvm.gpg"
    key.write_text(armoured(body))

    def check(*allowed: str) -> subprocess.CompletedProcess[str]:
        program = ROLES / "cvmfs/files/check_key.py"
        command = [sys.executable, program, key, target, *allowed]
        return subprocess.run(command, capture_output=True, text=True)

    refused = check("0" * 40)
    assert refused.returncode == 1
    assert fingerprint in refused.stderr
    assert not target.exists()
    assert check(fingerprint).stdout == "changed\n"
    assert target.read_bytes() == bytes([0x99]) + len(body).to_bytes(2, "big") + body
    assert check(fingerprint).stdout == "unchanged\n"
    key.write_text("<html>not found</html>")
    assert "not an OpenPGP key" in check(fingerprint).stderr or check(fingerprint).returncode == 1


def test_siblings_are_asked_and_give_only_what_they_have(rendered: Path) -> None:
    lines = (rendered / "siblings.conf").read_text().splitlines()
    assert "cache_peer 10.0.0.3 sibling 3128 3130 proxy-only no-digest" in lines
    assert lines.index("miss_access deny siblings") < lines.index("miss_access allow all")
    assert lines.index("icp_access allow siblings") < lines.index("icp_access deny all")
    # Without it an origin that is nearer than 400 ms is asked before any sibling.
    assert "minimum_direct_rtt 0" in lines
    assert "icp_port 0" in (rendered / "workers.conf").read_text()


def test_several_workers_share_memory_and_a_rock_store(rendered: Path) -> None:
    text = (rendered / "workers.conf").read_text()
    assert "workers 4\nmemory_cache_shared on\n" in text
    assert "cache_dir rock /var/spool/squid 1000\n" in text
    start = unit(rendered / "workers.service")["Service"]["ExecStart"]
    assert "--shm-size 384m" in start
    assert "squid -N" not in start


def test_squid_runs_under_docker_too(rendered: Path) -> None:
    service = unit(rendered / "docker.service")["Service"]
    assert service["ExecStart"].startswith("/usr/bin/docker run ")
    assert "podman" not in service["ExecStart"] + service["ExecReload"] + service["ExecStop"]


def test_the_firewall_lets_in_what_was_named_and_touches_no_other_table(rendered: Path) -> None:
    rules = [line.strip() for line in (rendered / "firewall.nft").read_text().splitlines()]
    assert "ip saddr { 10.1.0.0/16 } tcp dport 22 accept" in rules
    assert "ip6 saddr { 2001:db8::/32 } tcp dport 22 accept" in rules
    assert "tcp dport 22 accept" not in rules
    assert "tcp dport 9618-9620 accept" in rules
    assert "udp dport 3130 accept" in rules
    assert 'iifname "podman*" accept' in rules
    tables = {rule for rule in rules if "table" in rule and not rule.startswith("#")}
    assert tables == {"table inet vacuo", "delete table inet vacuo", "table inet vacuo {"}


def test_limits_end_where_the_machine_does(rendered: Path) -> None:
    manager = unit(rendered / "services.conf")["Manager"]
    assert dict(manager) == {"DefaultLimitNOFILE": "20000", "DefaultLimitNPROC": "500"}
    assert "* - nofile 20000\n" in (rendered / "logins.conf").read_text()


def test_time_servers_are_written_for_chrony(rendered: Path) -> None:
    assert "server ntp.example.org iburst\n" in (rendered / "chrony.conf").read_text()
