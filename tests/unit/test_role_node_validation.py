"""vacuo-node-check against things that are really broken: sockets, disks, histories, programs."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.role_rendering import ROLES, Cases, parameters, render

CHECK = ROLES / "node_validation/files/vacuo-node-check"
FULL = {
    "node_validation_cvmfs_repositories": ["cms.cern.ch"],
    "node_validation_proxy": "10.0.0.2:3128",
    "node_validation_xcache": "10.0.0.2:1094",
    "node_validation_xcache_path": "/canary",
    "node_validation_period_seconds": 7,
}
NOTHING = {
    "node_validation_disk_free_mb": 0,
    "node_validation_memory_free_mb": 0,
    "node_validation_failing_jobs": 0,
}
CASES: Cases = {
    "full.json": ("node_validation", "checks.json.j2", FULL),
    "nothing.json": ("node_validation", "checks.json.j2", NOTHING),
    "startd.conf": ("node_validation", "startd.conf.j2", FULL),
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("validation"), CASES)


def test_what_is_not_asked_for_is_not_looked_at(rendered: Path) -> None:
    full = json.loads((rendered / "full.json").read_text())
    assert list(full["checks"]) == [
        *("clock", "cvmfs", "disk", "jobs", "memory", "probes", "proxy", "xcache")
    ]
    assert full["checks"]["clock"]["sources"] == ["10.0.0.2:3128"]
    nothing = json.loads((rendered / "nothing.json").read_text())
    assert nothing["checks"] == {"probes": {}}


def test_htcondor_reads_the_probe_as_meant(rendered: Path) -> None:
    names = ("STARTD_CRON_JOBLIST", "STARTD_CRON_VACUO_NODE_PERIOD")
    names += ("STARTD_CRON_VACUO_NODE_EXECUTABLE", "STARTD_CRON_VACUO_NODE_ARGS")
    seen = parameters(rendered / "startd.conf", *names)
    assert [value.strip() for value in seen.values()] == [
        "VACUO_NODE",
        "7s",
        "/etc/vacuo/node_validation/vacuo-node-check",
        "--classad",
    ]


class Answers(http.server.BaseHTTPRequestHandler):
    wrong_seconds = 0.0

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(time.time() + self.wrong_seconds)

    def do_GET(self) -> None:
        self.send_response(404 if "missing" in self.path else 200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{one.server_port}"
        one.shutdown()


def looked(directory: Path, check: str, wish: Any, *arguments: str) -> tuple[int, str]:
    settings = {"seconds": 2, "checks": {check: wish}}
    (directory / "checks.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, CHECK, *arguments],
        env=os.environ | {"VACUO_NODE_VALIDATION": str(directory)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_proxy_that_answers_is_well_and_one_that_does_not_is_not(
    tmp_path: Path, server: str
) -> None:
    assert looked(tmp_path, "proxy", {"address": server, "url": ""})[0] == 0
    url = "http://example.org/missing"
    code, told = looked(tmp_path, "proxy", {"address": server, "url": url})
    assert (code, f"{server} answers 404 for {url}" in told) == (1, True)
    code, told = looked(tmp_path, "proxy", {"address": "127.0.0.1:1", "url": ""})
    assert (code, told.startswith("BAD  proxy")) == (1, True)
    assert "Connection refused" in told


def test_an_xcache_must_speak_xrootd(tmp_path: Path, server: str) -> None:
    code, told = looked(tmp_path, "xcache", {"address": server, "path": ""})
    assert (code, told.startswith("BAD  xcache")) == (1, True)


@pytest.mark.parametrize(
    ("wrong", "code", "word"),
    [(0, 0, "within"), (30, 0, "within"), (3600, 1, "behind"), (-3600, 1, "ahead")],
)
def test_the_clock_is_compared_with_others(
    tmp_path: Path,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
    wrong: float,
    code: int,
    word: str,
) -> None:
    monkeypatch.setattr(Answers, "wrong_seconds", wrong)
    found, told = looked(tmp_path, "clock", {"sources": [server, "127.0.0.1:1"], "seconds": 60})
    assert found == code
    assert word in told


def test_a_clock_that_nobody_can_tell_is_not_wrong(tmp_path: Path) -> None:
    code, told = looked(tmp_path, "clock", {"sources": ["127.0.0.1:1"], "seconds": 60})
    assert (code, "nobody to compare with" in told) == (0, True)


def test_a_disk_below_its_floor_is_full(tmp_path: Path) -> None:
    wish = {"directory": str(tmp_path / "not/made/yet"), "free_mb": 1}
    assert looked(tmp_path, "disk", wish)[0] == 0
    code, told = looked(tmp_path, "disk", wish | {"free_mb": 1 << 40})
    assert (code, f"{tmp_path} has" in told) == (1, True)


def test_a_probe_of_the_sites_own_decides_after_the_nagios_standard(tmp_path: Path) -> None:
    (tmp_path / "probes.d").mkdir()
    probe = tmp_path / "probes.d/tape"
    for status, code in ((0, 0), (1, 0), (2, 1), (3, 1)):
        probe.write_text(f"#!/bin/sh\necho 'the robot\\047s \"arm\"'\nexit {status}\n")
        probe.chmod(0o755)
        found, told = looked(tmp_path, "probes", {})
        assert found == code
        assert ('tape: the robot\'s "arm"' in told) is bool(code)
    _, told = looked(tmp_path, "probes", {}, "--classad")
    assert "VacuoNodeFit = False\n" in told
    assert 'VacuoNodeProblem = "probes"\n' in told
    assert 'VacuoNodeWhy = "tape: the robot\'s \\"arm\\""\n' in told
    assert told.endswith("- update:true\n")
    probe.write_text("#!/bin/sh\nsleep 60\n")
    code, told = looked(tmp_path, "probes", {})
    assert (code, "took longer than 2 s" in told) == (1, True)


def test_settings_that_cannot_be_read_are_not_a_node_that_is_fit(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, CHECK, "--classad"],
        env=os.environ | {"VACUO_NODE_VALIDATION": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "VacuoNodeFit = False\n" in done.stdout


def ended(cluster: int, code: int, seconds: float, ago: float = 1.0) -> str:
    at = int(time.time() - ago)
    return (
        f"ClusterId = {cluster}\nExitBySignal = false\nExitCode = {code}\nCompletionDate = {at}\n"
        f'GlobalJobId = "ap#{cluster}.0#1"\nJobCurrentStartDate = {at - int(seconds)}\n'
        f"JobDuration = {seconds}\n*** Offset = 0 ClusterId = {cluster} ProcId = 0\n"
    )


@pytest.mark.parametrize(
    ("jobs", "code"),
    [
        ([(1, 1, 2.0), (2, 1, 2.0), (3, 1, 2.0)], 1),
        ([(1, 1, 2.0), (1, 1, 2.0), (1, 1, 2.0)], 0),  # one owner's mistake
        ([(1, 1, 2.0), (2, 0, 2.0), (3, 1, 2.0)], 0),  # one was well
        ([(1, 1, 2.0), (2, 1, 500.0), (3, 1, 2.0)], 0),  # one took its time
        ([(1, 1, 2.0), (2, 1, 2.0)], 0),
        ([(1, 1, 2.0, 9999.0), (2, 1, 2.0), (3, 1, 2.0)], 0),  # long ago
        ([(1, 0, 2.0)] * 9 + [(1, 1, 2.0), (2, 1, 2.0), (3, 1, 2.0)], 1),
        ([], 0),
    ],
)
def test_a_black_hole_is_where_jobs_of_many_fail_at_once(
    tmp_path: Path, jobs: list[tuple[Any, ...]], code: int
) -> None:
    history = tmp_path / "startd_history"
    history.write_text("".join(ended(*job) for job in jobs))
    program = CHECK.read_text().replace("/var/log/condor/startd_history", str(history))
    copy = tmp_path / "vacuo-node-check"
    copy.write_text(program)
    settings = {"jobs": {"jobs": 3, "seconds": 60, "pause_seconds": 900}}
    (tmp_path / "checks.json").write_text(json.dumps({"seconds": 2, "checks": settings}))
    done = subprocess.run(
        [sys.executable, copy],
        env=os.environ | {"VACUO_NODE_VALIDATION": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
