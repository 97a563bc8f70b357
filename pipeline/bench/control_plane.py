"""Benchmark of the control plane: what the driver of a long search needs on many workers.

Trials only sleep and return made-up results, but everything else is a search's own: Tune, searcher, files of
the run folder. This module does not import torch.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import psutil
from plotly.subplots import make_subplots
from ray import tune

from pipeline.algorithms.choose import build_search
from pipeline.bench.cluster import toy_answer, virtual_cluster
from pipeline.bench.stopwatch import Comparison, SectionResult
from pipeline.config.named import named_config
from pipeline.config.search import SearchConfig
from pipeline.config.tree import Config, RayConfig
from pipeline.console import say
from pipeline.ray.session import ray_session
from pipeline.search.results import Results
from pipeline.search.searcher import AskTellSearcher
from pipeline.search.trials import run_trials
from pipeline.storage.files import LocalFiles
from pipeline.storage.records import Cost, EvaluationRow, SupernetResult
from pipeline.storage.run_folder import RunFolder
from snn.search_space import SearchSpace

CHART = "control-plane.html"
_MIB = 2**20
_MOST_MEMORY = 2048.0
_PARTS = [f"layer{i}" for i in range(8)] + ["stem", "pool0", "pool1", "head"]
_POINTS = 40


@dataclass(frozen=True)
class Load:
    """A search of one kind and length.

    Attributes:
        name: What it is called.
        num_layers: Searched layers; the space has 5 blocks in each.
        algorithm: "random" or "exhaustive".
        num_candidates: Candidates.
        group: Candidates of a trial.
        seconds: Seconds that a trial takes.
    """

    name: str
    num_layers: int
    algorithm: Any
    num_candidates: int
    group: int
    seconds: float


_LOADS = (
    Load("one by one", 8, "random", 20_000, 1, 1.0),
    Load("in groups of 125", 8, "exhaustive", 5**8, 125, 1.0),
)
_QUICK_LOADS = (
    Load("one by one", 6, "random", 1_000, 1, 0.5),
    Load("in groups of 125", 6, "exhaustive", 5**6, 125, 0.5),
)


@dataclass(frozen=True)
class Point:
    """The driver at one moment of a search.

    Attributes:
        evaluations: Candidates with a result.
        seconds: Seconds since the search began.
        cpu_seconds: CPU seconds of the driver since then.
        memory: Resident memory of the driver in MiB.
    """

    evaluations: int
    seconds: float
    cpu_seconds: float
    memory: float


class SleepingTrial(tune.Trainable):
    """Sleeps and returns made-up results with as many numbers as real ones."""

    def setup(self, config: dict[str, Any], seconds: float) -> None:  # type: ignore[override]
        self.seconds = seconds
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.candidates = new_config["candidates"]
        return True

    def step(self) -> dict[str, Any]:
        time.sleep(self.seconds)
        answers = []
        for candidate_id, text in self.candidates:
            answer = toy_answer(int(candidate_id), text, self.seconds)
            assert answer.evaluation is not None
            rates = {part: 0.1 + i / 100 for i, part in enumerate(_PARTS)}
            spikes = {part: 1000.0 * (i + 1) for i, part in enumerate(_PARTS)}
            evaluation = replace(
                answer.evaluation, spikes_per_layer=spikes, firing_rate_per_layer=rates, synops=1e6
            )
            answers.append(replace(answer, evaluation=evaluation))
        return {"answers": answers, "busy_seconds": self.seconds, "cpu_seconds": 0.0, "done": True}


def bench_control_plane(
    out: Path, *, quick: bool, address: str | None, num_workers: int | None = None
) -> SectionResult:
    """Runs the loads: evaluations per second, and the driver's memory, CPU time and state as they grow.

    Args:
        out: Folder of the chart.
        quick: Short loads.
        address: Cluster to join; None takes 64 virtual CPUs of this machine.
        num_workers: Workers; None takes as many as there are CPUs.
    """
    courses: dict[str, list[Point]] = {}
    facts: dict[str, Any] = {}
    lines = []
    for load in _QUICK_LOADS if quick else _LOADS:
        say(f"  {load.num_candidates:,} candidates {load.name}")
        # In a process of its own, whose memory holds nothing of another load.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            course, sizes, used = alone.submit(_run_alone, load, address, num_workers).result()
        courses[load.name] = course
        facts[load.name] = {
            "load": asdict(load),
            "workers": used,
            "sizes": sizes,
            "course": [asdict(point) for point in course],
        }
        lines += _comparisons(load, course)
        for line in lines[-3:]:
            say(f"    {line.name}: {line.ours:,.3g} {line.unit}")
    LocalFiles(out).put(CHART, _chart(courses).to_html(include_plotlyjs=True).encode())
    return SectionResult(tuple(lines), facts)


def _run_alone(
    load: Load, address: str | None, num_workers: int | None
) -> tuple[list[Point], dict[str, int], int]:
    """What `_run_load` returns, and the number of workers."""
    with _session(address) as all_workers:
        used = num_workers or all_workers
        return *_run_load(load, used), used


@contextmanager
def _session(address: str | None) -> Iterator[int]:
    """Ray for the loads; its number of workers."""
    if address is None:
        with virtual_cluster() as resources:
            yield resources.num_workers
    else:
        with ray_session(Config(ray=RayConfig(address=address))) as resources:
            yield resources.num_workers


def _run_load(load: Load, num_workers: int) -> tuple[list[Point], dict[str, int]]:
    """The driver's course, and sizes of what it keeps at the end, in bytes."""
    space = SearchSpace(load.num_layers)
    settings = SearchConfig(algorithm=load.algorithm, max_evaluations=load.num_candidates)
    search = build_search(space, settings, seed=0, spikes_reference=50_000.0)
    driver, course = psutil.Process(), list[Point]()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        run = RunFolder(Path(folder, "run"))
        run.write_config(named_config("cifar10"))
        run.write_supernet(SupernetResult("made up", "0" * 64, 50_000.0, 0, 0, 0, Cost()))
        start, cpu_start = time.perf_counter(), _cpu_seconds(driver)

        def show(rows: Sequence[EvaluationRow]) -> None:
            done = len(results.table)
            if done >= (len(course) + 1) * load.num_candidates / _POINTS:
                elapsed, cpu = time.perf_counter() - start, _cpu_seconds(driver) - cpu_start
                course.append(Point(done, elapsed, cpu, driver.memory_info().rss / _MIB))

        results = Results(run=run, show=show)
        searcher = AskTellSearcher(
            search, results, num_workers=num_workers, largest_group=load.group, speculate=True
        )
        trainable = tune.with_parameters(SleepingTrial, seconds=load.seconds)
        run_trials(searcher, trainable, num_workers=num_workers)
        parts = sum(file.stat().st_size for file in Path(folder, "run").rglob("*.parquet"))
        run.close_evaluations(results.table)
        elapsed, cpu = time.perf_counter() - start, _cpu_seconds(driver) - cpu_start
        course.append(Point(len(results.table), elapsed, cpu, driver.memory_info().rss / _MIB))
        sizes = {
            "state of the search": len(json.dumps(search.state_dict())),
            "files of the trials": parts,
            "table": sum(file.stat().st_size for file in Path(folder, "run").rglob("*.parquet")),
        }
    return course, sizes


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _comparisons(load: Load, course: Sequence[Point]) -> list[Comparison]:
    """Rates of the last quarter against those of the second, which begins when all workers are up.

    The last point is that of the closed table, after the search.
    """
    searching = course[:-1]
    quarter, half, three_quarters, last = (searching[len(searching) * k // 4 - 1] for k in (1, 2, 3, 4))
    early, late = _rate(quarter, half), _rate(three_quarters, last)
    memory = max(point.memory for point in course)
    name = f"{load.num_candidates:,} {load.name}"
    return [
        Comparison(f"evaluations, {name}, at the end / before", "1/s", late, early, 0.8, at_least=True),
        Comparison(
            f"driver's CPU time per evaluation, {name}, at the end / before",
            "ms",
            _cpu_per_evaluation(three_quarters, last),
            _cpu_per_evaluation(quarter, half),
        ),
        Comparison(f"driver's memory, {name}", "MiB", memory, course[0].memory, _MOST_MEMORY, absolute=True),
    ]


def _rate(first: Point, last: Point) -> float:
    return (last.evaluations - first.evaluations) / max(last.seconds - first.seconds, 1e-9)


def _cpu_per_evaluation(first: Point, last: Point) -> float:
    return 1000 * (last.cpu_seconds - first.cpu_seconds) / max(last.evaluations - first.evaluations, 1)


def _chart(courses: dict[str, list[Point]]) -> go.Figure:
    """Evaluations per second, CPU time per evaluation and memory over the evaluations of each load."""
    rows = ("evaluations per second", "driver's CPU time<br>per evaluation (ms)", "driver's memory (MiB)")
    figure = make_subplots(rows=len(rows), cols=len(courses), column_titles=list(courses))
    for column, course in enumerate(courses.values(), start=1):
        steps = list(itertools.pairwise(course[:-1]))
        after = [last.evaluations for _, last in steps]
        series = (
            (after, [_rate(*step) for step in steps]),
            (after, [_cpu_per_evaluation(*step) for step in steps]),
            ([point.evaluations for point in course], [point.memory for point in course]),
        )
        for row, (x, y) in enumerate(series, start=1):
            line = {"color": "#1e3a5f", "width": 2}
            figure.add_scatter(
                x=x, y=y, mode="lines+markers", line=line, showlegend=False, row=row, col=column
            )
            title = rows[row - 1] if column == 1 else None
            figure.update_yaxes(rangemode="tozero", title_text=title, row=row, col=column)
        figure.update_xaxes(title_text="evaluations", row=len(series), col=column)
    figure.update_layout(template="plotly_white", height=900)
    return figure
