"""A thousand hostile templates through the API of a real server, while others use it.

Reference: the same ordinary requests of the same server before anybody was hostile.  Hostile
documents go through ``POST /validate``, as any user may send them, from as many clients as the
machine has cores and two more; meanwhile one client asks for what people ask for, at a steady pace.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import statistics
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from bench.figures import Figure
from bench.hostile_documents import documents
from bench.world import DIRECTORY, say
from orchestrator.settings import Pool
from testbed.server import VacuoServer

COUNT = 1000
PORT = 8437
GOAL_SLOWEST_SECONDS = 2.0
GOAL_OTHERS_SECONDS = 0.1
_CALM_REQUESTS = 150
_PAUSE = 0.05
_TIMEOUT = 120.0
_SITE = {
    "name": "somewhere",
    "provider": "simulated",
    "flavours": [{"name": "small", "cores": 4, "memory_mb": 8192, "disk_gb": 100}],
}


def run() -> Sequence[Figure]:
    directory = DIRECTORY / "hostile"
    shutil.rmtree(directory, ignore_errors=True)
    pool = Pool(name="default", batch="simulated")
    server = VacuoServer(directory, [pool], port=PORT, site=_SITE)
    server.start()
    try:
        server.login()
        client = Client(server.url, server.token)
        calm = [client.ordinary() for _ in range(_CALM_REQUESTS)]
        others = Others(client)
        hostile = _attack(client)
        meanwhile = others.stop()
    finally:
        server.stop()
    return _figures(hostile, meanwhile, calm)


@dataclass(frozen=True)
class Told:
    """What became of one hostile document."""

    kind: str
    status: int
    seconds: float
    size: int


@dataclass
class Client:
    """Speaks HTTP as a script would, without a library that could be in the way."""

    url: str
    token: str
    failures: list[str] = field(default_factory=list)

    def ask(self, path: str, body: object = None) -> tuple[int, float]:
        """The status of the answer, and how long it took to have all of it."""
        sent = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", sent, headers)
        began = time.perf_counter()
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
                answer.read()
                status = int(answer.status)
        except urllib.error.HTTPError as error:
            error.read()
            status = error.code
        return status, time.perf_counter() - began

    def ordinary(self) -> float:
        status, seconds = self.ask("/deployments")
        if status != 200:
            self.failures.append(f"/deployments answered {status}")
        return seconds


class Others:
    """Ordinary requests at a steady pace, until it is stopped."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._seconds: list[float] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._done.wait(_PAUSE):
            self._seconds.append(self._client.ordinary())

    def stop(self) -> list[float]:
        self._done.set()
        self._thread.join(_TIMEOUT)
        if self._client.failures:
            raise RuntimeError(self._client.failures[0])
        return self._seconds


def _attack(client: Client) -> list[Told]:
    def one(document: tuple[str, str]) -> Told:
        kind, text = document
        status, seconds = client.ask("/validate", {"template": text})
        return Told(kind, status, seconds, len(text))

    clients = (os.cpu_count() or 1) + 2
    with ThreadPoolExecutor(clients) as threads:
        return list(threads.map(one, _documents()))


def _documents() -> Iterator[tuple[str, str]]:
    return documents(COUNT, random.Random(20))


def _figures(
    hostile: Sequence[Told], meanwhile: Sequence[float], calm: Sequence[float]
) -> list[Figure]:
    slowest = sorted(hostile, key=lambda told: told.seconds)[-5:]
    for told in reversed(slowest):
        say(f"{told.seconds:.2f} s: {told.kind}, {told.size} characters, {told.status}")
    statuses = Counter(told.status for told in hostile)
    say(f"answers: {dict(sorted(statuses.items()))}; {len(meanwhile)} other requests meanwhile")
    bad = sum(count for status, count in statuses.items() if status >= 500)
    worst, others = slowest[-1].seconds, _percentile(meanwhile, 0.99)
    return [
        Figure("hostile documents answered", len(hostile) - bad, "", goal=f"all of {COUNT}",
               holds=bad == 0 and len(hostile) == COUNT),
        Figure("a hostile document, median",
               statistics.median(told.seconds for told in hostile), "s"),
        Figure("a hostile document, slowest", worst, "s",
               goal=f"at most {GOAL_SLOWEST_SECONDS:g} s", holds=worst <= GOAL_SLOWEST_SECONDS),
        Figure("other requests meanwhile, p99", others, "s", "the same in calm, p99",
               _percentile(calm, 0.99), f"below {GOAL_OTHERS_SECONDS:g} s",
               others < GOAL_OTHERS_SECONDS),
    ]  # fmt: skip


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]
