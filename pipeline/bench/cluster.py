"""Benchmark of the orchestration: real Tune runs on virtual workers whose evaluations only sleep.

This module does not import torch, so that only Ray limits how fast a process of its trainable starts.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray import tune

from pipeline.algorithms.choose import build_search
from pipeline.bench.stopwatch import Comparison, SectionResult
from pipeline.config.search import SearchConfig
from pipeline.config.tree import Config, NetworkConfig, RayConfig
from pipeline.console import say
from pipeline.ray.session import Resources, ray_session
from pipeline.search.answers import Answer
from pipeline.search.results import Results
from pipeline.search.searcher import AskTellSearcher
from pipeline.search.trials import run_trials
from snn.fitness import Evaluation

_VIRTUAL_CPUS = 64
_RESOURCES_VARIABLE = "RAY_OVERRIDE_RESOURCES"  # makes Ray schedule on CPUs that do not exist
_LONGEST_START = 400.0


@dataclass(frozen=True)
class Case:
    """One Tune run: its number of slots, length and number of evaluations, and kind of search."""

    num_workers: int
    seconds_per_evaluation: float
    num_evaluations: int
    random: bool = False


_CASES = (
    Case(1, 0.5, 40),
    Case(2, 0.5, 60),
    Case(4, 1.0, 60),
    Case(8, 1.0, 100),
    Case(16, 2.0, 100),
    Case(64, 2.0, 1600, random=True),
)
_QUICK_CASES = (Case(1, 0.25, 20), Case(2, 0.25, 40), Case(8, 0.5, 100))


@dataclass(frozen=True)
class CaseResult:
    """Measurements of one case.

    Attributes:
        processes_started: Evaluator processes, including those that replaced others.
        startup_seconds: Seconds until every slot had its first process.
        steady_seconds: Seconds from then, when all slots had begun, until the last trial was handed out.
        busy_share: Share of the steady time in which slots were evaluating, in [0, 1].
        evaluations_per_second: Throughput in the steady time, including extra candidates.
        num_extras: Evaluations of extra candidates, ahead of the search.
        num_trials: Tune trials.
        wall_seconds: Seconds of the whole run.
    """

    num_workers: int
    seconds_per_evaluation: float
    search: str
    processes_started: int
    startup_seconds: float
    steady_seconds: float
    busy_share: float
    evaluations_per_second: float
    num_evaluations: int
    num_extras: int
    num_trials: int
    wall_seconds: float


class SleepingEvaluator(tune.Trainable):
    """Accepts trials as the search's evaluator does, but sleeps and returns made-up results.

    Each process writes one line of JSON per trial to its own file. Its first trial waits until every slot
    has a process, then for a fraction of a trial, so that the slots do not run in lockstep.
    """

    def setup(  # type: ignore[override]  # Tune adds what with_parameters was given
        self, config: dict[str, Any], folder: str, num_workers: int, seconds: float
    ) -> None:
        self.folder = Path(folder)
        self.num_workers = num_workers
        self.seconds = seconds
        self.number = len(list(self.folder.iterdir()))
        self.file = self.folder / f"{os.getpid()}-{uuid.uuid4().hex}"
        self.file.write_text("")
        self.started = False
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.candidates: list[tuple[int, str]] = [(int(i), text) for i, text in new_config["candidates"]]
        return True

    def step(self) -> dict[str, Any]:
        length = self.seconds * len(self.candidates)
        if not self.started:
            self._wait_for_others()
            time.sleep(length * (self.number % self.num_workers) / self.num_workers)
            self.started = True
        start = time.time()
        time.sleep(length)
        end = time.time()
        line = {"start": start, "end": end, "ids": [i for i, _ in self.candidates]}
        with open(self.file, "a") as log:
            log.write(json.dumps(line) + "\n")
        answers = [toy_answer(i, text, self.seconds) for i, text in self.candidates]
        return {"answers": answers, "busy_seconds": end - start, "cpu_seconds": 0.0, "done": True}

    def _wait_for_others(self) -> None:
        end = time.time() + _LONGEST_START
        while len(list(self.folder.iterdir())) < self.num_workers and time.time() < end:
            time.sleep(0.5)


def toy_answer(candidate_id: int, text: str, seconds: float = 0.0) -> Answer:
    """A made-up evaluation; its measurements depend on the architecture alone."""
    rng = random.Random(zlib.crc32(text.encode()))
    accuracy = 0.4 + 0.05 * text.count("k5") + 0.1 * rng.random()
    spikes = 20_000 + 15_000 * text.count("SCB") + 10_000 * text.count("SRB") + 5_000 * rng.random()
    evaluation = Evaluation(accuracy, spikes, firing_rate=0.1, num_samples=1)
    return Answer(candidate_id, evaluation, worker=str(os.getpid()), seconds=seconds)


def bench_cluster(*, quick: bool) -> SectionResult:
    """Runs every case in one Ray session: evaluations per second, busy slots, processes started."""
    results = []
    with virtual_cluster():
        for case in _QUICK_CASES if quick else _CASES:
            say(f"  {case.num_workers} workers, evaluations of {case.seconds_per_evaluation:g} s")
            results.append(_run_case(case))
            say(
                f"    all up after {results[-1].startup_seconds:.1f} s, then "
                f"{100 * results[-1].busy_share:.0f} % busy, {results[-1].evaluations_per_second:.1f}/s"
            )
    lines: list[Comparison] = []
    for result in results:
        demanded = result.num_workers == 64
        name = f"{result.num_workers} workers, {result.seconds_per_evaluation:g} s, {result.search}"
        ideal = result.num_workers / result.seconds_per_evaluation
        lines += [
            Comparison(f"evaluations, {name} / ideal", "1/s", result.evaluations_per_second, ideal),
            Comparison(
                f"busy share, {name} / all", "", result.busy_share, 1.0, 0.9 if demanded else None, True
            ),
            Comparison(
                f"processes, {name} / slots",
                "",
                result.processes_started,
                result.num_workers,
                1.0 if demanded else None,
            ),
        ]
    facts = {
        "steady": "from the moment every slot has begun its first trial to the last hand-out of one; the "
        "start of the processes, which share this machine's CPUs, is not in it",
        "cases": [vars(result) for result in results],
    }
    return SectionResult(tuple(lines), facts)


@contextmanager
def virtual_cluster() -> Iterator[Resources]:
    """A Ray session on this machine with as many virtual CPUs as the largest case needs."""
    before = os.environ.get(_RESOURCES_VARIABLE)
    os.environ[_RESOURCES_VARIABLE] = json.dumps({"CPU": _VIRTUAL_CPUS})
    try:
        with ray_session(Config(ray=RayConfig())) as resources:
            assert resources.num_workers == _VIRTUAL_CPUS, "Ray no longer reads its variable"
            yield resources
    finally:
        if before is None:
            del os.environ[_RESOURCES_VARIABLE]
        else:
            os.environ[_RESOURCES_VARIABLE] = before


def _run_case(case: Case) -> CaseResult:
    """One Tune run with the settings of the search stage."""
    settings = SearchConfig(
        algorithm="random" if case.random else "evolution", max_evaluations=case.num_evaluations
    )
    search = build_search(NetworkConfig().search_space(), settings, seed=0, spikes_reference=50_000.0)
    searcher = AskTellSearcher(search, Results(), num_workers=case.num_workers, speculate=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        fixed = {"folder": folder, "num_workers": case.num_workers, "seconds": case.seconds_per_evaluation}
        trainable = tune.with_parameters(SleepingEvaluator, **fixed)
        start = time.time()
        run_trials(searcher, trainable, num_workers=case.num_workers)
        wall = time.time() - start
        logs = [_read_log(file) for file in Path(folder).iterdir()]
    return replace(_summary(case, logs, start), wall_seconds=wall)


def _read_log(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def _summary(case: Case, logs: list[list[dict[str, Any]]], start: float) -> CaseResult:
    """Busy share and throughput in the steady time, from the lines that the processes wrote."""
    trials = [trial for log in logs for trial in log]
    ids = [i for trial in trials for i in trial["ids"]]
    firsts = sorted(log[0]["start"] for log in logs if log)
    begun = firsts[min(case.num_workers, len(firsts)) - 1]
    last = max(trial["start"] for trial in trials)
    steady = max(last - begun, 1e-9)
    busy = sum(max(0.0, min(t["end"], last) - max(t["start"], begun)) for t in trials)
    share = busy / (steady * case.num_workers)
    return CaseResult(
        num_workers=case.num_workers,
        seconds_per_evaluation=case.seconds_per_evaluation,
        search="random" if case.random else "evolution",
        processes_started=len(logs),
        startup_seconds=firsts[0] - start,
        steady_seconds=steady,
        busy_share=share,
        evaluations_per_second=share * case.num_workers / case.seconds_per_evaluation,
        num_evaluations=sum(i >= 0 for i in ids),
        num_extras=sum(i < 0 for i in ids),
        num_trials=len(trials),
        wall_seconds=0.0,
    )
