"""What cannot start says what it waits for."""

from __future__ import annotations

import pytest
import ray

from pipeline.waiting import Waiting

NODES = [{"Alive": True, "Resources": {"CPU": cpus}} for cpus in (2.0, 4.0)]
NODES.append({"Alive": False, "Resources": {"CPU": 64.0}})


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes with 2 and 4 CPUs, 3 of them free; a third is gone."""
    monkeypatch.setattr(ray, "nodes", lambda: NODES)
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 3.0, "memory": 5.0})


@pytest.mark.usefixtures("cluster")
def test_what_waits_says_for_what(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    waiting = Waiting("a training", 8, 1, clock=lambda: now)
    for seconds in (0.0, 29.0, 30.0, 31.0, 600.0):
        now = seconds
        waiting.update(running=False)
    assert caplog.messages == [
        "a training waits for 8 CPUs and 1 GPU on one node; 3 of 6 CPUs of the cluster's 2 nodes are free, "
        "a node has at most 4 CPUs"
    ]
    now = 630.0
    waiting.update(running=False)
    assert len(caplog.messages) == 2


@pytest.mark.usefixtures("cluster")
def test_what_runs_does_not_wait(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    waiting = Waiting("a trial actor", 1, 0, clock=lambda: now)
    for now in range(0, 3000, 10):
        waiting.update(running=now % 20 == 0)
    assert not caplog.messages
