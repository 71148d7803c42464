"""The files of one configuration run: inventory, variables, play, configuration, known hosts.

What a user wrote reaches Ansible in one place only: the list ``vacuo_calls`` in a host's variables
file, every string of it tagged ``!unsafe``, so that nothing in it is ever evaluated.  All names
(roles, variables, keys, hosts) are checked by pattern; the play refers to values by those names
and holds none.  Everything here is pure but :func:`write`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestrator.configure.base import HostToConfigure, RoleCall
from orchestrator.errors import Terminal

CONFIGURE_TASK = "vacuo: services"
FINISHED_TASK = "vacuo: finished"
FAILED_TASK = "vacuo: failed"

# Only the keys that we know, only our own key, and an end to what hangs.
SSH_OPTIONS = (
    "GlobalKnownHostsFile=/dev/null",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "IdentitiesOnly=yes",
    "BatchMode=yes",
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
)

_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}")
_ROLE = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_VARIABLE = re.compile(r"[a-z][a-z0-9_]{0,127}")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_HOST_KEY = re.compile(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,3}(?= |$)"
)


@dataclass(frozen=True)
class RunSettings:
    """What is the same for every host of a run.  ``strategy_plugins`` is empty for Ansible's own
    strategies; the path of ``scratch`` is short, because sockets are made below it."""

    directory: Path
    private_key: Path
    collections: str  # directories, separated by colons
    scratch: Path
    strategy: str = "ansible.builtin.free"
    strategy_plugins: str = ""
    forks: int = 20
    remote_user: str = "root"


class _Unsafe(str):
    """A user's string on its way into YAML."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    _Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text), style='"')
)


def check(host: HostToConfigure, roles: Sequence[str]) -> None:
    """Refuse a host whose names or values may not reach Ansible; ``roles`` are the allowed ones.

    Raises :class:`Terminal` with a sentence that holds no value.
    """
    check_calls(host, roles)
    if not _is_address(host.address):
        raise Terminal(f"The address of node {host.node} is neither an IP address nor a name.")
    if not known_host_lines(host):
        raise Terminal(f"No ssh host key of node {host.node} is known.")


def check_calls(host: HostToConfigure, roles: Sequence[str]) -> None:
    """As :func:`check`, for a host that needs no way in."""
    if not _NODE.fullmatch(host.node):
        raise Terminal("The node's name is not made of letters, digits, dots and dashes.")
    for call in host.roles:
        if not _ROLE.fullmatch(call.role) or call.role not in roles:
            raise Terminal(f"The role {_shown(call.role)} is not one that this server may run.")
        prefix = call.role.rpartition(".")[2] + "_"
        for name, value in call.variables.items():
            if not _VARIABLE.fullmatch(name) or not name.startswith(prefix):
                raise Terminal(
                    f"{_shown(name)} is not a variable of the role {call.role}: "
                    f"its variables begin with {prefix}."
                )
            unsafe(value, name)


def unsafe(value: Any, where: str) -> Any:
    """``value`` with every string in it marked as a user's; raises :class:`Terminal` for what is
    not JSON or has a key that could mean something to Ansible."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Terminal(f"The value of {where} is not valid text.") from None
        return _Unsafe(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [unsafe(item, where) for item in value]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or not _KEY.fullmatch(key) or key.startswith("ansible_"):
                raise Terminal(
                    f"{where} has a key that cannot be used: keys are letters, digits, dots, "
                    "dashes and underscores, and do not begin with ansible_."
                )
        return {key: unsafe(item, where) for key, item in value.items()}
    raise Terminal(f"The value of {where} is of a type that cannot be passed on.")


def write(settings: RunSettings, hosts: Sequence[HostToConfigure]) -> Path:
    """Write all files of a run into ``settings.directory``; returns the playbook's path."""
    directory = settings.directory
    (directory / "host_vars").mkdir(mode=0o700)
    files = {"ansible.cfg": configuration(settings), "known_hosts": known_hosts(hosts)}
    files["inventory.yml"] = inventory(hosts)
    files["play.yml"] = play(settings.strategy, hosts)
    for host in hosts:
        files[f"host_vars/{host.node}.yml"] = host_variables(host)
    for name, text in files.items():
        path = directory / name
        path.touch(mode=0o600)
        path.write_text(text)
    return directory / "play.yml"


def inventory(hosts: Sequence[HostToConfigure]) -> str:
    entries = {str(host.node): {"ansible_host": host.address} for host in hosts}
    return yaml.dump({"all": {"hosts": entries}}, Dumper=_Dumper)


