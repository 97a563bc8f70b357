"""Benchmark of super-network training: steps on random paths, ours against other implementations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from pipeline.bench import steps
from pipeline.bench.own_process import own_process
from pipeline.bench.steps import Round, Task, task_of, with_channels
from pipeline.bench.stopwatch import Comparison, SectionResult, Timing, alternate
from pipeline.bench.subject import Subject
from pipeline.console import say

PLAIN_TRAINING_BATCH_SIZE = 96  # of the official code

_WIDE = 64  # channels; a round of a few images then takes seconds
_WIDE_STEPS = 3
_WIDE_BATCH_SIZE = 16


def bench_training(subject: Subject, *, quick: bool) -> SectionResult:
    """Throughput of training on the same random paths.

    Ours, the plain implementation, a network of stock parts over all time steps, and the convolutions forward
    and backward alone; then ours and the stock parts with 64 channels. Each contestant runs in a process of
    its own, as its users run it: only ours, and the bound by the convolutions, keep freed memory as our
    trainings do, the others have glibc's defaults. Rounds are in turns, and one process works at a time.
    """
    num_steps = 3 if quick else 6
    task = task_of(subject, num_steps, subject.config.supernet.batch_size)
    official = replace(task, batch_size=PLAIN_TRAINING_BATCH_SIZE)
    say(f"  {num_steps} steps on the same paths, each contestant in a process of its own, in turns")
    measured = _measure(
        {
            "plain_96": (steps.plain, official),
            "spikingjelly": (steps.spikingjelly, task),
            "ours": (steps.ours, task),
            "convolutions": (steps.convolutions, task),
        },
        quick=quick,
    )
    wide, lines = None, _comparisons(measured.speed)
    if task.config.network.channels != _WIDE:
        wide = _bench_wide(task, quick=quick)
        lines += (_against_spikingjelly(wide.speed, f", C = {_WIDE}"),)
    return SectionResult(lines, _facts(task, measured, wide))


@dataclass(frozen=True)
class _Measured:
    """Timings of the contestants, by name, and what each did in a round."""

    rounds: Mapping[str, Round]
    timings: Mapping[str, Timing]

    @property
    def speed(self) -> dict[str, float]:
        """Images per second."""
        return {name: self.rounds[name].num_images / timing.median for name, timing in self.timings.items()}

    @property
    def spread(self) -> dict[str, float]:
        return {name: timing.spread for name, timing in self.timings.items()}


def _measure(
    contestants: Mapping[str, tuple[Callable[[Task], Callable[[], Round]], Task]], *, quick: bool
) -> _Measured:
    with ExitStack() as processes:
        runs = {
            name: processes.enter_context(own_process(make, task))
            for name, (make, task) in contestants.items()
        }
        rounds = {name: run() for name, run in runs.items()}  # also the round in which they warm up
        timings = alternate(runs, rounds=2 if quick else 4, warm_up=False, longest=30 if quick else 90)
    return _Measured(rounds, timings)


def _bench_wide(task: Task, *, quick: bool) -> _Measured:
    num_steps, batch_size = (2, _WIDE_BATCH_SIZE // 2) if quick else (_WIDE_STEPS, _WIDE_BATCH_SIZE)
    say(f"  {num_steps} steps with C = {_WIDE} on {batch_size} images each")
    wide = with_channels(task, _WIDE, num_steps, batch_size)
    return _measure(
        {"spikingjelly": (steps.spikingjelly, wide), "ours": (steps.ours, wide)},
        quick=quick,
    )


def _comparisons(speed: Mapping[str, float]) -> tuple[Comparison, ...]:
    ours, per_image = speed["ours"], (1000 / speed["ours"], 1000 / speed["convolutions"])
    return (
        Comparison("training / plain, batch 96", "img/s", ours, speed["plain_96"], 2.2, True),
        _against_spikingjelly(speed, "", target=2.5),
        Comparison("training / convolutions fwd + bwd", "ms/img", *per_image, 1.0),
    )


def _against_spikingjelly(
    speed: Mapping[str, float], which: str, *, target: float | None = None
) -> Comparison:
    return Comparison(
        f"training / spikingjelly{which}", "img/s", speed["ours"], speed["spikingjelly"], target, True
    )


def _facts(task: Task, measured: _Measured, wide: _Measured | None) -> dict[str, Any]:
    facts = {
        "images_per_second": measured.speed,
        "spread": measured.spread,
        "batch_size": task.batch_size,
        "paths": [str(path) for path in task.paths],
        "convolutions": measured.rounds["convolutions"].form,
    }
    if wide is not None:
        facts[f"channels_{_WIDE}"] = {
            "images_per_second": wide.speed,
            "spread": wide.spread,
            "images_of_a_round": wide.rounds["ours"].num_images,
        }
    return facts
