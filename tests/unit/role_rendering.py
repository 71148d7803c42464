"""Files of the roles as Ansible renders them, and HTCondor's own reading of its configuration."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import classad2

from testbed.roles import ROLES, Cases, render

# HTCondor's own ClassAd functions are there once its library is; it wants a configuration to read.
_before = os.environ.get("CONDOR_CONFIG")
os.environ["CONDOR_CONFIG"] = os.devnull
import htcondor2  # noqa: E402, F401

if _before is None:
    del os.environ["CONDOR_CONFIG"]
else:
    os.environ["CONDOR_CONFIG"] = _before

__all__ = ["ROLES", "Cases", "machine_ad", "parameters", "render"]


@functools.cache
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


def machine_ad(config: Path, seen: Mapping[str, Any]) -> classad2.ClassAd:
    """The ad that a startd with this configuration would advertise, as far as START needs it;
    ``seen`` is what the startd found out by itself, ``Now`` the time."""
    listed = parameters(config, "STARTD_ATTRS")["STARTD_ATTRS"].split()
    values = parameters(config, "START", *dict.fromkeys(listed))
    ad = classad2.ClassAd()
    for name, value in values.items():
        ad[name] = classad2.ExprTree(value.replace("time()", "MY.Now"))
    for name, value in seen.items():
        ad[name] = value
    ad["Requirements"] = classad2.ExprTree("MY.START")
    return ad
