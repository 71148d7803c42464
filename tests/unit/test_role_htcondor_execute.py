"""The startd's configuration as HTCondor reads it: slots, and which jobs start."""

from __future__ import annotations

import base64
import importlib.machinery
import importlib.util
import json
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import classad2
import pytest

from orchestrator.batch import ads
from orchestrator.model import Requirements
from tests.unit.role_rendering import Cases, machine_ad, parameters, render

ROLE, CONFIGURATION = "htcondor_execute", "50-vacuo.conf.j2"
BASE = {
    "htcondor_execute_collector": "cm.example.org:9618",
    "htcondor_execute_node": "worker-1",
    "htcondor_execute_site": "rack",
}
NASTY = 'it\'s "quoted", a $(MACRO), $ENV(HOME) and a back\\slash'

JOINED = {
    "htcondor_execute_collector": "cm.example.org:9618",
    "htcondor_execute_trust_domain": "pool.example.org",
    "htcondor_execute_node": "worker-1",
    "htcondor_execute_deployment": "d-1",
    "htcondor_execute_site": "rack",
    "htcondor_execute_pool": "main",
}
VACUUM = JOINED | {
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

MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "nowhere": {"site": ""},
    "whole": {"slots": "whole_node", "cores": 8},
    "static": {"slots": "static", "cores": 8},
    "pairs": {"slots": "static", "cores": 9, "slot_cores": 4},
    "narrow": {"slots": "static", "cores": 2, "slot_cores": 4},
    "cms": {"cms_site": "T2_XX_Rack", "supported_vos": ["cms", "dteam"], "memory_mb": 4000},
    "somebodys": {"owners": ["alice", "bob@example.org"]},
    "hole": {"black_hole_jobs": 10, "black_hole_seconds": 5},
    "aged": {"lifetime_seconds": 3600, "drain_seconds": 600},
    "all": {
        "start": "TARGET.RequestMemory < 2000 || False",
        "owners": ["alice"],
        "black_hole_jobs": 10,
        "cms_site": "T2_XX_Rack",
        "lifetime_seconds": 3600,
        "drain_seconds": 600,
    },
}
CASES: Cases = {
    f"{name}.conf": (
        ROLE,
        CONFIGURATION,
        BASE | {f"{ROLE}_{variable}": value for variable, value in variables.items()},
    )
    for name, variables in MODES.items()
} | {
    "startd.conf": ("node_validation", "startd.conf.j2", {}),
    "helper.py": (ROLE, "vacuo-startd.j2", BASE),
    "joined.conf": (ROLE, CONFIGURATION, JOINED),
    "vacuum.conf": (ROLE, CONFIGURATION, VACUUM),
    "joined.service": (ROLE, "vacuo-startd.service.j2", JOINED),
    "vacuum.service": (ROLE, "vacuo-startd.service.j2", VACUUM),
    "vacuo_startd.py": (ROLE, "vacuo-startd.j2", VACUUM),
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = render(tmp_path_factory.mktemp("execute"), CASES)
    for name in MODES:
        # With probes, HTCondor would read their file where the include is.
        text = (directory / f"{name}.conf").read_text()
        probes = (directory / "startd.conf").read_text()
        (directory / f"{name}-probed.conf").write_text(text + probes)
    return directory


@pytest.mark.parametrize(
    ("mode", "count", "slot", "partitionable"),
    [
        ("plain", "1", "100%", "true"),
        ("whole", "1", "100%", "False"),
        ("static", "8", "cpus=1", "False"),
        ("pairs", "2", "cpus=4", "False"),
        ("narrow", "1", "cpus=4", "False"),
    ],
)
def test_the_machine_is_cut_as_its_mode_says(
    rendered: Path, mode: str, count: str, slot: str, partitionable: str
) -> None:
    names = ("NUM_SLOTS_TYPE_1", "SLOT_TYPE_1", "SLOT_TYPE_1_PARTITIONABLE")
    seen = parameters(rendered / f"{mode}.conf", *names)
    assert [seen[name].lower() for name in names] == [count, slot, partitionable.lower()]


def test_the_machine_says_what_gliders_say(rendered: Path) -> None:
    ad = machine_ad(rendered / "cms.conf", {"HasSingularity": True})
    assert ad.eval("GLIDEIN_Site") == "rack"
    assert ad.eval("GLIDEIN_CMSSite") == "T2_XX_Rack"
    assert ad.eval("GLIDEIN_Supported_VOs") == "cms,dteam"
    assert ad.eval("GLIDEIN_MaxMemMBs") == 4000
    assert ad.eval("HAS_SINGULARITY") is True
    assert ad.eval("HAS_CVMFS") is False


STARTS: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    ("plain", {}, {}, True),
    ("plain", {}, {"DESIRED_Sites": "other, Rack"}, True),
    ("plain", {}, {"DESIRED_Sites": "other"}, False),
    ("nowhere", {}, {"DESIRED_Sites": "other"}, True),
    ("cms", {}, {"DESIRED_Sites": "T2_XX_Rack,T2_YY"}, True),
    ("cms", {}, {"DESIRED_Sites": "rack"}, True),
    ("cms", {}, {"DESIRED_Sites": "T2_YY"}, False),
    ("somebodys", {}, {}, True),
    ("somebodys", {}, {"Owner": "mallory", "User": "mallory@example.org"}, False),
    ("somebodys", {}, {"Owner": "bob", "User": "bob@example.org"}, True),
    ("somebodys", {}, {"Owner": "bob", "User": "bob@elsewhere.org"}, False),
    ("hole", {}, {}, True),
    ("hole", {"RecentJobDurationCount": 10, "RecentJobDurationAvg": 1.5}, {}, False),
    ("hole", {"RecentJobDurationCount": 9, "RecentJobDurationAvg": 1.5}, {}, True),
    ("hole", {"RecentJobDurationCount": 50, "RecentJobDurationAvg": 300.0}, {}, True),
    ("aged", {"Now": 1000 + 2999}, {}, True),
    ("aged", {"Now": 1000 + 3001}, {}, False),
    ("all", {}, {}, True),
    ("all", {}, {"RequestMemory": 3000}, False),
    ("all", {}, {"Owner": "bob"}, False),
    ("all", {}, {"DESIRED_Sites": "other"}, False),
    ("all", {"Now": 1000 + 3001}, {}, False),
    ("all", {"RecentJobDurationCount": 10, "RecentJobDurationAvg": 1.0}, {}, False),
]


