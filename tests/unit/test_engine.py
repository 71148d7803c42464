"""The engine wakes the right deployment once, whatever happens at the same time."""

from __future__ import annotations

import threading

from orchestrator.control.engine import InProcessEngine
from orchestrator.model import DeploymentId

ID = DeploymentId("d1")
PATIENCE = 30.0


def test_a_deployment_that_is_woken_during_its_pass_gets_another_right_after():
    """An idle thread that looked at the queue meanwhile used to keep the lock for ever."""
    began, go_on, again = threading.Event(), threading.Event(), threading.Event()
    at_once, most = 0, 0

    def run(_id: DeploymentId) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        if began.is_set():
            again.set()
        began.set()
        go_on.wait(PATIENCE)
        at_once -= 1

    engine = InProcessEngine(run, lambda *_: None, threads=3)
    engine.start()
    engine.wake(ID)
    assert began.wait(PATIENCE)
    waker = threading.Thread(target=lambda: [engine.wake(ID) for _ in range(100)], daemon=True)
    waker.start()
    waker.join(PATIENCE)
    assert not waker.is_alive(), "waking waits for the pass that runs"
    assert not again.wait(0.1)
    go_on.set()
    assert again.wait(PATIENCE)
    engine.stop()
    assert most == 1
