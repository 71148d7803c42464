"""A worker like the real one, whose work misbehaves in the way that the template says."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.tosca.wire import frame
from orchestrator.tosca.worker import _send, serve


def misbehave(request: Mapping[str, Any]) -> Any:
    how = request["template"]
    if how == "sleep":
        time.sleep(600)
    elif how == "spin":
        while True:
            pass
    elif how == "eat":
        hoard = []
        while True:
            hoard.append(bytearray(50_000_000))
    elif how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(3)
    elif how == "stop the worker":
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(600)
    elif how == "kill the worker":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)
    elif how == "fault":
        raise RuntimeError("/secret/path")
    elif how == "write":
        with open("/tmp/vacuo-should-not-be", "w") as file:
            file.write("x" * 100)
    elif how == "long answer":
        return ["x" * 1_000_000] * 100
    elif how.startswith("look "):
        return [name for name in how.split()[1:] if found(name)]
    return {"echo": how}


def found(name: str) -> bool:
    """Whether there is this file, or anybody at this port of the machine."""
    try:
        if name.isdigit():
            socket.create_connection(("127.0.0.1", int(name)), timeout=10).close()
        else:
            Path(name).read_bytes()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    _send(1, frame({"ready": True}))
    serve({"compile": misbehave, "describe": misbehave})
