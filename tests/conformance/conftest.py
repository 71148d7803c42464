"""What the suites share: one real HTCondor pool for all tests of a session."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from testbed.engine import TestbedNetwork
from testbed.pool import CondorPool


@pytest.fixture(scope="session")
def condor_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CondorPool]:
    """A pool of its own network; where it cannot be had, its tests fail and say why."""
    network = TestbedNetwork(f"vacuo-pool-{uuid.uuid4().hex[:6]}")
    pool = CondorPool(tmp_path_factory.mktemp("pool"), network)
    try:
        yield pool.start()
    finally:
        pool.stop()
        network.remove()