def host_variables(host: HostToConfigure) -> str:
    """The one place where users' values are: the calls' variables, and which call is which."""
    calls = [
        {name: unsafe(value, name) for name, value in call.variables.items()} for call in host.roles
    ]
    steps = [_step(call) for call in host.roles]
    return yaml.dump({"vacuo_calls": calls, "vacuo_steps": steps}, Dumper=_Dumper, width=10**6)


def play(strategy: str, hosts: Sequence[HostToConfigure]) -> str:
    """One play for all hosts.  Each position in the hosts' lists of roles becomes one task per
    distinct (role, variables' names); a host skips those that are not its own."""
    tasks: list[dict[str, Any]] = []
    for position in range(max((len(host.roles) for host in hosts), default=0)):
        distinct = {
            _step(host.roles[position]): host.roles[position]
            for host in hosts
            if position < len(host.roles)
        }
        tasks += [_include(position, step, call) for step, call in distinct.items()]
    tasks.append({"name": "vacuo: handlers", "ansible.builtin.meta": "flush_handlers"})
    tasks.append(_verdict(FINISHED_TASK))
    block = {"name": CONFIGURE_TASK, "block": tasks, "rescue": [_verdict(FAILED_TASK)]}
    whole = {
        "name": "Configure",
        "hosts": "all",
        "gather_facts": False,
        "strategy": strategy,
        "tasks": [block],
    }
    return yaml.dump([whole], Dumper=_Dumper, sort_keys=False, width=10**6)


def _include(position: int, step: str, call: RoleCall) -> dict[str, Any]:
    return {
        "name": call.role,
        "ansible.builtin.include_role": _role(call),
        "vars": {
            name: f"{{{{ vacuo_calls[{position}]['{name}'] }}}}" for name in sorted(call.variables)
        },
        "when": f"vacuo_steps[{position}] | default('') == '{step}'",
    }


def _role(call: RoleCall) -> dict[str, str]:
    return {"name": call.role, **({"tasks_from": call.entry} if call.entry != "main" else {})}


def _verdict(name: str) -> dict[str, Any]:
    # An action of the controller alone: it costs no round trip.
    return {"name": name, "ansible.builtin.assert": {"that": ["true"], "quiet": True}}


def _step(call: RoleCall) -> str:
    return " ".join([call.role, call.entry, *sorted(call.variables)])


def known_hosts(hosts: Sequence[HostToConfigure]) -> str:
    return "".join(f"{line}\n" for host in hosts for line in known_host_lines(host))


def known_host_lines(host: HostToConfigure) -> list[str]:
    matches = (_HOST_KEY.match(key.strip()) for key in host.host_keys)
    return [f"{host.address} {match.group(0)}" for match in matches if match]


# What ``ansible.cfg`` says last of its defaults, and of all else, wherever a run takes place.
EVERYWHERE = """\
interpreter_python = /usr/bin/python3
gathering = explicit
inject_facts_as_vars = False
nocows = True
retry_files_enabled = False
deprecation_warnings = False
localhost_warning = False
devel_warning = False
cache_plugin = memory

[inventory]
enable_plugins = ansible.builtin.yaml

[connection]
pipelining = True
"""


def configuration(settings: RunSettings) -> str:
    """``ansible.cfg``: everything that matters is said, nothing is left to the environment."""
    directory = settings.directory
    ssh = [
        "-F /dev/null",
        f'-o UserKnownHostsFile="{directory / "known_hosts"}"',
        *(f"-o {option}" for option in SSH_OPTIONS),
    ]
    plugins = (
        f"strategy_plugins = {settings.strategy_plugins}\n" if settings.strategy_plugins else ""
    )
    return f"""\
[defaults]
home = {settings.scratch / "home"}
local_tmp = {settings.scratch / "tmp"}
inventory = {directory / "inventory.yml"}
collections_path = {settings.collections}
roles_path = {settings.collections}
{plugins}private_key_file = {settings.private_key}
remote_user = {settings.remote_user}
host_key_checking = True
forks = {settings.forks}
timeout = 20
{EVERYWHERE}
[ssh_connection]
pipelining = True
retries = 2
ssh_args = -o ControlMaster=auto -o ControlPersist=60s
ssh_common_args = {" ".join(ssh)}
control_path_dir = {settings.scratch}
"""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return bool(_HOST_NAME.fullmatch(text)) and ".." not in text
    return True


def _shown(name: str) -> str:
    """A name that failed its check, fit for a sentence."""
    return repr(name[:60])
