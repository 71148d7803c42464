"""The engine's service: started when it is wanted, once, and again after it died."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from provider_worlds import all_at_once

from orchestrator.errors import Retryable, Terminal
from orchestrator.providers import container_engine
from orchestrator.providers.container_engine import (
    Engine,
    answers,
    connect,
    engine_directory,
    ensure_service,
    find_engine,
)
from testbed.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine of our own, without any image, on the file system of the real one."""
    engine = find_engine(engine_directory().with_name(f"engine-{uuid.uuid4().hex[:6]}"))
    yield engine
    stop(engine)
    shutil.rmtree(engine.runtime_directory)
    # podman mounts this one on itself, and leaves it mounted.
    subprocess.run(["umount", f"{engine.directory}/storage/overlay"], check=False)
    shutil.rmtree(engine.directory)


def service(engine: Engine) -> int:
    return int((engine.runtime_directory / "service.pid").read_text())


def stop(engine: Engine) -> None:
    if answers(engine.endpoint):
        os.kill(service(engine), signal.SIGKILL)
        eventually(lambda: not answers(engine.endpoint), "the service being gone")


def test_the_service_is_started_once_for_all_who_want_it(engine: Engine) -> None:
    assert not answers(engine.endpoint)
    all_at_once(4, lambda: ensure_service(engine))
    first = service(engine)
    ensure_service(engine)
    assert service(engine) == first
    assert connect(engine).ping()


def test_a_service_that_died_is_started_again(engine: Engine) -> None:
    client = connect(engine)
    first = service(engine)
    stop(engine)
    ensure_service(engine)
    assert service(engine) != first
    assert client.containers.list(all=True) == []


def test_a_shell_gets_the_same_engine(engine: Engine) -> None:
    module = [sys.executable, "-m", container_engine.__name__]
    command = [*module, "--directory", str(engine.directory), "--env"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    script = said + "podman info --format '{{.Store.GraphRoot}}'"
    store = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True)
    assert store.stdout.strip() == f"{engine.directory}/storage"


def test_an_engine_that_somebody_else_runs_is_never_started_by_us(tmp_path: Path) -> None:
    engine = find_engine(tmp_path, f"unix://{tmp_path}/absent.sock")
    with pytest.raises(Retryable, match="does not answer"):
        connect(engine)


def test_no_engine_at_all_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    with pytest.raises(Terminal, match=r"setup/bootstrap\.sh"):
        find_engine(tmp_path)
