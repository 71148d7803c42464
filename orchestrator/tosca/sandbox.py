"""Templates are read in processes that can be killed, never in a thread that serves others.

:class:`Compiler` keeps a few warm worker processes (:mod:`orchestrator.tosca.worker`).  It may be
used from any thread and after a fork; workers are started when they are first needed, and end by
themselves when this process does, however it ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from orchestrator.errors import UserError
from orchestrator.model import DeploymentSpec
from orchestrator.settings import Limits
from orchestrator.tosca.means import Means
from orchestrator.tosca.problems import START, Report, TemplateInvalid
from orchestrator.tosca.sources import SECONDS_PER_CHARACTER, Gathering, ImportSources
from orchestrator.tosca.summary import TemplateCheck, TemplateSummary
from orchestrator.tosca.wire import ANSWER_BYTES, HEADER, Malformed, decode, frame

_log = logging.getLogger(__name__)
COMMAND = (sys.executable, "-I", "-m", "orchestrator.tosca.worker")
PARAMETER_DEPTH = 32
_START_SECONDS = 60.0
# Reading is linear in what is read: a small template that takes long is no honest one.  These are
# about five times of what a large honest template takes.
_CPU_SECONDS = 1.5
_LEAST_SECONDS = 0.5
_GRACE_SECONDS = 5.0  # the kernel ends the work; this is for a worker that does not tell


T = TypeVar("T")


class _WorkerGone(Exception):
    """The worker ended, or never began."""


class _Stalled(Exception):
    """The worker did not answer in time."""


class Compiler:
    """Compiles and describes templates within ``limits``.

    At most ``workers`` templates are read at once; the next waits for ``template_seconds`` and is
    then refused (status 503).  What a template imports is found here, by ``imports``, and handed
    in: the workers open nothing.  ``means`` is asked for each template: what there is for foreign
    types.
    """

    def __init__(
        self,
        limits: Limits,
        workers: int | None = None,
        command: Sequence[str] = COMMAND,
        imports: ImportSources | None = None,
        means: Callable[[], Means] = Means,
    ) -> None:
        self._limits = limits
        self._means = means
        self._imports = imports or ImportSources()
        self._count = workers or min(4, os.cpu_count() or 1)
        self._command = tuple(command)
        self._begin()
        reference = weakref.ref(self)

        def forked() -> None:
            if (compiler := reference()) is not None:
                compiler._forget()

        os.register_at_fork(after_in_child=forked)

    def compile(
        self,
        template: str,
        inputs: Mapping[str, Any],
        file: str = "template.yaml",
        *,
        origin: str = "",
    ) -> DeploymentSpec:
        """The deployment that ``template`` means with ``inputs``; ``file`` names it in problems.

        ``template`` is its text, or a CSAR archive in base64 (:mod:`orchestrator.tosca.csar`).
        ``origin`` is its https address, where it has one that relative imports start from.
        Raises :class:`TemplateInvalid`, or another :class:`UserError` where it is too expensive
        to be read.
        """
        request = self._about("compile", template, inputs, file)
        return _expect(
            self._ask({**request, "origin": origin}, Gathering(self._imports)), DeploymentSpec
        )

    def check(
        self,
        template: str,
        inputs: Mapping[str, Any] | None,
        file: str = "template.yaml",
    ) -> TemplateCheck:
        """What the template makes, for its writer; as :meth:`compile`.

        ``inputs`` may be None, *not known yet*: that one needs a value is then a note.
        """
        request = self._about("check", template, inputs, file)
        return _expect(self._ask(request, Gathering(self._imports)), TemplateCheck)

    def _about(
        self, operation: str, template: str, inputs: Mapping[str, Any] | None, file: str
    ) -> dict[str, Any]:
        self._check_size(template, inputs or {}, file)
        return {"operation": operation, "template": template, "file": file, "origin": "",
                "inputs": None if inputs is None else dict(inputs),
                "means": dataclasses.asdict(self._means())}  # fmt: skip

    def describe(
        self,
        template: str,
        file: str = "template.yaml",
        *,
        origin: str = "",
    ) -> TemplateSummary:
        """What the template is for and which inputs it has; as :meth:`compile`."""
        self._check_size(template, {}, file)
        request = {
            "operation": "describe", "template": template, "file": file, "origin": origin,
        }  # fmt: skip
        return _expect(self._ask(request, Gathering(self._imports)), TemplateSummary)

    def warm(self) -> None:
        """Start one worker now, so that the first template need not wait for it."""
        with self._lock:
            if not self._idle:
                self._idle.append(self._start())

    def close(self) -> None:
        """End all workers; using the compiler again starts new ones."""
        with self._lock:
            workers = list(self._all)
            self._idle.clear()
            self._all.clear()
        for worker in workers:
            worker.end()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(self._count)
        # The kernel ends a sandbox with the thread that started it: this one lives as long as we.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="template-worker")
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()

    def _forget(self) -> None:
        """In a forked child: the workers are the parent's; only our copies of the pipes go."""
        for worker in self._all:
            worker.let_go()
        self._begin()

    def _check_size(self, template: str, inputs: Mapping[str, Any], file: str) -> None:
        report = Report(file)
        limit = self._limits.template_bytes
        try:
            size = len(template.encode())
        except UnicodeEncodeError:
            report.add(START, (), "The template holds characters that text may not hold.")
            size = 0
        if size > limit:
            report.add(START, (), f"The template has {size} bytes; {limit} is the most.")
        try:
            if _depth(inputs) > PARAMETER_DEPTH:
                sentence = f"The parameters are nested more than {PARAMETER_DEPTH} levels deep."
                report.add(START, ("parameters",), sentence)
            elif len(json.dumps(inputs, allow_nan=False, ensure_ascii=False).encode()) > limit:
                sentence = f"The parameters are longer than {limit} bytes."
                report.add(START, ("parameters",), sentence)
        except (TypeError, ValueError):
            report.add(START, ("parameters",), "The parameters must be plain JSON values.")
        report.raise_if_any()

    def _ask(self, request: dict[str, Any], gathering: Gathering) -> Any:
        """The answer, once the template has all that it imports; fetching takes no worker."""
        seconds = left = self._limits.template_seconds
        cpu = _CPU_SECONDS + len(request["template"]) * SECONDS_PER_CHARACTER
        gathering.guess(request["template"])
        while True:
            if not self._slots.acquire(timeout=seconds):
                raise UserError(
                    "Too many templates are being read right now.",
                    attempt="the same again in a few seconds",
                    code="template-busy",
                    status=503,
                )
            began = time.monotonic()
            timed = {**request, "seconds": left, "cpu_seconds": min(left, cpu + gathering.cost)}
            try:
                answer = self._answer(timed, gathering)
            finally:
                self._slots.release()
            left = max(_LEAST_SECONDS, left - (time.monotonic() - began))
            needed = [str(name) for name in answer.get("needs", ())]
            if not needed or all(name in gathering.shelf for name in needed):
                return _result(answer, seconds)
            for name in needed:
                gathering.add(name)

    def _answer(self, request: dict[str, Any], gathering: Gathering) -> dict[str, Any]:
        for last in (False, True):
            worker = self._take()
            try:
                answer = self._ask_worker(worker, request, gathering)
            except _Stalled:
                self._discard(worker)
                return {"died": int(signal.SIGALRM)}
            except _WorkerGone:
                self._discard(worker)
                if last:
                    return {"died": 0}
            except BaseException:
                self._discard(worker)
                raise
            else:
                with self._lock:
                    self._idle.append(worker)
                return answer
        raise AssertionError("unreachable")

    def _ask_worker(
        self, worker: _Worker, request: dict[str, Any], gathering: Gathering
    ) -> dict[str, Any]:
        seconds = request["seconds"] + _GRACE_SECONDS
        for known in (frozenset(worker.known), frozenset[str]()):
            message = frame({**request, "documents": gathering.wire(known)})
            answer = worker.ask(message, seconds)
            if "lacks" not in answer:
                worker.known |= gathering.digests
                return answer
            worker.known.clear()
        return answer

    def _take(self) -> _Worker:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            return self._start()

    def _start(self) -> _Worker:
        worker = self._starter.submit(_Worker, self._command).result()
        self._all.add(worker)
        return worker

    def _discard(self, worker: _Worker) -> None:
        with self._lock:
            self._all.discard(worker)
        worker.kill()


