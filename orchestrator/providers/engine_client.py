"""Requests to the container engine: one connection, made again where it broke, and the errors of
:mod:`orchestrator.errors`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import docker
import docker.errors
import requests

from orchestrator.errors import Retryable, Terminal
from orchestrator.providers.container_engine import (
    Engine,
    connect,
    ensure_service,
    find_engine,
    was_refused,
)

_EXPLANATION = 300  # characters; podman's can be pages, with the cause at the end

T = TypeVar("T")


class EngineClient:
    """Asks the engine that is found when it is first needed.

    ``directory`` is where podman's stores are, ``endpoint`` the engine that is configured;
    both may be None.  ``seconds`` is how long one request may take.
    """

    def __init__(self, directory: Path | None, endpoint: str | None, seconds: float) -> None:
        self._directory = directory
        self._endpoint = endpoint
        self._seconds = seconds
        self._found: tuple[Engine, docker.DockerClient] | None = None
        self._facts: Mapping[str, Any] | None = None

    @property
    def engine(self) -> Engine:
        return self._connection()[0]

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the engine says of its machine, asked once."""
        if self._facts is None:
            self._facts = self.ask(lambda client: client.api.info())
        return self._facts

    def _connection(self) -> tuple[Engine, docker.DockerClient]:
        if self._found is None:
            engine = find_engine(self._directory, self._endpoint)
            self._found = engine, connect(engine, self._seconds)
        return self._found

    def ask(self, request: Callable[[docker.DockerClient], T], *, again: bool = True) -> T:
        """Make one request; if the connection was refused, once more after starting the engine.

        So too if it broke, as one does that the engine closes for idleness just then, unless the
        request must not be made ``again``.

        :raises Retryable: the engine does not answer, or failed.
        :raises Terminal: the engine refuses the request as it is.
        :raises docker.errors.NotFound: what the request names does not exist.
        """
        engine, client = self._connection()
        try:
            try:
                return request(client)
            except requests.ConnectionError as error:
                if not again and not was_refused(error):
                    raise
                ensure_service(engine)
                return request(client)
        except docker.errors.NotFound:
            raise
        except docker.errors.APIError as error:
            if error.is_client_error():
                raise Terminal(f"The container engine refuses: {explanation(error)}.") from error
            raise Retryable(f"The container engine failed: {explanation(error)}.") from error
        except requests.RequestException as error:
            raise Retryable(
                f"The container engine at {engine.endpoint} does not answer "
                f"({type(error).__name__})."
            ) from error


def may_have_been_carried_out(cause: BaseException | None) -> bool:
    """Whether a request was sent and its answer was lost."""
    if isinstance(cause, docker.errors.APIError):
        return False  # that is an answer
    return isinstance(cause, requests.RequestException) and not was_refused(cause)


def explanation(error: docker.errors.APIError) -> str:
    text = str(error.explanation or error)
    return text if len(text) <= _EXPLANATION else f"… {text[-_EXPLANATION:]}"
