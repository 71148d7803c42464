"""The pool's configuration as HTCondor reads it, and whom its mapfile lets in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.role_rendering import Cases, parameters, render

ROLE = "htcondor_pool"
BASE = {"htcondor_pool_collector": "cm.example.org:9618"}
FULL: dict[str, Any] = BASE | {
    "htcondor_pool_mode": "access_point",
    "htcondor_pool_trust_domain": "example.org",
    "htcondor_pool_name": "ap-2",
    "htcondor_pool_users": {"bob": 20002, "alice": 20001},
    "htcondor_pool_administrators": ["root@admin.example.org"],
    "htcondor_pool_cycle_seconds": 60,
    "htcondor_pool_max_jobs_per_owner": 77,
    "htcondor_pool_scitokens_audience": ["https://ap-2.example.org"],
    "htcondor_pool_issuers": [
        {"issuer": "https://iam.example.org/", "user": "bob"},
        {"issuer": "https://iam.example.org", "subject": "a+b.c/d", "user": "alice"},
        {"issuer": "https://iam.example.org", "subject": "pilots", "node": "cloud-a"},
    ],
    "htcondor_pool_certificate": "/etc/grid-security/host/cert.pem",
    "htcondor_pool_key": "/etc/grid-security/private/key.pem",
    "htcondor_pool_authorities": "/etc/pki/all.pem",
    "htcondor_pool_configuration": {"NUM_CLAIMS": 7},
}
CASES: Cases = {
    "both.conf": (ROLE, "50-vacuo.conf.j2", BASE),
    "manager.conf": (ROLE, "50-vacuo.conf.j2", BASE | {"htcondor_pool_mode": "central_manager"}),
    "full.conf": (ROLE, "50-vacuo.conf.j2", FULL),
    "issuers.conf": (ROLE, "50-vacuo.conf.j2", FULL | {"htcondor_pool_mode": "both"}),
    "address.conf": (
        *(ROLE, "50-vacuo.conf.j2"),
        FULL | {"htcondor_pool_mode": "both", "htcondor_pool_collector": "10.0.0.1:9618"},
    ),
    "mapfile": (ROLE, "mapfile.j2", FULL),
    "no-mapfile": (ROLE, "mapfile.j2", BASE),
    "accounts": (ROLE, "accounts.j2", FULL),
    "pool.service": (ROLE, "vacuo-pool.service.j2", FULL),
    "vacuo_pool.py": (ROLE, "vacuo-pool.j2", FULL),
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("pool"), CASES)


@pytest.mark.parametrize(
    ("mode", "daemons"),
    [
        ("both", "MASTER COLLECTOR NEGOTIATOR SCHEDD"),
        ("manager", "MASTER COLLECTOR NEGOTIATOR"),
        ("full", "MASTER SCHEDD"),
    ],
)
def test_the_daemons_are_those_of_the_mode(rendered: Path, mode: str, daemons: str) -> None:
    assert parameters(rendered / f"{mode}.conf", "DAEMON_LIST") == {"DAEMON_LIST": daemons}


def test_everybody_must_prove_who_they_are(rendered: Path) -> None:
    names = ("SEC_DEFAULT_AUTHENTICATION_METHODS", "SEC_DEFAULT_AUTHENTICATION", "TRUST_DOMAIN")
    seen = parameters(rendered / "both.conf", *names)
    assert list(seen.values()) == ["FS, IDTOKENS", "REQUIRED", "cm.example.org"]
    seen = parameters(rendered / "full.conf", *names)
    assert list(seen.values()) == ["FS, IDTOKENS, SCITOKENS", "REQUIRED", "example.org"]


def test_nobody_is_allowed_who_is_not_named(rendered: Path) -> None:
    names = ("ALLOW_READ", "ALLOW_WRITE", "SCHEDD.ALLOW_WRITE", "ALLOW_ADMINISTRATOR")
    names += ("ALLOW_ADVERTISE_STARTD", "ALLOW_DAEMON", "ALLOW_NEGOTIATOR")
    seen = parameters(rendered / "full.conf", *names)
    assert seen["ALLOW_READ"] == "*@example.org, *@nodes.example.org"
    assert seen["ALLOW_WRITE"] == ""
    users = "alice@example.org, bob@example.org, vacuo@example.org"
    assert seen["SCHEDD.ALLOW_WRITE"] == users
    assert seen["ALLOW_ADVERTISE_STARTD"] == "*@nodes.example.org"
    assert seen["ALLOW_DAEMON"] == seen["ALLOW_NEGOTIATOR"] == "condor@example.org"
    allowed = "condor@example.org, root@example.org, root@admin.example.org"
    assert seen["ALLOW_ADMINISTRATOR"] == allowed


def test_cycles_and_limits_are_as_asked(rendered: Path) -> None:
    names = ("NEGOTIATOR_INTERVAL", "NEGOTIATOR_CYCLE_DELAY", "SCHEDD_INTERVAL")
    names += ("MAX_JOBS_PER_OWNER", "SCHEDD_NAME", "NUM_CLAIMS")
    seen = parameters(rendered / "full.conf", *names)
    assert list(seen.values()) == ["60", "12", "60", "77", "ap-2@", "7"]


def who(mapfile: Path, told: str) -> str | None:
    """The account of the first line that matches, as HTCondor reads a mapfile."""
    for line in mapfile.read_text().splitlines():
        if line.startswith("SCITOKENS "):
            _, pattern, account = line.split(" ")
            assert pattern.startswith("/")
            assert pattern.endswith("/")
            if re.search(pattern[1:-1].replace("\\/", "/"), told):
                return account
    return None


@pytest.mark.parametrize(
    ("told", "account"),
    [
        ("https://iam.example.org,a+b.c/d", "alice"),
        ("https://iam.example.org/,a+b.c/d", "alice"),
        ("https://iam.example.org/,somebody", "bob"),
        ("https://iam.example.org/,aab.c/d", "bob"),
        ("https://iam.example.org/,a+b.c/d2", "bob"),
        ("https://iam.example.org/,pilots", "cloud-a@nodes.example.org"),
        ("https://iam.example.org/,pilots2", "bob"),
        ("https://iamXexample.org/,a+b.c/d", None),
        ("https://iam.example.org.evil.net/,a+b.c/d", None),
        ("https://evil.net/https://iam.example.org/,a+b.c/d", None),
        ("https://iam.example.org/sub,a+b.c/d", None),
        ("https://iam.example.org/,", None),
        ("http://iam.example.org/,a+b.c/d", None),
    ],
)
def test_a_token_is_its_users_only_as_a_whole(
    rendered: Path, told: str, account: str | None
) -> None:
    assert who(rendered / "mapfile", told) == account


def test_tokens_of_others_are_taken_inside_tls_only(rendered: Path) -> None:
    names = ("AUTH_SSL_SERVER_CERTFILE", "AUTH_SSL_SERVER_KEYFILE", "SCITOKENS_SERVER_AUDIENCE")
    seen = parameters(rendered / "full.conf", *names)
    assert seen["AUTH_SSL_SERVER_CERTFILE"] == "/mnt/certificate/cert.pem"
    assert seen["AUTH_SSL_SERVER_KEYFILE"] == "/mnt/key/key.pem"
    unit = (rendered / "pool.service").read_text()
    assert "--volume /etc/grid-security/host:/mnt/certificate:ro" in unit
    assert "--volume /etc/grid-security/private:/mnt/key:ro" in unit
    assert "--volume /etc/pki/all.pem:/etc/ssl/certs/ca-certificates.crt:ro" in unit


@pytest.mark.parametrize(
    ("mode", "named"), [("issuers", True), ("address", False), ("full", False), ("both", False)]
)
def test_the_central_manager_is_called_as_its_certificate_says(
    rendered: Path, mode: str, named: bool
) -> None:
    seen = parameters(rendered / f"{mode}.conf", "HOST_ALIAS")["HOST_ALIAS"]
    assert (seen == "cm.example.org") is named  # otherwise it is the name of the host


def test_without_issuers_the_mapfile_lets_nobody_in(rendered: Path) -> None:
    assert "SCITOKENS" not in (rendered / "no-mapfile").read_text()


def test_accounts_keep_their_numbers(rendered: Path) -> None:
    lines = (rendered / "accounts").read_text().splitlines()
    assert [line for line in lines if line.startswith("account ")] == [
        "account alice 20001",
        "account bob 20002",
    ]


def test_the_helper_is_a_python_program(rendered: Path) -> None:
    compile((rendered / "vacuo_pool.py").read_text(), "vacuo_pool.py", "exec")


def test_a_stop_leaves_running_jobs_alone(rendered: Path) -> None:
    unit = (rendered / "pool.service").read_text()
    assert "--stop-signal SIGQUIT" in unit
