"""Errors in three parts, without a traceback and without a secret."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from cli_server import (
    HOST_KEY,
    ID,
    NODE,
    TOKEN,
    Recorded,
    listing,
    problem,
)

from orchestrator.cli import exitcodes, redact, render, ssh
from orchestrator.errors import UserError

NOBODY = "http://127.0.0.1:9"
SECRET = "hunter2-hunter2"


def test_an_error_of_the_api_has_what_why_try_code_docs_and_request(server: Recorded) -> None:
    server.answers["GET /deployments"] = problem(409, "conflict")
    result = server.run("list")
    assert result.exit_code == exitcodes.ERROR
    assert result.stdout == ""
    what, why, attempt, tail = result.stderr.splitlines()
    assert what == "error: The thing is wrong."
    assert why.strip() == "why: It was never right."
    assert attempt.strip() == "try: vacuo doctor"
    assert "conflict" in tail
    assert f"{server.url}/docs/errors#conflict" in tail
    assert "f3b0c7d2e9a14d0c" in tail


def test_every_problem_of_a_template_is_shown_with_its_place(
    server: Recorded, template: str
) -> None:
    errors = [
        {"file": "t", "line": 3, "column": 9, "path": "a", "sentence": "No num_cpu.",
         "suggestion": "did you mean num_cpus?"},
        {"file": None, "line": None, "column": None, "path": "b", "sentence": "No b.",
         "suggestion": ""},
    ]  # fmt: skip
    server.answers["POST /deployments"] = problem(400, "template-invalid", errors=errors)
    result = server.run("up", template)
    assert "t:3:9: No num_cpu. (did you mean num_cpus?)" in result.stderr
    assert "No b." in result.stderr


def test_errors_are_json_where_json_was_asked_for(server: Recorded) -> None:
    server.answers["GET /deployments"] = problem(409, "conflict")
    result = server.run("list", "-o", "json")
    assert result.stdout == ""
    assert json.loads(result.stderr)["error"]["code"] == "conflict"


def test_no_server_says_how_to_start_one_and_has_a_code_of_its_own(server: Recorded) -> None:
    result = server.run("list", "--server", NOBODY)
    assert result.exit_code == exitcodes.UNREACHABLE
    assert f"No Vacuo server answers at {NOBODY}" in result.stderr
    assert "vacuo server start" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("address", ["http://[::1", "nonsense", "ftp://127.0.0.1", "http://"])
def test_an_address_that_is_none_is_an_error_like_any_other(server: Recorded, address: str) -> None:
    result = server.run("list", "--server", address)
    assert result.exit_code != exitcodes.OK
    assert "error:" in result.stderr
    assert "does not know" not in result.stderr


def test_an_answer_that_is_not_ours_is_told_as_such(server: Recorded) -> None:
    server.answers["GET /deployments"] = (502, "<html>a proxy</html>")
    result = server.run("list")
    assert result.exit_code == exitcodes.ERROR
    assert "not as a Vacuo server does" in result.stderr


def test_a_redirect_is_not_followed_with_a_token(server: Recorded) -> None:
    server.answers["GET /deployments"] = (302, "elsewhere")
    assert server.run("list").exit_code == exitcodes.ERROR
    assert len(server.asked) == 1


def test_no_token_says_to_log_in(server: Recorded) -> None:
    server.environment["BEARER_TOKEN"] = None
    server.environment["BEARER_TOKEN_FILE"] = None
    result = server.run("list")
    assert result.exit_code == exitcodes.UNAUTHORISED
    assert "try: vacuo login" in result.stderr
    assert server.asked == []


def test_an_unknown_error_shows_its_kind_and_nothing_that_it_holds(
    server: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr("orchestrator.cli.client.Api.everything", broken)
    result = server.run("list")
    assert result.exit_code == exitcodes.ERROR
    assert "RuntimeError" in result.stderr
    assert SECRET not in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in server.run("list", "--debug").stderr


def test_no_secret_in_any_output(server: Recorded, template: str, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(f"password: {SECRET}\n")
    for words in (
        ["list"],
        ["status"],
        ["doctor"],
        ["show"],
        ["up", template, "--parameters", str(values)],
        ["up", template, "-p", f"password={SECRET}"],
        ["plan", template, "--parameters", str(values)],
    ):
        for form in ([], ["--output", "json"], ["--debug"]):
            result = server.run(*words, *form, "--show-request")
            assert "curl -X" in result.stderr or words == ["templates"]
            assert TOKEN not in result.stdout + result.stderr
            assert SECRET not in result.stdout + result.stderr


def test_a_parameters_file_that_is_broken_is_not_quoted(
    server: Recorded, template: str, tmp_path: Path
) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(f"password: '{SECRET}\n  x: [")
    result = server.run("up", template, "--parameters", str(values))
    assert result.exit_code == exitcodes.ERROR
    assert "Line" in result.stderr
    assert SECRET not in result.stderr


def test_show_request_prints_what_can_be_pasted_into_a_shell(
    server: Recorded, template: str
) -> None:
    result = server.run("up", template, "--key", "a b", "--show-request")
    line = next(line for line in result.stderr.splitlines() if line.startswith("curl"))
    assert line.startswith(f"curl -X POST {server.url}/deployments ")
    assert '"Authorization: Bearer $BEARER_TOKEN"' in line
    assert "'Idempotency-Key: a b'" in line


def test_server_config_hides_secrets(server: Recorded, tmp_path: Path) -> None:
    path = tmp_path / "vacuo.yaml"
    path.write_text(
        f"database: postgresql://vacuo:{SECRET}@db/vacuo\n"
        "sites:\n- name: s\n  provider: simulated\n  flavours: []\n"
        f"  options: {{api_token: {SECRET}, region: here, clientSecret: {SECRET}}}\n"
    )
    for form in ("table", "json"):
        result = server.run("server", "config", "--config", str(path), "-o", form)
        assert result.exit_code == exitcodes.OK, result.output
        assert SECRET not in result.stdout + result.stderr
        assert "here" in result.stdout
        assert "postgresql://vacuo:***@db/vacuo" in result.stdout


def test_a_broken_configuration_names_file_line_and_field(server: Recorded, tmp_path: Path) -> None:
    path = tmp_path / "vacuo.yaml"
    path.write_text("listen: 127.0.0.1:1\nsurprise: 1\n")
    result = server.run("server", "config", "--config", str(path))
    assert result.exit_code == exitcodes.ERROR
    assert f"{path}:2: surprise" in result.stderr


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("password", True),
        ("db_password", True),
        ("clientSecret", True),
        ("iam-token", True),
        ("aws_secret_access_key", True),
        ("token_file", False),
        ("signing_key_directory", False),
        ("monkey", False),
        ("max_instances", False),
    ],
)
def test_a_secret_is_known_by_its_name(name: str, secret: bool) -> None:
    assert redact.is_secret(name) is secret


def test_text_from_elsewhere_holds_nothing_that_a_terminal_obeys() -> None:
    assert render.plain("a\x1b[31mb\x1b]8;;http://x\x07c\x07\x00\u202ed\te\r\n") == "abcd\te\n"


def test_doctor_works_while_the_server_is_down(server: Recorded) -> None:
    result = server.run("doctor", "--server", NOBODY)
    assert result.exit_code == exitcodes.ERROR
    assert "✗ server" in result.stdout
    assert "fix: start one with: vacuo server start" in result.stdout
    assert "? token" in result.stdout


def test_doctor_shows_every_check_and_a_fix_for_each_that_fails(server: Recorded) -> None:
    assert server.run("doctor").exit_code == exitcodes.OK
    broken = {
        "code": "pool-unreachable",
        "sentence": "Pool demo does not answer.",
        "nextCommand": "condor_status -pool demo",
    }
    check = {"name": "pool demo", "ok": False, "detail": "", "reason": broken}
    server.answers["GET /checks"] = {"checks": [check]}
    server.answers["GET /readyz"] = (
        503,
        {"ready": False, "checks": [{"name": "store", "ok": True, "reason": None}]},
    )
    result = server.run("doctor")
    assert result.exit_code == exitcodes.ERROR
    assert "✓ store" in result.stdout
    assert "✗ pool demo        Pool demo does not answer." in result.stdout
    assert "fix: condor_status -pool demo" in result.stdout


def test_doctor_sees_a_clock_that_is_off(server: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "orchestrator.cli.doctor.email.utils.parsedate_to_datetime",
        lambda header: __import__("datetime").datetime.fromtimestamp(time.time() - 3600),
    )
    assert formatdate(0)  # the header is a date of RFC 5322
    result = server.run("doctor")
    assert "✗ clock" in result.stdout
    assert "synchronise" in result.stdout


def test_ssh_accepts_the_known_host_key_and_no_other(tmp_path: Path) -> None:
    access = {"user": "root", "address": "10.93.0.7", "port": 2222, "hostKeys": [HOST_KEY]}
    words = ssh.arguments(NODE, access, tmp_path / "known", None)
    assert "StrictHostKeyChecking=yes" in words
    assert f"HostKeyAlias={NODE}" in words
    assert words[-2:] == ["--", "10.93.0.7"]
    assert ssh.known_hosts_of(NODE, access) == f"{NODE} {HOST_KEY}\n"


@pytest.mark.parametrize(
    "access",
    [
        {"user": "-oProxyCommand=sh", "address": "10.0.0.1", "port": 22},
        {"user": "root", "address": "-oProxyCommand=sh", "port": 22},
        {"user": "root", "address": "a b", "port": 22},
    ],
)
def test_what_the_server_says_never_becomes_an_option_of_ssh(
    access: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError):
        ssh.arguments(NODE, access, tmp_path, None)


def test_a_node_without_a_known_host_key_is_not_connected_to(server: Recorded) -> None:
    path = f"GET /deployments/{ID}/resources/{NODE}/ssh"
    server.answers[path] = {"user": "root", "address": "10.93.0.7", "port": 22, "hostKeys": []}
    result = server.run("ssh", NODE)
    assert result.exit_code == exitcodes.ERROR
    assert "host key" in result.stderr


def test_ssh_runs_the_command_and_ends_as_it_does(server: Recorded, tmp_path: Path) -> None:
    """A program of the name ssh stands in for the client; it shows what it was given."""
    directory = tmp_path / "bin"
    directory.mkdir()
    fake = directory / "ssh"
    kept = tmp_path / "kept"
    fake.write_text(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" > " + str(kept) + "\n"
        'for word; do case "$word" in UserKnownHostsFile=*) cat "${word#*=}" >> '
        + str(kept)
        + ";; esac; done\nexit 7\n"
    )
    fake.chmod(0o755)
    server.environment["PATH"] = f"{directory}:/usr/bin:/bin"
    result = server.run("ssh", NODE, "--", "hostname", "-f")
    assert result.exit_code == 7, result.output
    words = kept.read_text().splitlines()
    assert words[words.index("--") :][:4] == ["--", "10.93.0.7", "hostname", "-f"]
    assert f"{NODE} {HOST_KEY}" in words


def test_a_node_that_does_not_exist_names_one_that_does(server: Recorded) -> None:
    result = server.run("ssh", "workers-7k2g")
    assert f"Did you mean {NODE}?" in result.stderr
    server.answers[f"GET /deployments/{ID}/resources"] = listing()
    assert server.run("ssh", "other").exit_code == exitcodes.ERROR