class _Worker:
    """One worker process and the pipes to it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._ready = False
        self.known: set[str] = set()  # digests of documents that it was given to keep
        environment = {name: os.environ[name] for name in ("PATH",) if name in os.environ}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
            env={**environment, "LC_ALL": "C.UTF-8"},
            bufsize=0,
        )

    def ask(self, message: bytes, seconds: float) -> dict[str, Any]:
        if not self._ready:
            self._receive(time.monotonic() + _START_SECONDS)
            self._ready = True
        deadline = time.monotonic() + seconds
        stream = self._process.stdin
        if stream is None:
            raise _WorkerGone
        try:
            view = memoryview(message)
            while view:
                view = view[stream.write(view) or 0 :]
        except (OSError, ValueError):
            raise _WorkerGone from None
        return self._receive(deadline)

    def _receive(self, deadline: float) -> dict[str, Any]:
        (length,) = HEADER.unpack(self._exactly(HEADER.size, deadline))
        if length > 2 * ANSWER_BYTES:
            raise _WorkerGone
        answer = json.loads(self._exactly(length, deadline))
        return answer if isinstance(answer, dict) else {"died": 0}

    def _exactly(self, count: int, deadline: float) -> bytes:
        stream = self._process.stdout
        content = bytearray()
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(stream or -1, selectors.EVENT_READ)
                while len(content) < count:
                    if not selector.select(max(0.0, deadline - time.monotonic())):
                        raise _Stalled
                    chunk = os.read(stream.fileno() if stream else -1, count - len(content))
                    if not chunk:
                        raise _WorkerGone
                    content += chunk
        except (OSError, ValueError):  # closed meanwhile
            raise _WorkerGone from None
        return bytes(content)

    def let_go(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def end(self) -> None:
        """Ask it to end by closing its input; kill it where it does not."""
        self.let_go()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it and whatever it has forked."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self.let_go()
        self._process.wait()


def _depth(value: Any) -> int:
    """How deep lists and mappings are nested, counted up to what is allowed."""
    level, depth = [value], 0
    while level and depth <= PARAMETER_DEPTH:
        depth += 1
        level = [
            inner
            for one in level
            if isinstance(one, Mapping | list | tuple)
            for inner in (one.values() if isinstance(one, Mapping) else one)
        ]
    return depth


def _result(answer: dict[str, Any], seconds: float) -> Any:
    if "value" in answer or "problems" in answer:
        try:
            if "problems" in answer:
                raise TemplateInvalid(decode(answer["problems"]))
            return decode(answer["value"])
        except Malformed:
            answer = {"failed": "the answer is malformed"}
    if "failed" in answer:
        _log.error("Reading a template failed unexpectedly: %s", answer["failed"])
        raise UserError(
            "The template cannot be read: Vacuo has come upon a fault of its own.",
            "The server's log has the details.",
            "report it, with the template",
            code="template-failed",
            status=500,
        )
    why = {
        int(signal.SIGALRM): f"It took longer than {seconds:g} s.",
        int(signal.SIGXCPU): "It took more processor time than a template of its size may.",
        int(signal.SIGPROF): "It took more processor time than a template of its size may.",
        "memory": "It took more memory than one template may.",
    }.get(answer.get("died", 0), "The process that read it ended before its time.")
    raise UserError(
        "The template is too expensive to read.",
        why,
        "make it smaller, with fewer aliases and simpler patterns",
        code="template-too-expensive",
    )


def _expect(answer: Any, kind: type[T]) -> T:
    if not isinstance(answer, kind):
        raise TypeError(f"the sandbox gave no {kind.__name__}")
    return answer
