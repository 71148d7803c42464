"""A helper process that a port talks to: one call at a time, every call with a deadline.

Some client libraries keep their configuration and credentials per process, hold the interpreter's
lock while they wait for a network, or have no usable time-outs.  A process of its own cures all
three: two pools with different tokens never meet, other threads go on, and a call that does not
return is ended by ending the process.  Calls and answers are JSON, a line each, over pipes, so that
nothing secret is ever a process argument.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from orchestrator.errors import PortError, Retryable, Terminal, Unauthorised

_START_SECONDS = 30.0
_KINDS: dict[str, type[PortError]] = {
    "retryable": Retryable,
    "unauthorised": Unauthorised,
    "terminal": Terminal,
}


class ChildProcess:
    """Runs ``module`` as a helper and calls its operations; started at the first call, and again
    after it was ended.  Safe to use from many threads."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self._module = module
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._pending = b""

    def call(self, operation: str, arguments: Mapping[str, Any], timeout: float) -> Any:
        """What the operation returned.

        :raises PortError: the operation's own error, of the class that it named.
        :raises Retryable: no answer within ``timeout`` seconds, or the helper died.
        """
        deadline = time.monotonic() + timeout
        if not self._lock.acquire(timeout=timeout):
            raise Retryable(f"Other calls took more than {timeout:g} s; {operation} was not made.")
        try:
            process = self._running()
            question = json.dumps({"operation": operation, "arguments": dict(arguments)})
            answer = json.loads(self._exchange(process, question.encode() + b"\n", deadline))
        except TimeoutError:
            self._end()
            raise Retryable(f"No answer within {timeout:g} s.") from None
        except (OSError, EOFError, ValueError):
            self._end()
            raise Retryable("The helper process ended before it answered.") from None
        finally:
            self._lock.release()
        if "error" in answer:
            raise _KINDS[answer["error"]](answer["message"])
        return answer["result"]

    def close(self) -> None:
        """End the helper; a later call starts it again."""
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
            start_new_session=True,  # an interrupt at the terminal is for the server to handle
        )
        # The time to start is not the caller's.
        self._read_line(self._process, time.monotonic() + _START_SECONDS)
        return self._process

    def _exchange(
        self, process: subprocess.Popen[bytes], question: bytes, deadline: float
    ) -> bytes:
        assert process.stdin is not None
        process.stdin.write(question)
        process.stdin.flush()
        return self._read_line(process, deadline)

    def _read_line(self, process: subprocess.Popen[bytes], deadline: float) -> bytes:
        assert process.stdout is not None
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise TimeoutError
            received = os.read(process.stdout.fileno(), 1 << 16)
            if not received:
                raise EOFError
            self._pending += received
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _end(self) -> None:
        process, self._process, self._pending = self._process, None, b""
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait()


def serve(
    operations: Mapping[str, Callable[..., Any]], explain: Callable[[Exception], PortError]
) -> NoReturn:
    """Answer calls until the caller is gone; the main loop of a helper process.

    ``explain`` makes the port's error of whatever an operation raised.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    answers.write("{}\n")
    answers.flush()
    for line in sys.stdin:
        question = json.loads(line)
        try:
            result = operations[question["operation"]](**question["arguments"])
            answer = {"result": result}
        except Exception as error:
            known = error if isinstance(error, PortError) else explain(error)
            kind = next((k for k, c in _KINDS.items() if isinstance(known, c)), "retryable")
            answer = {"error": kind, "message": str(known)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    sys.exit(0)
