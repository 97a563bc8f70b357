"""The benchmark of the control plane."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.bench import control_plane
from pipeline.bench.control_plane import CHART, Load, Point, bench_control_plane


def course(memory: float, slowing: float) -> list[Point]:
    """A search whose every hundred evaluations take `slowing` seconds more than those before."""
    points, seconds = [], 0.0
    for i in range(1, 42):
        seconds += 10 + slowing * i
        points.append(Point(100 * i, seconds, seconds / 2, memory * i))
    return points


def test_targets_are_those_of_constant_speed_and_two_gibibytes() -> None:
    load = Load("one by one", 5, "random", 4000, 1, 1.0)
    met = control_plane._comparisons(load, course(memory=49.0, slowing=0.0))
    assert [line.met for line in met] == [True, None, True]
    assert met[0].ours == pytest.approx(10) and met[1].ours == pytest.approx(50)
    missed = control_plane._comparisons(load, course(memory=60.0, slowing=1.0))
    assert [line.met for line in missed] == [False, None, False]


@pytest.mark.slow
def test_loads_run_through_tune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = (Load("one by one", 5, "random", 120, 1, 0.1), Load("in groups", 3, "exhaustive", 125, 10, 0.1))
    monkeypatch.setattr(control_plane, "_QUICK_LOADS", loads)
    result = bench_control_plane(tmp_path, quick=True, address=None, num_workers=4)
    for load in loads:
        facts = result.facts[load.name]
        points = facts["course"]
        assert points[-1]["evaluations"] == load.num_candidates
        assert [p["evaluations"] for p in points] == sorted(p["evaluations"] for p in points)
        assert min(facts["sizes"].values()) > 0
    assert "plotly" in (tmp_path / CHART).read_text()
