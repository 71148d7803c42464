"""What a user writes never runs on the controller, whatever it looks like.

The real Ansible of this installation runs the files that the configurator writes, with a role that
uses its variables in every common way; only the connection is local instead of ssh.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.configure import run_files
from orchestrator.configure.base import HostToConfigure, RoleCall
from orchestrator.configure.run_files import RunSettings
from orchestrator.errors import Terminal
from orchestrator.model import NodeName

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ5IGEgdGVzdA=="
ROLE = "test.probe.show"

TASKS = """
- name: Use the values in a template
  ansible.builtin.template:
    src: all.j2
    dest: "{{ show_target }}"
    mode: "0600"
- name: Use them in a message, a condition, a loop and a command
  ansible.builtin.debug:
    msg: "{{ show_text }} {{ show_table }} {{ item }}"
  loop: "{{ show_list }}"
  when: show_text != 'never'
- name: Use them in an argument
  ansible.builtin.command:
    argv: [echo, "{{ show_text }}", "{{ show_table.inner.text }}"]
  changed_when: false
- name: Keep them as a fact and use that
  ansible.builtin.set_fact:
    show_again: "{{ show_table }}"
- name: Use the fact
  ansible.builtin.debug:
    msg: "{{ show_again.inner.text }} {{ hostvars[inventory_hostname].vacuo_calls }}"
