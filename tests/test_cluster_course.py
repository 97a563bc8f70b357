"""The record of a run's cluster over time."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from report_runs import evaluation_rows, finished_run, started_run, supernet_result

from pipeline.ray.course import is_worth_keeping, recorded_cluster
from pipeline.report.join import join_report
from pipeline.report.sections.cluster import cluster
from pipeline.storage.cluster_records import ClusterSample

HEAD = {"Alive": True, "Resources": {"memory": 1.0}}
WORKER = {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}}
SAMPLE = ClusterSample(1000.0, 2, 8.0, 0.0, 5)


def test_nodes_and_evaluations_are_recorded_and_a_second_attempt_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.ray.course._SECONDS_BETWEEN_LOOKS", 0.01)
    nodes = [HEAD]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    run = started_run(tmp_path)
    run.write_supernet(supernet_result())
    with recorded_cluster(run):
        wait_for_samples(run, 1)
        nodes.append(WORKER)
        wait_for_samples(run, 2)
        nodes.append(replace_alive(WORKER))
        run.append_evaluations(evaluation_rows()[:7])
    with recorded_cluster(run):
        wait_for_samples(run, 4)
    seen = [(s.nodes, s.cpus, s.gpus, s.evaluations) for s in run.read_cluster()]
    assert seen[0] == (0, 0.0, 0.0, 0) and seen[1] == (1, 4.0, 1.0, 0)
    assert (1, 4.0, 1.0, 7) in seen and len(seen) >= 4
    assert not [thread for thread in threading.enumerate() if thread.name == "cluster-course"]


def wait_for_samples(run, number: int) -> None:
    end = time.monotonic() + 10
    while len(run.read_cluster()) < number:
        assert time.monotonic() < end
        time.sleep(0.01)


def replace_alive(node: dict[str, object]) -> dict[str, object]:
    return {**node, "Alive": False}


def test_a_lost_cluster_ends_the_record_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_nodes() -> None:
        raise ray.exceptions.RaySystemError("gone")

    monkeypatch.setattr(ray, "nodes", no_nodes)
    run = started_run(tmp_path)
    with recorded_cluster(run):
        pass
    assert run.read_cluster() == []


def test_a_long_run_keeps_few_samples() -> None:
    last, kept = None, 0
    for seconds in range(0, 7 * 24 * 3600, 2):
        sample = replace(SAMPLE, time=float(seconds), evaluations=seconds)
        if is_worth_keeping(sample, last, 0.0):
            last, kept = sample, kept + 1
    assert 300 < kept < 2500
    more = replace(sample, nodes=3)
    assert is_worth_keeping(more, sample, 0.0) and not is_worth_keeping(sample, sample, 0.0)


def test_report_draws_nodes_beside_evaluations(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    assert cluster(join_report(run)) is None
    run.write_cluster([SAMPLE, replace(SAMPLE, time=1060.0, nodes=3, cpus=12.0, evaluations=200)])
    report = join_report(run)
    section = cluster(report)
    assert section is not None and (section.most_nodes, section.most_cpus) == (3, 12.0)
    assert "minutes since the start" in section.chart and "cluster.json" in report.provenance.files
