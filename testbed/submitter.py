"""The helper process in which an ordinary user's HTCondor client runs; see testbed.jobs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import htcondor2

from orchestrator.batch.child import serve
from orchestrator.errors import PortError, Retryable, Terminal

_TIMES_REFUSED = 10
_SHOWN = ["ClusterId", "ProcId", "JobStatus", "ExitCode", "HoldReason", "RemoteHost"]
_SHOWN += ["JobCurrentStartDate", "JobCurrentStartExecutingDate", "CompletionDate", "QDate"]
_SHOWN += ["LastRemoteHost"]


def _schedd(collector: str) -> htcondor2.Schedd:
    found = _schedds(collector)
    if not found:
        raise Retryable("The collector knows no schedd.")
    return htcondor2.Schedd(found[0])


def _schedds(collector: str) -> list[Any]:
    """A collector that is busy refuses now and then, and a user asks again."""
    for _ in range(_TIMES_REFUSED):
        try:
            return list(htcondor2.Collector(collector).query(htcondor2.AdType.Schedd))
        except htcondor2.HTCondorException:
            time.sleep(1.0)
    return list(htcondor2.Collector(collector).query(htcondor2.AdType.Schedd))


def submit(collector: str, description: Mapping[str, str], count: int, spool: bool) -> int:
    schedd = _schedd(collector)
    result = schedd.submit(htcondor2.Submit(dict(description)), count=count, spool=spool)
    if spool:
        schedd.spool(result)
    return int(result.cluster())


def query(collector: str, constraint: str) -> list[dict[str, Any]]:
    rows = []
    for ad in _schedd(collector).query(constraint, _SHOWN):
        values = {name: ad.eval(name) for name in _SHOWN if name in ad}
        rows.append({k: v for k, v in values.items() if type(v) in (str, int, float, bool)})
    return rows


def act(collector: str, action: str, constraint: str) -> None:
    _schedd(collector).act(htcondor2.JobAction[action], constraint)


def retrieve(collector: str, constraint: str) -> None:
    _schedd(collector).retrieve(constraint)


def _explain(error: Exception) -> PortError:
    return Terminal(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    operations = (submit, query, act, retrieve)
    serve({operation.__name__: operation for operation in operations}, _explain)
