"""The real thing: a machine that cannot run it fails these tests, with the reason."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed.main_job import MainJob
from testbed.ports import free_port


@pytest.fixture(scope="session", autouse=True)
def machine() -> None:
    """Root is what local hosts need; podman and the images are found missing when they are used."""
    assert os.geteuid() == 0, "The end-to-end tests make system containers and need root."


@pytest.fixture
def main_job(tmp_path: Path) -> Iterator[MainJob]:
    """A pool, an origin and a server of their own, started; everything is removed afterwards."""
    job = MainJob(tmp_path, name=f"vacuo-e2e-{uuid.uuid4().hex[:6]}", port=free_port())
    try:
        job.start(print)
        job.server.login()
        yield job
    finally:
        job.stop()


@pytest.fixture
def make_job(tmp_path: Path) -> Iterator[Callable[[], MainJob]]:
    """The same, not started: for tests that want the server otherwise."""
    made: list[MainJob] = []

    def make() -> MainJob:
        name = f"vacuo-e2e-{uuid.uuid4().hex[:6]}"
        made.append(MainJob(tmp_path / str(len(made)), name=name, port=free_port()))
        return made[-1]

    yield make
    for job in made:
        job.stop()
