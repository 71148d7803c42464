"""Files of the Ansible roles as Ansible itself renders them: what runs is what the roles make."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[1] / "ansible" / "roles"
_SECONDS = 100

# name of the rendered file: role, template, variables of the role
Cases = Mapping[str, tuple[str, str, Mapping[str, Any]]]


def render(directory: Path, cases: Cases) -> Path:
    """``directory`` with every case in it, rendered in one run of Ansible on this machine."""
    tasks = [
        {
            "name": name,
            "ansible.builtin.template": {
                "src": str(ROLES / role / "templates" / template),
                "dest": str(directory / name),
            },
            "vars": dict(variables),
        }
        for name, (role, template, variables) in cases.items()
    ]
    roles = {role for role, _, _ in cases.values()}
    files = [str(ROLES / role / "defaults/main.yml") for role in sorted(roles)]
    private = [ROLES / role / "vars/main.yml" for role in sorted(roles)]
    files += [str(path) for path in private if path.exists()]
    play = {"hosts": "localhost", "gather_facts": False, "vars_files": files, "tasks": tasks}
    (directory / "play.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    command = [sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,", "-c", "local"]
    done = subprocess.run(
        [*command, str(directory / "play.yml")],
        env=os.environ
        | {"ANSIBLE_HOME": str(directory / "home"), "ANSIBLE_PYTHON_INTERPRETER": sys.executable},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    if done.returncode != 0:
        raise RuntimeError(f"The roles' files cannot be rendered: {done.stdout}{done.stderr}")
    return directory
