"""A command in a container, and what it says.

The Docker client's own reader is not used.  It reads the connection below the buffer through which
the answer's header was read, and so loses what an engine sends together with that: the beginning
of the output, and with it the order of all that follows.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from typing import Any

import docker
import requests
from docker.errors import create_api_error_from_http_exception
from urllib3.exceptions import HTTPError

from orchestrator.errors import Retryable

_HEADER = struct.Struct(">BxxxL")  # Docker's API, "attach to a container": stream, length
OUTPUT, COMPLAINT = 1, 2
_PIECE = 1 << 16
_COMPLAINT_KEPT = 2000  # bytes, of its end
_TRY_SECONDS = 0.05


class Execution:
    """``command``, run as root in ``container`` from now on; its output may be long.

    :raises docker.errors.APIError: the engine refuses it.
    """

    def __init__(self, client: docker.DockerClient, container: str, command: Sequence[str]) -> None:
        self._api: Any = client.api
        self._command = command[0]
        self._id = self._api.exec_create(container, list(command))["Id"]
        url = f"{self._api.base_url}/v{self._api.api_version}/exec/{self._id}/start"
        # How long a command may be silent is its own affair.
        wish = {"Detach": False, "Tty": False}
        self._answer = self._api.post(
            url, json=wish, stream=True, timeout=(self._api.timeout, None)
        )
        try:
            self._answer.raise_for_status()
        except requests.HTTPError as error:
            raise create_api_error_from_http_exception(error) from error
        self._complaint = b""

    @property
    def complaint(self) -> str:
        """The end of what it wrote to standard error."""
        return self._complaint.decode(errors="replace").strip()

    def output(self) -> Iterator[bytes]:
        """What it writes to standard output, as it comes; errors as of :meth:`frames`."""
        for stream, piece in self.frames():
            if stream == OUTPUT:
                yield piece
            else:
                self._complaint = (self._complaint + piece)[-_COMPLAINT_KEPT:]

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """What it writes, as it comes: the stream, and a piece.

        :raises Retryable: the engine breaks off.
        """
        try:
            while header := self._answer.raw.read(_HEADER.size):
                yield from self._frame(header)
        except (HTTPError, OSError, struct.error) as error:
            raise Retryable(
                f"The container engine broke off the output of {self._command} "
                f"({type(error).__name__})."
            ) from error
        finally:
            self._answer.close()

    def _frame(self, header: bytes) -> Iterator[tuple[int, bytes]]:
        stream, left = _HEADER.unpack(header)
        if stream not in (OUTPUT, COMPLAINT):
            raise Retryable(f"The container engine sent what is no output of {self._command}.")
        while left > 0:
            piece = self._answer.raw.read(min(left, _PIECE))
            if not piece:
                raise Retryable(f"The container engine broke off the output of {self._command}.")
            left -= len(piece)
            yield stream, piece

    def exit_code(self) -> int:
        """How it ended; to be asked when all output has come."""
        while True:
            found = self._api.exec_inspect(self._id)
            if not found["Running"]:
                return int(found["ExitCode"])
            time.sleep(_TRY_SECONDS)


def execute(
    client: docker.DockerClient, container: str, command: Sequence[str]
) -> tuple[int, bytes]:
    """Run ``command`` to its end: its exit code, and all that it wrote; errors as above."""
    run = Execution(client, container, command)
    written = b"".join(piece for _, piece in run.frames())
    return run.exit_code(), written