@pytest.mark.parametrize(("mode", "machine", "job", "starts"), STARTS)
def test_a_job_starts_only_where_every_condition_holds(
    rendered: Path, mode: str, machine: dict[str, Any], job: dict[str, Any], starts: bool
) -> None:
    seen = {"DaemonStartTime": 1000, "Now": 1060} | machine
    ad = machine_ad(rendered / f"{mode}.conf", seen)
    wish = {"Owner": "alice", "User": "alice@example.org", "RequestMemory": 128} | job
    assert ad.symmetricMatch(classad2.ClassAd(wish | {"Requirements": True})) is starts


# What templates have machines of these modes say; the mode "nowhere" has no site.
SAID: dict[str, dict[str, ads.Scalar]] = {
    "plain": {},
    "nowhere": {},
    "cms": {"GLIDEIN_CMSSite": "T2_XX_Rack", "GLIDEIN_Supported_VOs": "cms,dteam"},
    "somebodys": {"VacuoOwners": "alice,bob@example.org"},
    "all": {"GLIDEIN_CMSSite": "T2_XX_Rack", "VacuoOwners": "alice"},
}


@pytest.mark.parametrize(
    ("mode", "job", "starts"),
    [(mode, job, starts) for mode, machine, job, starts in STARTS if mode in SAID and not machine],
)
def test_demand_counts_the_jobs_that_the_startd_takes_and_no_others(
    rendered: Path, mode: str, job: dict[str, Any], starts: bool
) -> None:
    seen = machine_ad(rendered / f"{mode}.conf", {"DaemonStartTime": 1000, "Now": 1060})
    (said,) = ads.wherever(SAID[mode], ["rack"] if mode != "nowhere" else [])
    assert {name: seen.eval(name) for name in said} == said
    start = str(MODES[mode].get("start", ""))
    machine = classad2.ClassAd(ads.template_ad(Requirements(1, 4000, 10), said))
    machine["Requirements"] = classad2.ExprTree(ads.start_of(start, said))
    wish = {"Owner": "alice", "User": "alice@example.org", "RequestMemory": 128} | job
    assert machine.symmetricMatch(classad2.ClassAd(wish | {"Requirements": True})) is starts


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize(
    ("machine", "starts"),
    [
        ({}, False),  # nobody has looked yet
        ({"VacuoNodeAtStart": ""}, True),
        ({"VacuoNodeAtStart": "/cvmfs/cms.cern.ch is empty"}, False),
        ({"VacuoNodeAtStart": "", "VacuoNodeFit": False}, False),
        ({"VacuoNodeAtStart": "10.0.0.2:3128 does not answer", "VacuoNodeFit": True}, True),
    ],
)
def test_with_probes_no_job_starts_on_a_node_that_is_not_known_to_be_fit(
    rendered: Path, mode: str, machine: dict[str, Any], starts: bool
) -> None:
    ad = machine_ad(
        rendered / f"{mode}-probed.conf", {"DaemonStartTime": 1000, "Now": 1060} | machine
    )
    job = {"Owner": "alice", "User": "alice@example.org", "RequestMemory": 128}
    assert ad.symmetricMatch(classad2.ClassAd(job | {"Requirements": True})) is starts


