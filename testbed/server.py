"""A Vacuo server of its own for one test bed, run as a user runs it: the ``vacuo`` command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from orchestrator.providers.container_engine import DIRECTORY_VARIABLE
from orchestrator.settings import Pool

VACUO = str(Path(sys.executable).with_name("vacuo"))
_READY_SECONDS = 60.0

FLAVOURS = (
    {"name": "small", "cores": 1, "memory_mb": 1024, "disk_gb": 10},
    {"name": "small-memory", "cores": 1, "memory_mb": 2048, "disk_gb": 20},
    {"name": "medium", "cores": 2, "memory_mb": 2048, "disk_gb": 20},
)
# More cores than a small machine has: what runs in a test bed mostly waits.
LIMITS = {"instances": 12, "cores": 12}


class VacuoServer:
    """``vacuo server`` on loopback with one local site, the pools it is given and the built-in
    issuer; all of its state, and the logins of its command line, are under ``directory``."""

    def __init__(
        self,
        directory: Path,
        pools: Sequence[Pool],
        *,
        port: int = 8420,
        site: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
        more_sites: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.directory = directory.absolute()
        self.url = f"http://127.0.0.1:{port}"
        self.log_file = self.directory / "server.log"
        self.client_file = self.directory / "data" / "issuer" / "client.json"
        self._token = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._configuration = {
            "data_directory": str(self.directory / "data"),
            "listen": f"127.0.0.1:{port}",
            "log_format": "json",
            "development_issuer": True,
            "sites": [
                {
                    "name": "local",
                    "provider": "local",
                    "images": {
                        "default": "localhost/vacuo/host:current",
                        "bare": "localhost/vacuo/host-bare:current",
                    },
                    "flavours": list(FLAVOURS),
                    "limits": LIMITS,
                    **(site or {}),
                },
                *more_sites,
            ],
            "pools": [pool.model_dump(mode="json", exclude_none=True) for pool in pools],
            "limits": dict(limits or {}),
        }

    @property
    def configuration_file(self) -> Path:
        return self.directory / "vacuo.yaml"

    def start(self) -> VacuoServer:
        """Start the server and wait until it is ready."""
        self.directory.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(self._configuration, sort_keys=False)
        self.configuration_file.write_text(text)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [VACUO, "server", "--config", str(self.configuration_file)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + _READY_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None:
                raise RuntimeError(f"The server ended: {self.log()[-2000:]}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"The server is not ready: {self.log()[-2000:]}")
            time.sleep(0.1)
        return self

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """``kill -9`` of the server and of everything it started, at once."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Stop it as an operator does; a server that does not end is killed."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    # --- its command line -----------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which ``vacuo`` speaks to this server and to no other."""
        names = ("PATH", "TERM", "LANG", "COLUMNS", DIRECTORY_VARIABLE)
        kept = {name: os.environ[name] for name in names if name in os.environ}
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        return {
            "COLUMNS": "100",
            **kept,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "XDG_RUNTIME_DIR": str(home),
            "VACUO_SERVER": self.url,
        }

    def vacuo(
        self, *arguments: str, timeout: float = 300.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run ``vacuo`` with ``arguments``; an unexpected exit code is an error with its text."""
        done = subprocess.run(
            [VACUO, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(
                f"vacuo {' '.join(arguments)} ended with {done.returncode}: "
                f"{done.stdout}{done.stderr}"
            )
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.vacuo("--output", "json", *arguments).stdout)

    def get(self, path: str) -> Any:
        """What the API answers to GET ``path``, asked as the one who has logged in."""
        request = urllib.request.Request(self.url + path)
        request.add_header("Authorization", f"Bearer {self._token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    @property
    def token(self) -> str:
        """The access token of the last login."""
        return self._token

    def login(self) -> None:
        """Log in as a script does: with the client credentials that the issuer left for them."""
        self.vacuo("login", "--client-credentials-file", str(self.client_file))
        client = json.loads(self.client_file.read_text())
        form = {**client, "grant_type": "client_credentials"}
        body = urllib.parse.urlencode(form).encode()
        with urllib.request.urlopen(f"{self.url}/issuer/token", body, timeout=30) as answer:
            self._token = json.load(answer)["access_token"]
