"""A port for a server that is told its port when it starts."""

from __future__ import annotations

import os
import socket
from itertools import count

# Below those that Linux gives to whoever connects somewhere: nobody is given ours by chance between
# our look and the start of the server.
_FIRST, _LAST = 20_000, 32_000
_numbers = count(os.getpid() * 1009)


def free_port() -> int:
    """A port of this machine's loopback where nobody listens, another one each time."""
    for _ in range(_LAST - _FIRST):
        port = _FIRST + next(_numbers) % (_LAST - _FIRST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("Every port of this machine is taken.")
