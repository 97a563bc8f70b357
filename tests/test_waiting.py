"""What cannot start says what it waits for."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import ray

from pipeline.ray.autoscaler import AutoscalerStatus
from pipeline.ray.waiting import Waiting, refuse_what_no_node_has

NODES = [{"Alive": True, "Resources": {"CPU": cpus}} for cpus in (2.0, 4.0)]
NODES.append({"Alive": False, "Resources": {"CPU": 64.0}})


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes with 2 and 4 CPUs, 3 of them free; a third is gone."""
    monkeypatch.setattr(ray, "nodes", lambda: NODES)
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 3.0, "memory": 5.0})
    set_autoscaler(monkeypatch, None)


def set_autoscaler(monkeypatch: pytest.MonkeyPatch, status: AutoscalerStatus | None) -> None:
    monkeypatch.setattr("pipeline.ray.waiting.autoscaler_status", lambda: status)


@pytest.mark.usefixtures("cluster")
def test_what_waits_says_for_what(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    waiting = Waiting("a training", 8, 1, clock=lambda: now)
    for seconds in (0.0, 25.0, 30.0, 35.0, 600.0):
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
def test_what_needs_several_places_says_so(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    waiting = Waiting("a training with 3 workers", 2, 0, number=3, clock=lambda: now)
    now = 30.0
    waiting.update(running=False)
    assert caplog.messages[0].startswith(
        "a training with 3 workers waits for 3 times 2 CPUs each on one node; 3 of 6 CPUs"
    )


@pytest.mark.usefixtures("cluster")
def test_what_runs_does_not_wait(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    waiting = Waiting("a trial actor", 1, 0, clock=lambda: now)
    for now in range(0, 3000, 10):
        waiting.update(running=now % 20 == 0)
    assert not caplog.messages


@pytest.mark.usefixtures("cluster")
def test_where_nodes_come_on_demand_it_says_how_many(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    waiting = Waiting("a training", 8, 1, clock=lambda: now)
    for num_starting, failures in ((1, []), (1, []), (2, []), (2, []), (0, ["no spot capacity"])):
        now += 5.0
        set_autoscaler(monkeypatch, AutoscalerStatus(num_starting, [], [], failures))
        waiting.update(running=False)
    assert capsys.readouterr().out.splitlines() == [
        "  waiting for 1 node: a training needs 8 CPUs and 1 GPU",
        "  waiting for 2 nodes: a training needs 8 CPUs and 1 GPU",
        "  waiting for the autoscaler: a training needs 8 CPUs and 1 GPU (no spot capacity)",
    ]
    assert not caplog.messages


@pytest.mark.usefixtures("cluster")
def test_what_no_node_type_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that some get is not refused to the others: there may be as many nodes as the cluster may have."""
    now = 0.0
    set_autoscaler(
        monkeypatch, AutoscalerStatus(0, [(8, 0), (6, 0), (6, 0), (4, 0)], [(8, 0), (6, 0), (4, 0)], [])
    )
    fits, some_get_it, never = [Waiting("a trial actor", cpus, 0, clock=lambda: now) for cpus in (4, 6, 8)]
    now = 5.0
    fits.update(running=False)
    some_get_it.update(running=False)
    with pytest.raises(ValueError, match=r"a trial actor needs 8 CPUs on one node.*--threads-per-worker"):
        never.update(running=False)


class Task:
    """Stands in for a remote function that never gets a place."""

    def options(self, **needs: float) -> Task:
        return self

    remote = options


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("cpus", "asked"), [(4, False), (6, True), (8, True)])
def test_nodes_are_asked_for_before_work_needs_them(
    monkeypatch: pytest.MonkeyPatch, cpus: int, asked: bool
) -> None:
    seconds, cancelled = [0.0], []

    def sleep(length: float) -> None:
        seconds[0] += length

    monkeypatch.setattr("pipeline.ray.waiting.time.monotonic", lambda: seconds[0])
    monkeypatch.setattr("pipeline.ray.waiting.time.sleep", sleep)
    monkeypatch.setattr(ray, "remote", lambda _: Task())
    monkeypatch.setattr(ray, "cancel", cancelled.append)
    infeasible = [] if cpus < 8 else [(8, 0)]
    set_autoscaler(monkeypatch, AutoscalerStatus(0, [(cpus, 0)], infeasible, []))
    needs = [Waiting("a trial actor", number, 0, clock=lambda: seconds[0]) for number in (2, cpus, cpus)]
    refused = pytest.raises(ValueError, match="needs 8 CPUs on one node") if infeasible else nullcontext()
    with refused:
        refuse_what_no_node_has(needs)
    assert len(cancelled) == asked
    assert seconds == [{4: 0.0, 6: 15.0, 8: 5.0}[cpus]]
