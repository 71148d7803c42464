"""Whether a host's ssh server is there."""

from __future__ import annotations

import socket

PORT = 22
PROBE_SECONDS = 1.0


def answers(address: str) -> bool:
    """Whether an ssh server greets us; a port that is merely open may be an init still starting."""
    try:
        with socket.create_connection((address, PORT), timeout=PROBE_SECONDS) as connection:
            connection.settimeout(PROBE_SECONDS)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