"""


def evil(marker: Path) -> list[str]:
    """Texts each of which would create ``marker`` if anything evaluated it."""
    return [
        f"{{{{ lookup('pipe', 'touch {marker}') }}}}",
        f"{{% set x = lookup('ansible.builtin.pipe', 'touch {marker}') %}}",
        f"{{{{ ''.__class__.__mro__ }}}}{{{{ lookup('pipe', 'touch {marker}') }}}}",
        f"$(touch {marker}) `touch {marker}` ; touch {marker}",
        f"!!python/object/apply:os.system ['touch {marker}']",
        f"'\"\n- hosts: all\n  tasks: [{{shell: touch {marker}}}]\n#",
        f"{{{{ query('file', '/etc/passwd') }}}}{{{{ lookup('pipe', 'touch {marker}') }}}}",
    ]


def host(variables: dict[str, Any], role: str = ROLE, **changes: Any) -> HostToConfigure:
    given: dict[str, Any] = {"node": "node-1", "address": "10.0.0.1", "host_keys": (HOST_KEY,)}
    given |= changes
    call = RoleCall(role, "a service", variables)
    return HostToConfigure(
        NodeName(given["node"]), given["address"], given["host_keys"], given.get("roles", (call,))
    )


@pytest.fixture
def collections(tmp_path: Path) -> Path:
    role = tmp_path / "collections/ansible_collections/test/probe/roles/show"
    for name in ("tasks", "templates"):
        (role / name).mkdir(parents=True)
    (role / "tasks/main.yml").write_text(TASKS)
    names = ("show_text", "show_list", "show_table", "show_number", "show_nothing")
    whole = ", ".join(f"'{name}': {name}" for name in names)
    (role / "templates/all.j2").write_text(f"{{{{ {{{whole}}} | to_json }}}}")
    return tmp_path / "collections"


def run(tmp_path: Path, collections: Path, hosts: list[HostToConfigure]) -> str:
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    settings = RunSettings(directory, tmp_path / "key", str(collections), tmp_path)
    playbook = run_files.write(settings, hosts)
    command = [sys.executable, "-m", "ansible.cli.playbook", "--connection", "local"]
    done = subprocess.run(
        [*command, "-i", str(directory / "inventory.yml"), str(playbook)],
        env={
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_CONFIG": str(directory / "ansible.cfg"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert run_files.FINISHED_TASK in done.stdout
    assert run_files.FAILED_TASK not in done.stdout
    return done.stdout


def test_values_arrive_as_they_are_and_nothing_in_them_runs(
    tmp_path: Path, collections: Path
) -> None:
    marker, target = tmp_path / "it-ran", tmp_path / "target"
    texts = evil(marker)
    variables = {
        "show_target": str(target),
        "show_text": texts[0],
        "show_list": texts,
        "show_table": {"inner": {"text": texts[0], "all": texts}, "{}": 0},
        "show_number": 3128,
        "show_nothing": None,
    }
    del variables["show_table"]["{}"]  # type: ignore[attr-defined]
    one = host(variables)
    run_files.check(one, [ROLE])
    run(tmp_path, collections, [one])
    assert not marker.exists()
    wanted = {name: value for name, value in variables.items() if name != "show_target"}
    assert json.loads(target.read_text()) == wanted


def test_hosts_of_one_run_keep_their_own_values_and_roles(
    tmp_path: Path, collections: Path
) -> None:
    hosts = []
    for number in (1, 2, 3):
        variables = {"show_target": str(tmp_path / f"target-{number}"), "show_text": f"t{number}"}
        variables |= {"show_list": [number], "show_table": {"inner": {"text": ""}}}  # type: ignore[dict-item]
        variables |= {"show_number": number, "show_nothing": None}  # type: ignore[dict-item]
        call = RoleCall(ROLE, "s", variables)
        roles = () if number == 3 else (call,)
        hosts.append(host({}, node=f"node-{number}", roles=roles))
    run(tmp_path, collections, hosts)
    assert json.loads((tmp_path / "target-1").read_text())["show_text"] == "t1"
    assert json.loads((tmp_path / "target-2").read_text())["show_number"] == 2
    assert not (tmp_path / "target-3").exists()


def test_users_values_are_in_one_file_that_nobody_else_may_read(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    secret = "a-token-of-some-length"
    one = host({"show_text": secret, "show_table": {"a": [secret]}})
    run_files.write(RunSettings(directory, tmp_path / "key", "", tmp_path), [one])
    holding = [path for path in directory.rglob("*") if path.is_file()]
    assert all(path.stat().st_mode & 0o077 == 0 for path in holding)
    found = [path.relative_to(directory) for path in holding if secret in path.read_text()]
    assert found == [Path("host_vars/node-1.yml")]
    text = (directory / "host_vars/node-1.yml").read_text()
    assert text.count(secret) == text.count(f'!unsafe "{secret}"') == 2


def test_the_play_holds_names_only(tmp_path: Path) -> None:
    text = run_files.play("ansible.builtin.free", [host({"show_text": "{{ evil }}"})])
    assert "evil" not in text
    (play,) = yaml.safe_load(text)
    assert play["gather_facts"] is False


@pytest.mark.parametrize(
    "variables",
    [
        {"ansible_python_interpreter": "/tmp/evil"},
        {"show_{{ evil }}": 1},
        {"show_x y": 1},
        {"show_x\n": 1},
        {"other_text": 1},
        {"show_table": {"ansible_connection": "local"}},
        {"show_table": {"{{ evil }}": 1}},
        {"show_table": {"a": [{"b\n": 1}]}},
        {"show_table": {1: 1}},
        {"show_text": object()},
        {"show_text": "\ud800"},
    ],
)
def test_names_and_keys_that_could_mean_something_are_refused(variables: dict[str, Any]) -> None:
    with pytest.raises(Terminal):
        run_files.check(host(variables), [ROLE])


@pytest.mark.parametrize("role", ["test.probe.other", "../evil", "show", "a.b.c.d", "{{ evil }}"])
def test_only_roles_of_the_list_may_run(role: str) -> None:
    with pytest.raises(Terminal):
        run_files.check(host({}, role), [ROLE])


@pytest.mark.parametrize("node", ["", "a b", "{{ evil }}", "all:children", "a\nb", "-x", "../x"])
def test_a_node_whose_name_could_mean_something_is_refused(node: str) -> None:
    with pytest.raises(Terminal):
        run_files.check(host({}, node=node), [ROLE])


@pytest.mark.parametrize("address", ["", "-oProxyCommand=x", "a b", "$(x)", "{{ e }}", "a..b"])
def test_an_address_that_ssh_could_take_for_an_option_is_refused(address: str) -> None:
    with pytest.raises(Terminal):
        run_files.check(host({}, address=address), [ROLE])


@pytest.mark.parametrize("keys", [(), ("",), ("ssh-dss AAAA",), ("@revoked ssh-ed25519 AAAA",)])
def test_a_host_whose_key_is_not_known_is_never_connected_to(keys: tuple[str, ...]) -> None:
    with pytest.raises(Terminal, match="No ssh host key"):
        run_files.check(host({}, host_keys=keys), [ROLE])


def test_a_refusal_shows_no_value() -> None:
    with pytest.raises(Terminal) as caught:
        run_files.check(host({"show_table": {"key with spaces": "hunter2"}}), [ROLE])
    assert "hunter2" not in str(caught.value)