# --- what the host allows -------------------------------------------------------------------------


@pytest.fixture
def helper(rendered: Path) -> ModuleType:
    path = str(rendered / "helper.py")
    loader = importlib.machinery.SourceFileLoader("vacuo_startd_helper", path)
    spec = importlib.util.spec_from_loader("vacuo_startd_helper", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


V1_OWN = "5:memory:/box/unit\n4:cpu,cpuacct:/box/unit\n1:name=systemd:/box/unit\n0::/box/unit\n"


@pytest.mark.parametrize(
    ("own", "limits", "cores", "memory_mb"),
    [
        ("0::/\n", {}, 4, 8000),
        ("0::/\n", {"cpu.max": "max 100000", "memory.max": "max"}, 4, 8000),
        ("0::/\n", {"cpu.max": "250000 100000", "memory.max": str(3000 << 20)}, 2, 3000),
        ("0::/box/unit\n", {"box/cpu.max": "100000 100000", "box/memory.max": "max"}, 1, 8000),
        ("0::/box/unit\n", {"box/unit/memory.max": str(512 << 20)}, 4, 512),
        (V1_OWN, {"cpu,cpuacct/box/unit/cpu.cfs_quota_us": "-1"}, 4, 8000),
        (
            V1_OWN,
            {
                "cpu,cpuacct/box/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/box/cpu.cfs_period_us": "100000",
                "memory/box/unit/memory.limit_in_bytes": str(2000 << 20),
                "memory/memory.limit_in_bytes": "9223372036854771712",
            },
            3,
            2000,
        ),
        (V1_OWN, {"unified/box/cpu.max": "200000 100000"}, 2, 8000),
    ],
)
def test_the_startd_offers_no_more_than_any_cgroup_above_it_allows(
    helper: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: str,
    limits: dict[str, str],
    cores: int,
    memory_mb: int,
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(own)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal:  {8000 << 10} kB\n")
    for name, value in limits.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n")
    monkeypatch.setattr(helper, "PROC", str(tmp_path / "proc"))
    monkeypatch.setattr(helper, "CGROUPS", str(tmp_path / "cgroup"))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)))
    assert (helper.allowed_cores(), helper.allowed_memory_mb()) == (cores, memory_mb)


