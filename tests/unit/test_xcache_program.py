"""What the program in the XCache container makes of its environment."""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROLE = Path(__file__).resolve().parents[2] / "ansible/roles/xcache"
FILES = ROLE / "files"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made: Any = load("xcache_configuration")
program: Any = load("vacuo_xcache")

CACHE = {"ORIGIN_HOST": "origin.example.org"}
CLUSTER = CACHE | {"REDIR_HOST": "redir.example.org"}
TLS = {"XCACHE_TLS_CERTIFICATE": "/c.pem", "XCACHE_TLS_KEY": "/k.pem"}
TOKENS = TLS | {"XCACHE_SCITOKENS": "/t.cfg"}


def rendered(**environment: str) -> list[str]:
    return str(made.configuration(made.read_settings(environment))).splitlines()


def test_the_environment_that_users_know_does_what_they_know() -> None:
    lines = rendered(
        **CLUSTER,
        REDIR_CMSD_PORT="2131",
        ORIGIN_XRD_PORT="1095",
        CACHE_PATH="/cache",
        CACHE_RAM_GB="2",
        STREAMS="64",
        N_PREFETCH="3",
        BLOCK_SIZE="1m",
        CACHE_LOG_LEVEL="info",
        LOW_WM="0.5",
        HI_WM="0.7",
    )
    assert {
        "pss.origin origin.example.org:1095",
        "all.manager redir.example.org:2131",
        "oss.localroot /cache/namespace",
        "pfc.ram 2048m",
        "pss.config streams 64",
        "pfc.prefetch 3",
        "pfc.blocksize 1m",
        "pfc.trace info",
        "pfc.diskusage 0.500 0.700 purgeinterval 300s",
    } <= set(lines)


def test_its_defaults_are_those_that_users_know() -> None:
    settings = made.read_settings(CLUSTER)
    assert (settings.cmsd_port, settings.port, settings.path) == (1213, 1094, "/data/xrd")
    assert (settings.streams, settings.prefetch, settings.block) == (256, 0, "512k")
    assert (settings.low, settings.high) == (0.80, 0.90)


def test_an_empty_value_is_one_that_is_not_there() -> None:
    assert made.read_settings(CACHE | {"REDIR_HOST": "", "STREAMS": " "}).streams == 256


@pytest.mark.parametrize(
    ("environment", "clustered", "role"),
    [
        (CACHE, False, "server"),
        (CLUSTER, True, "server"),
        ({"XCACHE_MODE": "redirector"}, True, "manager"),
        ({"XCACHE_MODE": "origin"}, False, "server"),
    ],
)
def test_each_mode_has_its_role_and_its_daemons(
    environment: dict[str, str], clustered: bool, role: str
) -> None:
    settings = made.read_settings(environment)
    assert settings.clustered is clustered
    assert f"all.role {role}" in rendered(**environment)


def test_only_a_cache_caches_and_only_a_redirector_redirects() -> None:
    for mode in ("redirector", "origin"):
        assert not [line for line in rendered(XCACHE_MODE=mode) if line.startswith(("pfc", "pss"))]
    assert not [line for line in rendered(**CLUSTER) if line.startswith("cms.sched")]


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({}, "ORIGIN_HOST"),
        ({"XCACHE_MODE": "proxy"}, "XCACHE_MODE"),
        (CACHE | {"ORIGIN_HOST": "a b"}, "ORIGIN_HOST"),
        (CACHE | {"ORIGIN_XRD_PORT": "70000"}, "ORIGIN_XRD_PORT"),
        # Kubernetes sets such a thing for a service of that name.
        (CACHE | {"XCACHE_LISTEN_PORT": "tcp://10.0.0.1:1094"}, "XCACHE_LISTEN_PORT"),
        (CACHE | {"CACHE_RAM_GB": "0.2"}, "CACHE_RAM_GB"),
        (CACHE | {"CACHE_RAM_GB": "nan"}, "CACHE_RAM_GB"),
        (CACHE | {"LOW_WM": "0.9", "HI_WM": "0.8"}, "LOW_WM"),
        (CACHE | {"CACHE_PATH": "/a\nxrd.port 1"}, "CACHE_PATH"),
        (CACHE | {"XCACHE_EXPORTS": "store"}, "XCACHE_EXPORTS"),
        (CACHE | {"XCACHE_MONITORS": "a:1 b:2 c:3"}, "XCACHE_MONITORS"),
        (CACHE | {"XCACHE_TLS_KEY": "/k"}, "XCACHE_TLS_KEY"),
        (CACHE | {"XCACHE_SCITOKENS": "/t"}, "in the clear"),
    ],
)
def test_a_value_that_cannot_work_is_told_with_what_to_try(
    environment: dict[str, str], word: str
) -> None:
    with pytest.raises(made.Wrong, match="Try: ") as caught:
        made.read_settings(environment)
    assert word in str(caught.value)


