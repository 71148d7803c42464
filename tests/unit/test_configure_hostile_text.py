"""The ways by which users' text would run on the controller, shown to do so, and ours beside them.

The real Ansible of this installation runs each; a marker file is the proof.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.configure import run_files
from orchestrator.configure.ansible import AnsibleConfigurator
from orchestrator.configure.ansible_run import ENVIRONMENT, RUNNER_ENVIRONMENT
from orchestrator.configure.base import RoleCall
from orchestrator.configure.run_files import RunSettings
from orchestrator.control.growth import _host_word
from orchestrator.control.values import Scope, Unresolved, resolve
from orchestrator.errors import Terminal
from orchestrator.model import DeploymentSpec
from orchestrator.settings import Limits, Settings
from orchestrator.tosca.sandbox import Compiler
from tests.unit.test_configure_safe_path import ROLE, collections, evil, host, run

__all__ = ["collections"]

PLAY = [{"hosts": "all", "gather_facts": False, "tasks": [{"debug": {"msg": "{{ text }}"}}]}]


def naive(directory: Path, inventory: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Ansible as one would first think of calling it."""
    (directory / "play.yml").write_text(yaml.safe_dump(PLAY))
    (directory / "inventory").write_text(inventory)
    return subprocess.run(
        [
            *(sys.executable, "-m", "ansible.cli.playbook", "--connection", "local"),
            *("-i", str(directory / "inventory"), *more, str(directory / "play.yml")),
        ],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(directory)},
        capture_output=True,
        text=True,
        timeout=100,
    )


def as_extra_variables(directory: Path, text: str) -> None:
    (directory / "extra.json").write_text(json.dumps({"text": text}))
    naive(directory, "all: {hosts: {n: {}}}", "-e", f"@{directory / 'extra.json'}")


def as_a_host_variable_in_json(directory: Path, text: str) -> None:
    naive(directory, json.dumps({"all": {"hosts": {"n": {"text": text}}}}))


def as_a_variable_of_the_users_choice(directory: Path, text: str) -> None:
    program = directory / "program"
    program.write_text(f"#!/bin/sh\ntouch {directory / 'it-ran'}\n")
    program.chmod(0o700)
    PLAY[0]["tasks"] = [{"ping": None}]  # a module: it needs an interpreter
    try:
        inventory = f'all: {{hosts: {{n: {{ansible_python_interpreter: !unsafe "{program}"}}}}}}'
        naive(directory, inventory)
    finally:
        PLAY[0]["tasks"] = [{"debug": {"msg": "{{ text }}"}}]


@pytest.mark.parametrize(
    "way", [as_extra_variables, as_a_host_variable_in_json, as_a_variable_of_the_users_choice]
)
def test_the_usual_ways_run_what_a_user_wrote(
    tmp_path: Path, way: Callable[[Path, str], None]
) -> None:
    marker = tmp_path / "it-ran"
    way(tmp_path, f"{{{{ lookup('pipe', 'touch {marker}') }}}}")
    assert marker.exists(), "this test is to show that the others can fail"


def test_none_of_these_ways_is_open(tmp_path: Path, collections: Path) -> None:
    marker, target = tmp_path / "it-ran", tmp_path / "target"
    text = f"{{{{ lookup('pipe', 'touch {marker}') }}}}"
    values: dict[str, Any] = {"show_text": text, "show_list": [text], "show_number": 1}
    values |= {"show_table": {"inner": {"text": text}}, "show_nothing": None}
    values |= {"show_target": str(target)}
    for name in ("ansible_python_interpreter", "ansible_connection", "vacuo_calls", "text"):
        with pytest.raises(Terminal):
            run_files.check(host({**values, name: text}), [ROLE])
    with pytest.raises(Terminal):
        run_files.check(host({**values, "show_table": {"ansible_become_exe": text}}), [ROLE])
    run_files.check(host(values), [ROLE])
    run(tmp_path, collections, [host(values)])
    assert json.loads(target.read_text())["show_text"] == text
    assert not marker.exists()


# --- from a template and from a cloud, all the way -----------------------------------------------

TEMPLATE = """
tosca_definitions_version: tosca_simple_yaml_1_3
description: {evil}
metadata:
  template_name: {evil}
  template_author: {evil}
imports: [vacuo/types.yaml]
topology_template:
  description: {evil}
  inputs:
    sizes: {{type: string, default: {evil}, description: {evil}}}
  node_templates:
    machine:
      type: tosca.nodes.Compute
      description: {evil}
    runtime:
      type: vacuo.nodes.ContainerRuntime
      requirements: [{{host: machine}}]
    cache:
      type: vacuo.nodes.Squid
      description: {evil}
      metadata: {{note: {evil}}}
      requirements: [{{host: runtime}}]
  outputs:
    said: {{description: {evil}, value: {{get_input: sizes}}}}
    joined: {{value: {{concat: [{evil}, {{get_input: sizes}}]}}}}
"""


@pytest.fixture(scope="module")
def compiler() -> Iterator[Compiler]:
    made = Compiler(Limits(), workers=1)
    yield made
    made.close()


