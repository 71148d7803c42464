"""A person at a keyboard, the real server process, and a simulated site: from login to logout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from orchestrator.cli import exitcodes
from testbed.ports import free_port

PATIENCE = 100.0
CONFIGURATION = """\
data_directory: {data}
listen: 127.0.0.1:{port}
development_issuer: true
sites:
- name: here
  provider: simulated
  flavours: [{{name: medium, cores: 4, memory_mb: 8192, disk_gb: 40}}]
pools:
- {{name: demo, batch: simulated, collector: "pool.example:9618"}}
"""


@dataclass
class Desk:
    """One user's machine, with a server on it."""

    home: Path
    url: str
    configuration: Path

    def start(self, *words: str) -> subprocess.Popen[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home),
            "VACUO_SERVER": self.url,
        }
        command = [sys.executable, "-m", "orchestrator.cli.main", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=environment, cwd=self.home, stdout=pipe, stderr=pipe, text=True
        )

    def run(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        try:
            output, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        return process.returncode, output, errors

    def ok(self, *words: str) -> str:
        code, output, errors = self.run(*words)
        assert code == exitcodes.OK, (words, output, errors)
        return output

    def login(self) -> str:
        """Log in as a person does: read the code, enter it in a browser."""
        process = self.start("login")
        lines = []
        try:
            assert process.stderr is not None
            for line in process.stderr:
                lines.append(line)
                found = re.search(r"enter ([A-Z]{4}-[A-Z]{4})", line)
                if found:
                    form = {"user_code": found[1], "user": "alice", "answer": "approve"}
                    answer = httpx.post(f"{self.url}/issuer/device", data=form, trust_env=False)
                    assert answer.status_code == httpx.codes.OK
                    break
            output, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        assert process.returncode == exitcodes.OK, errors
        return "".join(lines) + output + errors


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    port = free_port()
    configuration = tmp_path / "server.yaml"
    configuration.write_text(CONFIGURATION.format(data=tmp_path / "data", port=port))
    made = Desk(tmp_path, f"http://127.0.0.1:{port}", configuration)
    server = made.start("server", "start", "--config", str(configuration))
    assert server.stderr is not None
    log: list[str] = []
    reader = threading.Thread(target=lambda: log.extend(server.stderr or ()), daemon=True)
    reader.start()
    try:
        deadline = time.monotonic() + PATIENCE
        while made.run("doctor")[1].count("✓ engine") == 0:
            assert server.poll() is None, log
            assert time.monotonic() < deadline, log
        yield made
    finally:
        server.terminate()
        try:
            server.wait(PATIENCE)
        finally:
            server.kill()


@pytest.mark.timeout(600)
def test_from_login_to_logout(desk: Desk) -> None:
    code, _, errors = desk.run("list")
    assert code == exitcodes.UNAUTHORISED
    assert "vacuo login" in errors

    said = desk.login()
    [kept] = (desk.home / ".local/state/vacuo/logins").glob("*.json")
    assert json.loads(kept.read_text())["access_token"] not in said
    doctor = desk.ok("doctor")
    assert "✓ token" in doctor
    assert "✓ site here" in doctor
    assert "✓ pool demo" in doctor

    ask = ["-p", "pool=demo", "-p", "workers_minimum=1"]
    code, planned, errors = desk.run("plan", "htcondor-workers", *ask)
    assert code == exitcodes.CHANGES, errors
    assert "medium at here" in planned

    code, made, errors = desk.run("up", "htcondor-workers", *ask, "--wait", "--timeout", "90")
    assert code == exitcodes.OK, errors
    assert "CREATE_COMPLETE" in made
    [node] = json.loads(desk.ok("status", "-o", "json"))["status"]["nodes"]
    assert node["uuid"] in desk.ok("logs", node["uuid"])
    assert "alice" in desk.ok("events")

    code, _, errors = desk.run("down", "--wait", "--timeout", "90")
    assert code == exitcodes.OK, errors
    assert "DELETE_COMPLETE" in desk.ok("list", "--all")
    assert "Logged out" in desk.ok("logout")
    assert desk.run("list")[0] == exitcodes.UNAUTHORISED
