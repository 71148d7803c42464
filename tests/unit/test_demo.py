"""What the demo promises before it has run: its numbers' names, and a clear word when it cannot."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from bench.figures import Figure, report
from orchestrator.errors import UserError
from testbed import demo
from testbed.main_job import Summary


def test_the_numbers_have_the_names_that_others_read(tmp_path: Path) -> None:
    path = tmp_path / "build" / "demo.json"
    Summary(jobs_done=8, phases={"server": 1.0}).write(path)
    assert set(json.loads(path.read_text())) == {
        "jobs_done",
        "checksums_right",
        "xcache_hits",
        "squid_hits",
        "machines_peak",
        "machines_left",
        "unknown_instances",
        "core_seconds_used",
        "core_seconds_provided",
        "phases",
    }


def test_a_taken_port_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(demo, "PORT", taken.getsockname()[1])
        with pytest.raises(UserError, match="is taken") as refused:
            demo.refuse_taken_port()
    assert refused.value.attempt


def test_a_benchmark_writes_its_figures_with_their_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.figures.DIRECTORY", tmp_path)
    report("sample", [Figure("what", 3.0, "s", "floor", 1.5, "at most 2 x", True)])
    written = json.loads((tmp_path / "sample.json").read_text())
    assert written["name"] == "sample"
    assert written["figures"] == [
        {
            "what": "what",
            "value": 3.0,
            "unit": "s",
            "reference": "floor",
            "reference_value": 1.5,
            "ratio": 2.0,
            "goal": "at most 2 x",
            "holds": True,
        }
    ]
