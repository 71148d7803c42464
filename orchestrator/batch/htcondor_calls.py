"""How the helper process asks HTCondor, and what an answer or an error means.

Only ``htcondor_child`` and the modules ``htcondor_*`` that it consists of import ``htcondor2``.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import classad2
import htcondor2

from orchestrator.errors import PortError, Retryable, Unauthorised


def collector_at(address: str) -> htcondor2.Collector:
    return htcondor2.Collector(address)


def ask_collector(question: Callable[[], Iterable[classad2.ClassAd]]) -> list[classad2.ClassAd]:
    try:
        return list(question())
    except htcondor2.HTCondorException as error:
        raise explain(error, "The collector") from None


def explain(error: Exception, who: str = "HTCondor") -> PortError:
    """The port's error for ``error``: the library's own messages do not tell a refusal from a
    network that is down, but what it writes to its log on the way does."""
    detail = log_lines()
    said = f"{error} {detail}"
    passing = re.search(r"deadline|timed? ?out|refused \(connect|failed to connect", said, re.I)
    refused = re.search(
        r"AUTHENTICATE:100[34]|DENIED|limited authorization|not authorized|permission", said, re.I
    )
    if refused and not passing:
        return Unauthorised(f"{who} refused Vacuo's credential: {detail or error}")
    return Retryable(f"{who} does not answer: {detail or error}")


# Standard error becomes this file: it is where the library logs, and nobody reads ours.
_LOG = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - as long as the process


def log_to_ourselves() -> None:
    """Have the library's log where :func:`explain` finds it."""
    os.dup2(_LOG.fileno(), 2)
    htcondor2.enable_debug()


def log_lines() -> str:
    """What the library wrote to its log since the last call, without its time stamps."""
    _LOG.seek(0)
    text = _LOG.read().decode(errors="replace")
    _LOG.seek(0)
    _LOG.truncate()
    lines = [re.sub(r"^[\d/]+ [\d:.]+ (\(\S+\) )?", "", line) for line in text.splitlines()]
    return " ".join(line.strip() for line in lines if line.strip())[-500:]


# --- ClassAds -------------------------------------------------------------------------------------


def plain(ad: classad2.ClassAd, names: Iterable[str]) -> dict[str, Any]:
    """The named attributes that have a plain value."""
    values = {}
    for name in names:
        if name in ad:
            value = ad.eval(name)
            if isinstance(value, (str, int, float, bool)) and not isinstance(value, classad2.Value):
                values[name] = value
    return values


def evaluate(ad: classad2.ClassAd, name: str, default: int) -> int:
    value = plain(ad, (name,)).get(name, default)
    return int(value) if isinstance(value, (int, float)) else default


def text_of(ad: classad2.ClassAd, name: str) -> str:
    return str(plain(ad, (name,)).get(name, ""))