def test_an_address_of_version_6_stands_in_brackets() -> None:
    assert "pss.origin [2001:db8::1]:1094" in rendered(ORIGIN_HOST="2001:db8::1")
    assert "pss.origin [2001:db8::1]:1094" in rendered(ORIGIN_HOST="[2001:db8::1]")


def test_tokens_are_asked_from_all_but_the_health_check() -> None:
    lines = rendered(**CACHE, **TOKENS)
    assert "sec.protbind * only ztn" in lines
    assert "ofs.authlib ++ libXrdAccSciTokens.so config=/t.cfg" in lines
    assert "xrootd.tls capable all" in lines
    assert not [line for line in rendered(**CACHE) if "sec." in line or "authlib" in line]


def test_what_is_open_without_a_token_is_the_canary_and_nothing_else() -> None:
    settings = made.read_settings(CACHE | TOKENS | {"XCACHE_CANARY_PATH": "/data/canary"})
    assert made.authorisations(settings) == "u * /data/canary rl\n"
    assert " rl\n" not in made.authorisations(made.read_settings(CACHE | TOKENS)).replace("-rl", "")


def test_the_origins_token_goes_there_under_tls_only() -> None:
    lines = rendered(**CACHE, XCACHE_ORIGIN_TOKEN_FILE="/t")
    assert "pss.origin roots://origin.example.org:1094" in lines


def test_a_complete_configuration_tells_what_the_health_check_looks_at() -> None:
    for environment in (CLUSTER, {"XCACHE_MODE": "redirector"}):
        settings = made.read_settings(environment | {"XCACHE_HTTP": "no"})
        facts = made.facts_of(made.configuration(settings))
        assert made.read_settings(facts).clustered
        assert made.read_settings(facts).mode == settings.mode


def test_blocks_of_a_configuration_are_closed() -> None:
    for environment in (CACHE, CLUSTER | TOKENS, {"XCACHE_MODE": "redirector"}):
        text = rendered(**environment, XCACHE_MONITORS="m:1")
        opened = sum(line.startswith("if ") for line in text)
        assert opened == text.count("fi")


def test_a_wrong_environment_ends_the_program_with_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, FILES / "vacuo_xcache.py", "run"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "ORIGIN_HOST is empty" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dead_or_stopped_process_is_not_taken_for_a_daemon() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert program.runs("sleep", child.pid)
        assert not program.runs("xrootd", child.pid)
        child.send_signal(19)
        os.waitpid(child.pid, os.WUNTRACED)
        assert not program.runs("sleep", child.pid)
    finally:
        child.kill()
        child.wait()
    assert not program.runs("sleep", child.pid)


def test_a_full_disk_is_not_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = made.read_settings(CACHE | {"CACHE_PATH": str(tmp_path)})
    assert program.not_well(settings) == ""
    monkeypatch.setattr(program, "ROOM_BYTES", 1 << 62)
    assert program.not_well(settings) == f"the disk of {tmp_path} is full"


def test_what_never_started_is_not_healthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "STATE", tmp_path / "state.json")
    assert program.check(live=True) == 1
    assert "it has not started" in capsys.readouterr().err
    (tmp_path / "state.json").write_text(json.dumps({"pids": {"xrootd": 1}, "settings": {}})[:-3])
    assert program.check(live=True) == 1


