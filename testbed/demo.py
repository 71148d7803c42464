"""``make demo``: the main job, shown."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from orchestrator.errors import UserError, VacuoError
from testbed.main_job import MainJob, Summary

BUILD = Path("build")
PORT = 8420


class Demo:
    """Says what it does on standard error and leaves the numbers in ``build/demo.json``."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.began = time.monotonic()
        self._last = ""

    def say(self, text: str) -> None:
        self.console.print(f"[dim]{time.monotonic() - self.began:6.1f} s[/]  {text}")

    def status(self, job: MainJob) -> None:
        """``vacuo status`` in one line, whenever it changes."""
        nodes = sorted((node["group"], node["phase"]) for node in job.nodes())
        jobs = job.submitter.jobs(job.cluster)
        waiting = sum(j.status == 1 for j in jobs)
        running = sum(j.status == 2 for j in jobs)
        shown = ", ".join(f"{group} {phase}" for group, phase in nodes) or "no machine"
        line = f"{waiting} jobs wait, {running} run, {sum(j.done for j in jobs)} done · {shown}"
        if line != self._last:
            self._last = line
            self.say(line)

    def run(self) -> Summary:
        shutil.rmtree(BUILD / "demo", ignore_errors=True)
        job = MainJob(BUILD / "demo", port=PORT)
        try:
            job.start(self.say)
            job.post(self.say)
            self.say("The deployment stands, with no machine: nothing waits yet.")
            job.submit(self.say)
            job.follow(lambda: self.status(job))
            self.console.print(job.server.vacuo("--no-color", "status").stdout)
            self.say("The queue is empty. Nobody asks the machines to go; they leave.")
            job.vanish(lambda: self.status(job))
            job.down(self.say)
            job.summary.phases["whole"] = time.monotonic() - self.began
        finally:
            with contextlib.suppress(VacuoError):
                job.stop()
        job.summary.write(BUILD / "demo.json")
        return job.summary

    def show(self, summary: Summary) -> None:
        table = Table(title="The main job", show_header=False, title_justify="left")
        share = summary.core_seconds_used / max(1.0, summary.core_seconds_provided)
        rows = {
            "jobs done": summary.jobs_done,
            "checksums right": summary.checksums_right,
            "reads served by XCache": summary.xcache_hits,
            "reads served by squid": summary.squid_hits,
            "machines at most": summary.machines_peak,
            "machines left": summary.machines_left,
            "instances nobody knows": summary.unknown_instances,
            "core-seconds used / provided": f"{summary.core_seconds_used:.0f} / "
            f"{summary.core_seconds_provided:.0f} ({share:.0%})",
            **{name: f"{seconds:.1f} s" for name, seconds in summary.phases.items()},
        }
        for name, value in rows.items():
            table.add_row(name, str(value))
        Console().print(table)


def refuse_taken_port() -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            raise UserError(
                f"Port {PORT} on 127.0.0.1 is taken, and the demo's server wants it.",
                attempt=f"stop what listens there: ss -ltnp 'sport = :{PORT}'",
            ) from None


def main() -> int:
    demo = Demo()
    try:
        refuse_taken_port()
        summary = demo.run()
    except VacuoError as error:
        demo.console.print(f"[red]The demo cannot go on.[/] {error}")
        return 1
    except (TimeoutError, RuntimeError) as error:
        demo.console.print(f"[red]The demo failed.[/] {error}")
        demo.console.print("The server's log: build/demo/server/server.log")
        return 1
    demo.show(summary)
    demo.say("The numbers are in build/demo.json. Next: README.md, docs/user/tosca.md")
    good = summary.jobs_done == summary.checksums_right and not summary.machines_left
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
