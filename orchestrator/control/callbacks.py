"""Calls to users when the status of their deployment changes.

What is owed stands in the store, written with the change itself.  Threads of their own make the
calls, a few for each host: a receiver that is slow delays neither the loop nor other receivers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import urlsplit

from orchestrator.control.tell import tell
from orchestrator.errors import NotFound, UserError, VacuoError
from orchestrator.identity.signing import Signer
from orchestrator.model import Deployment, Event, EventKind
from orchestrator.outbound import Guard, Outbound, OutboundError, OutboundRefused
from orchestrator.reasons import reason
from orchestrator.settings import Callbacks as CallbackSettings
from orchestrator.store.repository import Call, Repository

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
THREADS = 8
AT_ONCE_PER_HOST = 2
ATTEMPTS = 12
AGE_SECONDS = 86400.0
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 3600.0
_ANSWER_BYTES = 64 * 1024
_SLACK_SECONDS = 5.0


def guard(settings: CallbackSettings) -> Guard:
    """What callbacks may lead to."""
    return Guard(
        settings.hosts,
        settings.private_hosts,
        maximum_bytes=_ANSWER_BYTES,
        seconds=settings.seconds,
    )


def refuse(settings: CallbackSettings, url: str | None) -> None:
    """Raises :class:`UserError` for a callback that this server would not call."""
    if url is None:
        return
    try:
        Outbound(guard(settings)).check(url)
    except OutboundRefused as error:
        raise UserError(
            "This callback cannot be called.",
            f"{error}.",
            "leave `callback` out, or ask the administrator to list the host in `callbacks`",
            code="callback-refused",
        ) from None


def pause(attempts: int) -> float:
    """Seconds from attempt number ``attempts`` to the next."""
    return min(FIRST_PAUSE_SECONDS * 2.0 ** (attempts - 1), LONGEST_PAUSE_SECONDS)


class Callbacks:
    """Makes the calls that are due.

    ``body`` is what a receiver is sent of a deployment: JSON, without secrets.
    """

    def __init__(
        self,
        repository: Repository,
        outbound: Outbound,
        signer: Signer,
        body: Callable[[Deployment], bytes],
        *,
        seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._repository = repository
        self._outbound = outbound
        self._signer = signer
        self._body = body
        self._seconds = seconds
        self._clock = clock
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._busy: Counter[str] = Counter()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="callback")
        self._thread = threading.Thread(target=self._work, name="callbacks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Begin no more calls, and let those under way end: each is bounded in time."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _work(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                self.begin_due()
            except VacuoError as error:
                log.warning("callbacks wait: %s", error)
            except Exception:
                log.exception("callbacks failed unexpectedly and are tried again")

    def begin_due(self) -> None:
        """Begin as many of the calls that are due as there is room for."""
        for call in self._repository.calls_due(self._clock()):
            host = urlsplit(call.url).netloc
            with self._lock:
                if self._busy.total() >= THREADS:
                    return
                if self._busy[host] >= AT_ONCE_PER_HOST:
                    continue
                self._busy[host] += 1
            self._pool.submit(self._freeing, host, call)

    def _freeing(self, host: str, call: Call) -> None:
        try:
            self.carry_out(call)
        except VacuoError as error:
            log.warning("a callback waits: %s", error)
        except Exception:
            log.exception("a callback failed unexpectedly")
        finally:
            with self._lock:
                self._busy[host] -= 1

    def carry_out(self, call: Call) -> None:
        """One attempt, counted before it is made; what becomes of it is stored."""
        attempts = call.attempts + 1
        # Nobody else begins it while it may still be under way.
        wait = max(pause(attempts), self._seconds + _SLACK_SECONDS)
        if not self._repository.begin_call(call, self._clock() + wait):
            return
        try:
            why = self._send(call)
        except NotFound:
            self._repository.settle_call(call)
            return
        if not why:
            self._repository.settle_call(call)
            log.info("called back", extra={"deployment": call.deployment})
        elif attempts >= ATTEMPTS or self._clock() - call.changed_at > AGE_SECONDS:
            self._tell(call, "callback-given-up", why)
        elif attempts == 1:
            self._tell(call, "callback-failed", why)

    def _send(self, call: Call) -> str:
        """Call once; why the receiver did not take it, or nothing."""
        now = self._repository.deployment(call.deployment)
        told = replace(
            now,
            status=call.status,
            status_reason=call.status_reason,
            updated_at=call.changed_at,
        )
        body = self._body(told)
        signature = self._signer.sign(body, audience=call.url, subject=call.deployment, id=call.id)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "vacuo",
            "Vacuo-Signature": signature,
        }
        try:
            answer = self._outbound.request("POST", call.url, body, headers)
        except OutboundError as error:
            return str(error)
        if 200 <= answer.status < 300:
            return ""
        host = urlsplit(call.url).hostname
        followed = ": redirects are not followed" if 300 <= answer.status < 400 else ""
        return f"{host} answered {answer.status}{followed}"

    def _tell(self, call: Call, code: str, why: str) -> None:
        text = reason(code, status=call.status.value, why=why)
        event = Event(
            self._clock(),
            EventKind.ACTION,
            call.deployment,
            text.sentence,
            failed=True,
            code=text.code,
        )
        if code == "callback-given-up":
            self._repository.settle_call(call, [event])
        else:
            self._repository.append([event])
        tell([event])
