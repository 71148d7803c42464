"""What the roles write, rendered by Ansible itself and read by who will read it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import classad2
import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "ansible" / "roles"
NASTY = 'it\'s "quoted", a $(MACRO), $ENV(HOME) and a back\\slash'

EXECUTE = {
    "htcondor_execute_collector": "cm.example.org:9618",
    "htcondor_execute_trust_domain": "pool.example.org",
    "htcondor_execute_node": "worker-1",
    "htcondor_execute_deployment": "d-1",
    "htcondor_execute_site": "rack",
    "htcondor_execute_pool": "main",
}
VACUUM = EXECUTE | {
    "htcondor_execute_idle_seconds": 90,
    "htcondor_execute_lifetime_seconds": 7200,
    "htcondor_execute_drain_seconds": 600,
    "htcondor_execute_at_end": "poweroff",
    "htcondor_execute_cores": 4,
    "htcondor_execute_memory_mb": 3000,
    "htcondor_execute_start": 'TARGET.Owner =!= "mallory"',
    "htcondor_execute_administrator": "vacuo@pool.example.org",
    "htcondor_execute_attributes": {"Text": NASTY, "Count": 3, "Yes": True},
    "htcondor_execute_job_environment": {"NASTY": NASTY},
    "htcondor_execute_xcache": "10.0.0.2:1094",
    "htcondor_execute_proxy": "10.0.0.2:3128",
    "htcondor_execute_cvmfs_repositories": ["cms.cern.ch"],
    "htcondor_execute_configuration": {"NUM_CLAIMS": 7},
    "htcondor_execute_podman_options": ["--env=A=100% $B"],
}
CVMFS = {"cvmfs_repositories": ["cms.cern.ch", "sft.cern.ch"]}
SQUID = {"squid_destinations": [".cern.ch", "10.2.0.0/16", "fc00::/7"], "squid_disk_mb": 0}
PROBED: dict[str, Any] = {
    "stdout_lines": ["podman", "limits 20000 unlimited", "limits-missing", "hybrid-cgroups"]
}

# name of the file: role, template, variables
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "plain.conf": ("htcondor_execute", "50-vacuo.conf.j2", EXECUTE),
    "vacuum.conf": ("htcondor_execute", "50-vacuo.conf.j2", VACUUM),
    "plain.service": ("htcondor_execute", "vacuo-startd.service.j2", EXECUTE),
    "vacuum.service": ("htcondor_execute", "vacuo-startd.service.j2", VACUUM),
    "vacuo_startd.py": ("htcondor_execute", "vacuo-startd.j2", VACUUM),
    "squid.conf": ("squid", "squid.conf.j2", {}),
    "restricted.conf": ("squid", "squid.conf.j2", SQUID),
    "squid.service": ("squid", "vacuo-squid.service.j2", {}),
    "squid_check.py": ("squid", "vacuo-squid-check.j2", {}),
    "xcache.cfg": (
        "xcache",
        "xcache.cfg.j2",
        {"xcache_origin": "o.example.org:1094", "xcache_monitors": ["m.example.org:9930"]},
    ),
    "xcache_check.py": ("xcache", "vacuo-xcache-check.j2", {"xcache_canary_path": "/c"}),
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
    files.append(str(ROLES / "htcondor_execute/vars/main.yml"))
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


def parameters(config: Path, *names: str) -> dict[str, str]:
    """What HTCondor makes of a configuration file: a process of its own, for it reads it once."""
    code = "import htcondor2, json, sys; " + (
        "print(json.dumps({n: str(htcondor2.param.get(n, '')) for n in sys.argv[1:]}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *names],
        env=os.environ | {"CONDOR_CONFIG": str(config)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_htcondor_reads_the_plain_configuration_as_meant(rendered: Path) -> None:
    seen = parameters(
        rendered / "plain.conf",
        *("COLLECTOR_HOST", "TRUST_DOMAIN", "START", "STARTD_NOCLAIM_SHUTDOWN", "CCB_ADDRESS"),
        *("VacuoNode", "VacuoDeployment", "VacuoSite", "STARTD_ATTRS", "MASTER.DAEMON_SHUTDOWN"),
    )
    assert seen["COLLECTOR_HOST"] == seen["CCB_ADDRESS"] == "cm.example.org:9618"
    assert seen["TRUST_DOMAIN"] == "pool.example.org"
    assert seen["START"] == "(True)"
    assert seen["STARTD_NOCLAIM_SHUTDOWN"] in ("", "0")
    assert seen["MASTER.DAEMON_SHUTDOWN"] == ""
    assert seen["VacuoNode"] == '"worker-1"'
    assert {"VacuoNode", "VacuoDeployment", "VacuoSite"} <= set(seen["STARTD_ATTRS"].split())


def test_htcondor_reads_the_vacuum_as_meant(rendered: Path) -> None:
    seen = parameters(
        rendered / "vacuum.conf",
        *("STARTD_NOCLAIM_SHUTDOWN", "MASTER.DAEMON_SHUTDOWN", "NUM_CPUS", "MEMORY"),
        *("MAXJOBRETIREMENTTIME", "SHUTDOWN_GRACEFUL_TIMEOUT", "NUM_CLAIMS"),
        *("ALLOW_ADMINISTRATOR", "ALLOW_WRITE", "MASTER.DAEMON_SHUTDOWN_FAST"),
    )
    assert seen["STARTD_NOCLAIM_SHUTDOWN"] == "90"
    assert "STARTD_StartTime =?= 0" in seen["MASTER.DAEMON_SHUTDOWN"]
    assert "7200" in seen["MASTER.DAEMON_SHUTDOWN_FAST"]
    assert (seen["NUM_CPUS"], seen["MEMORY"], seen["NUM_CLAIMS"]) == ("4", "3000", "7")
    assert seen["ALLOW_ADMINISTRATOR"] == "root@pool.example.org, vacuo@pool.example.org"
    assert seen["ALLOW_WRITE"] == ""


def test_each_timeout_outlasts_the_one_before(rendered: Path) -> None:
    names = ("MachineMaxVacateTime", "MAXJOBRETIREMENTTIME", "SHUTDOWN_GRACEFUL_TIMEOUT")
    seen = parameters(rendered / "vacuum.conf", *names)
    vacate, retirement, shutdown = (int(seen[name]) for name in names)
    unit = (rendered / "vacuum.service").read_text()
    podman = int(unit.split("--stop-timeout ")[1].split()[0])
    systemd = int(unit.split("TimeoutStopSec=")[1].split()[0])
    # HTCondor evicts a job when no more than its vacate time is left of its retirement.
    assert retirement - vacate == 600
    assert retirement < shutdown < podman < systemd


def test_text_of_a_user_stays_text_in_a_classad(rendered: Path) -> None:
    seen = parameters(rendered / "vacuum.conf", "Text", "Count", "Yes")
    advertisement = classad2.ClassAd()
    for name, value in seen.items():
        advertisement[name] = classad2.ExprTree(value)
    assert advertisement.eval("Text") == NASTY
    assert advertisement.eval("Count") == 3
    assert advertisement.eval("Yes") is True


def test_jobs_find_their_environment_whatever_is_in_it(rendered: Path) -> None:
    value = parameters(rendered / "vacuum.conf", "STARTER_JOB_ENVIRONMENT")
    text = value["STARTER_JOB_ENVIRONMENT"]
    # HTCondor's new syntax: outer double quotes, inner ones doubled, single quotes around values.
    inner = text[1:-1].replace('""', '"')
    found = {}
    while inner:
        name, _, rest = inner.partition("='")
        value_text = ""
        while True:
            part, _, rest = rest.partition("'")
            value_text += part
            if not rest.startswith("'"):
                break
            value_text, rest = value_text + "'", rest[1:]
        found[name], inner = value_text, rest.lstrip()
    assert found == {
        "NASTY": NASTY,
        "VACUO_XCACHE": "root://10.0.0.2:1094",
        "VACUO_PROXY": "http://10.0.0.2:3128",
        "http_proxy": "http://10.0.0.2:3128",
    }


@pytest.mark.parametrize(
    ("age", "owner", "starts"),
    [(60, "alice", True), (60, "mallory", False), (6599, "alice", True), (6601, "alice", False)],
)
def test_jobs_start_until_the_machine_retires(
    rendered: Path, age: int, owner: str, starts: bool
) -> None:
    names = ("START", "GLIDEIN_ToRetire", "GLIDEIN_ToDie")
    seen = parameters(rendered / "vacuum.conf", *names)
    machine = classad2.ClassAd()
    for name in names:
        machine[name] = classad2.ExprTree(seen[name].replace("time()", "Now"))
    machine["DaemonStartTime"], machine["Now"] = 1000, 1000 + age
    machine["Requirements"] = classad2.ExprTree("MY.START")
    job = classad2.ClassAd({"Owner": owner, "Requirements": True})
    assert machine.symmetricMatch(job) is starts
    assert machine.eval("GLIDEIN_ToDie") == 8200


def test_a_host_powers_off_only_where_it_is_told_to(rendered: Path) -> None:
    assert "poweroff" not in (rendered / "plain.service").read_text()
    unit = (rendered / "vacuum.service").read_text()
    assert 'ExecStopPost=-/bin/sh -c \'[ "$$SERVICE_RESULT" != success ]' in unit
    assert "told-to-stop ] || exec systemctl --no-block poweroff'" in unit


def test_podman_gets_its_options_as_they_were_given(rendered: Path) -> None:
    unit = (rendered / "vacuum.service").read_text()
    assert '"--env=A=100%% $$B"' in unit
    command = unit.split("ExecStart=")[1].split("\nExecReload")[0]
    words = shlex.split(command.replace("\\\n", " "))
    assert words[-5:-1] == ["localhost/vacuo/services:current", "--", "/bin/sh", "-c"]
    assert words[-1].endswith("exec condor_master -f")


@pytest.mark.parametrize("name", ["vacuo_startd.py", "squid_check.py", "xcache_check.py"])
def test_every_helper_is_a_python_program(rendered: Path, name: str) -> None:
    compile((rendered / name).read_text(), name, "exec")


RUNNING = {"NeedDaemonReload": "no", "UnitFileState": "enabled", "ActiveState": "active"}
ENABLE, START = "enable --root=/ --quiet", "start --no-block"


@pytest.mark.parametrize(
    ("state", "commands", "told"),
    [
        ({}, [], []),
        ({"ActiveState": "activating"}, [], []),
        ({"NeedDaemonReload": "yes"}, ["daemon-reload"], []),
        ({"ActiveState": "failed"}, [START], ["started"]),
        ({"ActiveState": "deactivating"}, [START], ["started"]),
        (
            {"UnitFileState": "disabled", "ActiveState": "inactive"},
            [ENABLE, START],
            ["enabled", "started"],
        ),
    ],
)
def test_the_startds_unit_is_brought_up_by_what_is_missing_only(
    rendered: Path, tmp_path: Path, state: dict[str, str], commands: list[str], told: list[str]
) -> None:
    shown = "\n".join(f"{name}={value}" for name, value in (RUNNING | state).items())
    systemctl = tmp_path / "systemctl"
    act = f'echo "$@" >> {tmp_path}/log'
    systemctl.write_text(f"#!/bin/sh\nif [ $1 = show ]; then echo '{shown}'; else {act}; fi\n")
    systemctl.chmod(0o755)
    done = subprocess.run(
        [sys.executable, rendered / "vacuo_startd.py", "start"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    log = tmp_path / "log"
    ran = log.read_text().splitlines() if log.exists() else []
    assert [line.removesuffix(" vacuo-startd.service") for line in ran] == commands
    assert done.stdout.split() == told


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


def test_xcache_gets_enough_memory_to_start(rendered: Path) -> None:
    text = (rendered / "xcache.cfg").read_text()
    assert "pfc.ram 1024m\n" in text
    assert "pss.origin o.example.org:1094\n" in text
    assert "xrootd.mongstream pfc use flush 5s send json dflthdr m.example.org:9930\n" in text


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