@pytest.mark.parametrize(
    ("algorithm", "way"), [("HS256", []), ("RS256", ["SCITOKENS"]), ("ES256", ["SCITOKENS"])]
)
def test_a_token_of_an_issuer_is_shown_as_such(
    helper: ModuleType, tmp_path: Path, algorithm: str, way: list[str]
) -> None:
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm}).encode()).decode()
    (tmp_path / "token").write_text(f"{header.rstrip('=')}.e30.x\n")
    helper.TOKEN = str(tmp_path / "token")  # type: ignore[attr-defined]
    lines = helper.way_to_join()
    assert [word for word in ("SCITOKENS",) if any(word in line for line in lines)] == way
    assert ("CONDOR_IDS = 0.0" in lines) is bool(way)


@pytest.mark.parametrize("content", ["", "no token", "e30.e30.x", "W10.e30.x", "\u20ac.x.y"])
def test_what_is_no_token_changes_nothing(helper: ModuleType, tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    helper.TOKEN = str(tmp_path / "token")  # type: ignore[attr-defined]
    assert helper.way_to_join() == []


# --- joining, leaving, what jobs find ---


def test_htcondor_reads_the_plain_configuration_as_meant(rendered: Path) -> None:
    seen = parameters(
        rendered / "joined.conf",
        *("COLLECTOR_HOST", "TRUST_DOMAIN", "START", "STARTD_NOCLAIM_SHUTDOWN", "CCB_ADDRESS"),
        *("VacuoNode", "VacuoDeployment", "VacuoSite", "STARTD_ATTRS", "MASTER.DAEMON_SHUTDOWN"),
    )
    assert seen["COLLECTOR_HOST"] == seen["CCB_ADDRESS"] == "cm.example.org:9618"
    assert seen["TRUST_DOMAIN"] == "pool.example.org"
    assert seen["START"].startswith("(True) && True && (TARGET.DESIRED_Sites =?= undefined ||")
    assert seen["STARTD_NOCLAIM_SHUTDOWN"] in ("", "0")
    # A startd that crashed is to be started again, not to end its master.
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
    assert (
        seen["ALLOW_ADMINISTRATOR"]
        == "root@pool.example.org, condor@pool.example.org, vacuo@pool.example.org"
    )
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
    names = ("START", "GLIDEIN_ToRetire", "GLIDEIN_ToDie", "GLIDEIN_Site")
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
    assert "poweroff" not in (rendered / "joined.service").read_text()
    unit = (rendered / "vacuum.service").read_text()
    assert 'ExecStopPost=-/bin/sh -c \'[ "$$SERVICE_RESULT" != success ]' in unit
    assert "told-to-stop ] || exec systemctl --no-block poweroff'" in unit


def test_podman_gets_its_options_as_they_were_given(rendered: Path) -> None:
    unit = (rendered / "vacuum.service").read_text()
    assert '"--env=A=100%% $$B"' in unit
    command = unit.split("ExecStart=")[1].split("\n#")[0]
    words = shlex.split(command.replace("\\\n", " "))
    assert words[-5:-1] == ["localhost/vacuo/services:current", "--", "/bin/sh", "-c"]
    assert words[-1].endswith("exec condor_master -f")


RUNNING = {"NeedDaemonReload": "no", "UnitFileState": "enabled", "ActiveState": "active"}
ENABLE, START = "enable --root=/ --quiet", "start --no-block"


def test_a_host_without_podman_is_told_what_to_do_first(rendered: Path, tmp_path: Path) -> None:
    program = (rendered / "vacuo_startd.py").read_text()
    (tmp_path / "program").write_text(program.replace("/usr/bin/podman", "/nowhere/podman"))
    done = subprocess.run(
        [sys.executable, tmp_path / "program", "start"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith("This host has no podman. Run vacuo.site.container_runtime")


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