def test_a_renewed_secret_is_brought_again_and_nobody_else_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "copy" / "origin.token"
    target.parent.mkdir()
    monkeypatch.setattr(program, "ORIGIN_TOKEN", target)
    source = tmp_path / "token"
    settings = made.read_settings(CACHE | {"XCACHE_ORIGIN_TOKEN_FILE": str(source)})
    with pytest.raises(made.Wrong, match="cannot be read"):
        program.copy_secrets(settings, None)
    for text in ("first", "second"):
        source.write_text(text)
        program.copy_secrets(settings, None)
        assert target.read_text() == text
        assert target.stat().st_mode & 0o777 == 0o600
    source.unlink()  # being renewed
    program.copy_secrets(settings, None)
    assert target.read_text() == "second"


@pytest.fixture(scope="module")
def roles_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the role writes, for a cache of a cluster and for a redirector."""
    directory = tmp_path_factory.mktemp("role")
    cache = {
        "xcache_origin": "[2001:db8::1]:1095",
        "xcache_redirector": "r.example.org:2131",
        "xcache_monitors": ["m.example.org:9930"],
        "xcache_certificate": "/etc/grid-security/host.pem",
        "xcache_key": "/etc/private/host.key",
        "xcache_authorities": "/etc/ssl/ours.pem",
        "xcache_origin_token_file": "/run/tokens/origin",
        "xcache_issuers": [{"name": "wlcg", "issuer": "https://wlcg.example.org"}],
        "xcache_audiences": ["https://cache.example.org"],
    }
    tasks = [
        {
            "name": name,
            "ansible.builtin.template": {
                "src": str(ROLE / "templates" / template),
                "dest": str(directory / f"{name}.{template}"),
            },
            "vars": variables,
        }
        for name, variables in (("cache", cache), ("redirector", {"xcache_mode": "redirector"}))
        for template in ("environment.j2", "vacuo-xcache.service.j2", "scitokens.cfg.j2")
    ]
    files = [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")]
    play = {"hosts": "localhost", "gather_facts": False, "vars_files": files, "tasks": tasks}
    (directory / "play.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ansible.cli.playbook",
            "-i",
            "localhost,",
            "-c",
            "local",
            "play.yml",
        ],
        cwd=directory,
        env=os.environ
        | {"ANSIBLE_HOME": str(directory / "home"), "ANSIBLE_PYTHON_INTERPRETER": sys.executable},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "cache",
            {
                "pfc.ram 1024m",
                "pfc.diskusage 0.900 0.950 purgeinterval 300s",
                "pss.origin roots://[2001:db8::1]:1095",
                "all.manager r.example.org:2131",
                "xrootd.mongstream pfc use flush 5s send json dflthdr m.example.org:9930",
                "ofs.authlib ++ libXrdAccSciTokens.so config=/etc/vacuo/xcache/scitokens.cfg",
            },
        ),
        ("redirector", {"all.role manager", "all.manager localhost:1213", "xrd.port 1213"}),
    ],
)
def test_the_program_reads_the_environment_that_the_role_writes(
    roles_files: Path, name: str, expected: set[str]
) -> None:
    lines = (roles_files / f"{name}.environment.j2").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert expected <= set(rendered(**given))


def test_the_unit_brings_into_the_container_what_the_environment_names(roles_files: Path) -> None:
    unit = (roles_files / "cache.vacuo-xcache.service.j2").read_text()
    assert "--volume /etc/grid-security:/mnt/certificate:ro" in unit
    assert "--volume /etc/private:/mnt/key:ro" in unit
    assert "--volume /run/tokens:/mnt/origin-token:ro" in unit
    assert "/etc/ssl/ours.pem:/etc/ssl/certs/ca-certificates.crt:ro" in unit
    plain = (roles_files / "redirector.vacuo-xcache.service.j2").read_text()
    assert plain.count("--volume") == 2
    assert "mkdir" not in plain
    for text in (unit, plain):
        command = text.split("ExecStart=")[1].split("ExecStartPost")[0]
        assert all(line.endswith("\\") for line in command.splitlines()[:-1])


def test_issuers_and_audiences_are_as_the_plug_in_reads_them(roles_files: Path) -> None:
    read = configparser.ConfigParser()
    read.read(roles_files / "cache.scitokens.cfg.j2")
    assert read["Global"]["audience"] == "https://cache.example.org"
    assert dict(read["Issuer wlcg"]) == {"issuer": "https://wlcg.example.org", "base_path": "/"}
