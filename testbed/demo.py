"""``make demo``: the main job, shown."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.errors import UserError, VacuoError
from testbed.main_job import MainJob, Summary

BUILD = Path("build")
PORT = 8420
STATUS_SECONDS = 2.0
WIDTH = 100  # where there is no terminal to tell


class Demo:
    """Says what it does on standard error and leaves the numbers in ``build/demo.json``."""

    def __init__(self) -> None:
        width = None if sys.stderr.isatty() else WIDTH
        self.console = Console(stderr=True, highlight=False, width=width)
        self.began = time.monotonic()
        self.live: Live | None = None
        self._last = ""
        self._shown_at = 0.0

    def say(self, text: str) -> None:
        self.console.print(f"[dim]{time.monotonic() - self.began:6.1f} s[/]  {text}")

    def status(self, job: MainJob) -> None:
        """``vacuo status``, live on a terminal; elsewhere one line whenever something changes."""
        if self.live:
            if time.monotonic() - self._shown_at > STATUS_SECONDS:
                text = job.server.vacuo("status", job.deployment).stdout
                self.live.update(Text.from_ansi(text))
                self._shown_at = time.monotonic()
            return
        nodes = Counter((node["group"], node["phase"]) for node in job.nodes())
        jobs = job.submitter.jobs(job.cluster)
        waiting = sum(j.status == 1 for j in jobs)
        running = sum(j.status == 2 for j in jobs)
        counts = sorted(nodes.items())
        machines = ", ".join(f"{count} {group} {phase}" for (group, phase), count in counts)
        done = sum(j.done for j in jobs)
        line = f"{waiting} jobs wait, {running} run, {done} done · {machines or 'no machine'}"
        if line != self._last:
            self._last = line
            self.say(line)

    @contextlib.contextmanager
    def _live(self) -> Iterator[None]:
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, transient=True) as self.live:
            yield
        self.live = None

    def run(self) -> Summary:
        shutil.rmtree(BUILD / "demo", ignore_errors=True)
        job = MainJob(BUILD / "demo", port=PORT)
        try:
            job.start(self.say)
            job.post(self.say)
            self.say("The deployment stands, with no machine: nothing waits yet.")
            job.submit(self.say)
            with self._live():
                job.follow(lambda: self.status(job))
            self.console.print(job.server.vacuo("--no-color", "status").stdout)
            self.say("The queue is empty. Nobody asks the machines to go; they leave.")
            with self._live():
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
        Console(width=self.console.width).print(table)


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
