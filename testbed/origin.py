"""Where data comes from: an XRootD server and an HTTP server over the same files."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed.engine import ContainerRequest, TestbedNetwork

CONTAINER = "origin"
XROOTD_PORT = 1094
HTTP_PORT = 8000
_ADDRESS = 11
_READY_SECONDS = 60.0
_BLOCK = 1 << 20
# Old enough for a cache to take a file without further word for fresh.
_MODIFIED_AT = 1_577_836_800  # 2020-01-01

XROOTD_CONFIGURATION = """\
all.export /data r/o
oss.localroot /srv
xrd.port 1094
# One line for each file that somebody opens: what a cache in front of us did not have.
ofs.trace open
"""

HTTP_SERVER = """\
import http.server
handler = lambda *request: http.server.SimpleHTTPRequestHandler(*request, directory="/srv")
http.server.ThreadingHTTPServer(("", 8000), handler).serve_forever()
"""


@dataclass(frozen=True)
class OriginFile:
    """A file of the origin: its path there, its size in bytes and its sha256."""

    path: str
    size: int
    sha256: str


class Origin:
    """The origin, from :meth:`start` to :meth:`stop`; ``files`` maps names to sizes in bytes.

    A file's content depends on its name and size alone, so it is the same in every run.
    """

    def __init__(
        self, directory: Path, network: TestbedNetwork, files: Mapping[str, int] | None = None
    ) -> None:
        self.directory = directory.absolute()
        self.network = network
        self._sizes = files or {f"file-{n}.dat": 2 * _BLOCK for n in range(4)}
        self.files: tuple[OriginFile, ...] = ()

    @property
    def address(self) -> str:
        return self.network.address(_ADDRESS)

    @property
    def xrootd(self) -> str:
        """host:port of the XRootD server; its files are under ``/data``."""
        return f"{self.address}:{XROOTD_PORT}"

    @property
    def http(self) -> str:
        """host:port of the HTTP server; its files are under ``/data``."""
        return f"{self.address}:{HTTP_PORT}"

    def start(self) -> Origin:
        """Write the files, start both servers and wait until they answer."""
        data = self.directory / "srv" / "data"
        data.mkdir(parents=True, exist_ok=True)
        for path in (self.directory, self.directory / "srv", data):
            path.chmod(0o755)
        self.files = tuple(write_file(data / name, size) for name, size in self._sizes.items())
        (self.directory / "origin.cfg").write_text(XROOTD_CONFIGURATION)
        (self.directory / "origin_http.py").write_text(HTTP_SERVER)
        self.network.ensure()
        script = (
            "python3 /etc/xrootd/origin_http.py & exec xrootd -c /etc/xrootd/origin.cfg -n origin"
        )
        self.network.run(
            ContainerRequest(
                CONTAINER,
                ["tini", "--", "sh", "-c", f"cd /tmp && {script}"],
                address=self.address,
                user="xrootd",
                volumes={
                    self.directory / "origin.cfg": ("/etc/xrootd/origin.cfg", "ro"),
                    self.directory / "origin_http.py": ("/etc/xrootd/origin_http.py", "ro"),
                    self.directory / "srv": ("/srv", "ro"),
                },
            )
        )
        for port in (XROOTD_PORT, HTTP_PORT):
            self._wait_for(port)
        return self

    def stop(self) -> None:
        """Remove the container and the files; the network stays."""
        self.network.remove_container(CONTAINER)
        shutil.rmtree(self.directory, ignore_errors=True)

    def log(self) -> str:
        """What both servers wrote: a line for each HTTP request, XRootD's own log."""
        return self.network.container(CONTAINER).logs().decode(errors="replace")

    def opens(self) -> int:
        """How often a file was opened over XRootD: the reads that no cache answered."""
        return len(re.findall(r"ofs_open: .*fn=/data/", self.log()))

    def _wait_for(self, port: int) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection((self.address, port), timeout=1.0).close()
                return
            except OSError:
                time.sleep(0.05)
        raise TimeoutError(f"The origin does not answer on port {port}: {self.log()[-1000:]}")


def write_file(path: Path, size: int) -> OriginFile:
    """Write ``size`` bytes that follow from the file's name."""
    block = hashlib.shake_256(path.name.encode()).digest(min(size, _BLOCK))
    checksum = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, _BLOCK):
            # Blocks differ, so that a part delivered in the place of another is noticed.
            part = (start.to_bytes(8, "big") + block[8:])[: size - start]
            file.write(part)
            checksum.update(part)
    path.chmod(0o644)
    os.utime(path, (_MODIFIED_AT, _MODIFIED_AT))
    return OriginFile(f"/data/{path.name}", size, checksum.hexdigest())
