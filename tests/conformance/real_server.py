"""The server as a process of its own, with the development issuer and no site."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import yaml

from testbed.ports import free_port


class Server:
    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        config = directory / "vacuo.yaml"
        settings = {
            "data_directory": str(directory / "data"),
            "listen": f"127.0.0.1:{self.port}",
            "development_issuer": True,
        }
        config.write_text(yaml.safe_dump(settings))
        self._directory = directory
        self.log = directory / "log"
        self.url = f"http://127.0.0.1:{self.port}"
        self.client_file = directory / "data/issuer/client.json"
        self.start()

    def start(self) -> None:
        config = str(self._directory / "vacuo.yaml")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.cli.main", "server", "-c", config],
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": str(self._directory)},
            )

    def wait(self) -> None:
        deadline = time.monotonic() + 90
        while True:
            with contextlib.suppress(httpx.TransportError):
                if self.get("/healthz").status_code == 200:
                    return
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60)

    def token(self) -> str:
        client = json.loads(self.client_file.read_text())
        answer = httpx.post(
            f"{self.url}/issuer/token",
            data={"grant_type": "client_credentials"},
            auth=(client["client_id"], client["client_secret"]),
            timeout=60,
        )
        return str(answer.json()["access_token"])

    def connect(self, sent: bytes = b"") -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), timeout=90)
        if sent:
            made.sendall(sent)
        return made

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(60)
        finally:
            self._process.kill()
