"""Requests that were refused to somebody who is known, for the audit.

Who asks again and again for what they may not have fills no database: the same refusal is an audit
once a minute.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from flask import Response, g, request

from orchestrator.api.requests import correlation
from orchestrator.errors import NotFound, StoreUnavailable
from orchestrator.identity.claims import Caller
from orchestrator.model import DeploymentId, Event
from orchestrator.store.repository import Repository

log = logging.getLogger(__name__)

AGAIN_SECONDS = 60.0
_REMEMBERED = 4096


class Refusals:
    """Writes an audit where a request was refused; may be used from any thread."""

    def __init__(self, repository: Repository, clock: Callable[[], float] = time.time) -> None:
        self._repository = repository
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[tuple[str, ...], float] = {}

    def __call__(self, response: Response) -> Response:
        """To be called after each request."""
        asked = g.get("caller")
        if asked is not None and response.status_code in (403, 404):
            try:
                self._audit(asked, response.status_code)
            except StoreUnavailable as error:
                log.warning("a refusal could not be stored: %s", error)
        return response

    def _audit(self, asked: Caller, status: int) -> None:
        given = str((request.view_args or {}).get("id", ""))
        there = bool(given) and self._there(DeploymentId(given))
        if status == 404 and not (there and "deployment" not in g):
            return  # nothing is there: nobody was kept from it
        what = (request.endpoint or "").rpartition(".")[2].replace("_", " ")
        who = str(asked.principal)
        if not self._is_new((who, what, given if there else "")):
            return
        event = Event.audit(
            self._clock(),
            who,
            f"refused: {what}",
            DeploymentId(given) if there else None,
            denied=True,
            correlation=correlation(),
        )
        code = "forbidden" if status == 403 else "not-found"
        self._repository.append([replace(event, code=code)])

    def _there(self, id: DeploymentId) -> bool:
        try:
            self._repository.deployment(id)
        except NotFound:
            return False
        return True

    def _is_new(self, refusal: tuple[str, ...]) -> bool:
        now = self._clock()
        with self._lock:
            if now - self._told.get(refusal, float("-inf")) < AGAIN_SECONDS:
                return False
            if len(self._told) >= _REMEMBERED:
                self._told.clear()
            self._told[refusal] = now
            return True