def test_jinja_in_every_string_of_a_template_and_in_outputs_is_text(
    tmp_path: Path, collections: Path, compiler: Compiler
) -> None:
    marker, target = tmp_path / "it-ran", tmp_path / "target"
    for number, text in enumerate(evil(marker)[:3]):
        spec = compiler.compile(TEMPLATE.format(evil=json.dumps(text)), {"sizes": text})
        scope = Scope(spec, ())
        outputs = {name: resolve(value, scope) for name, value in spec.outputs.items()}
        assert outputs == {"said": text, "joined": text + text}
        assert spec.description == text
        found = {
            "show_target": str(target),
            "show_text": spec.description,
            "show_list": list(outputs.values()),
            "show_table": {"inner": {"text": text}, **outputs},
            "show_number": 1,
            "show_nothing": None,
        }
        directory = tmp_path / str(number)
        directory.mkdir()
        run(directory, collections, [host(found)])
        assert json.loads(target.read_text())["show_text"] == text
        assert not marker.exists()


def known(spec: DeploymentSpec, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Those that need no host to be there."""
    found = {}
    for name, value in variables.items():
        with contextlib.suppress(Unresolved):
            found[name] = resolve(value, Scope(spec, ()))
    return found


def test_jinja_in_the_names_of_a_template_stays_out_of_ansible(
    tmp_path: Path, compiler: Compiler
) -> None:
    text = "{{ lookup('pipe', 'id') }}"
    template = TEMPLATE.format(evil="x")
    for name in ("cache", "runtime", "machine", "sizes", "said", "joined"):
        template = re.sub(rf"\b{name}\b", json.dumps(f"{text} {name}"), template)
    spec = compiler.compile(template, {f"{text} sizes": "x"})
    assert any(text in group.name for group in spec.groups), "names are free; they are data"
    for group in spec.groups:
        calls = tuple(
            RoleCall(service.role, service.template, known(spec, service.variables))
            for service in group.services
        )
        assert calls
        node = f"{_host_word(group.name)}-1"
        one = host({}, node=node, roles=calls)
        run_files.check(one, [call.role for call in calls])
        directory = tmp_path / "run"
        directory.mkdir(mode=0o700)
        run_files.write(RunSettings(directory, tmp_path / "key", "", tmp_path), [one])
        for path in directory.rglob("*"):
            assert "lookup(" not in f"{path.name}{path.read_text() if path.is_file() else ''}"


@pytest.mark.parametrize("field", ["address", "host_keys", "node"])
def test_jinja_in_what_a_cloud_tells_of_a_host_never_reaches_ansible(
    tmp_path: Path, field: str
) -> None:
    text = f"{{{{ lookup('pipe', 'touch {tmp_path / 'it-ran'}') }}}}"
    told = (text, f"ssh-ed25519 {text}") if field == "host_keys" else text
    with pytest.raises(Terminal) as refused:
        run_files.check(host({}, **{field: told}), [ROLE])
    assert "lookup" not in str(refused.value)


def test_a_comment_behind_a_host_key_is_left_out() -> None:
    one = host({}, host_keys=("ssh-ed25519 AAAA {{ lookup('pipe', 'id') }}\nevil ssh-rsa AAAA",))
    assert run_files.known_hosts([one]) == "10.0.0.1 ssh-ed25519 AAAA\n"


# --- the environment of Ansible ------------------------------------------------------------------


def test_ansible_gets_nothing_of_the_servers_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = "a-secret-of-the-server"
    for name in ("VACUO_MASTER_KEY", "OS_PASSWORD", "ANSIBLE_VAULT_PASSWORD", "PYTHONPATH_X"):
        monkeypatch.setenv(name, planted)
    directory = tmp_path / "data"
    configurator = AnsibleConfigurator(Settings(data_directory=directory), mitogen=False)
    # Nothing answers there: Ansible starts, tries, and gives up.
    away = host({}, "vacuo.site.squid", address="127.0.0.9")
    ended = threading.Event()

    def go() -> None:
        list(configurator.apply([away], "environment"))
        ended.set()

    threading.Thread(target=go, daemon=True).start()
    seen: dict[int, dict[str, str]] = {}
    deadline = time.monotonic() + 100
    while not ended.is_set() and time.monotonic() < deadline:
        seen |= environments(str(directory))
        time.sleep(0.01)
    assert ended.is_set()
    assert seen, "no process of Ansible was seen"
    known = {*ENVIRONMENT, *RUNNER_ENVIRONMENT}
    known |= {"ANSIBLE_CONFIG", "ANSIBLE_HOST_KEY_CHECKING", "LC_ALL"}
    known |= {"PWD"}  # bubblewrap's word for where it has brought them
    assert any("ANSIBLE_CONFIG" in environment for environment in seen.values())
    for environment in seen.values():
        assert planted not in environment.values()
        # Ansible gives its own workers a few of its own.
        assert {n for n in environment if not n.startswith(("ANSIBLE_", "_"))} <= known


def environments(directory: str) -> dict[int, dict[str, str]]:
    """The environments of the processes of runs below ``directory``."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
            text = (process / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if directory in command and int(process.name) != os.getpid():
            pairs = [entry.partition("=") for entry in text.split("\0") if entry]
            found[int(process.name)] = {name: value for name, _, value in pairs}
    return found
