"""Interleaved timing: contestants take turns, and each one's time is its median over the rounds."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import psutil


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of one contestant, one value per round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """(slowest - fastest) / median, a measure of how much the machine was disturbed."""
        return (max(self.seconds) - min(self.seconds)) / self.median


@dataclass(frozen=True)
class Comparison:
    """One line of the table: two measurements in the same unit, their ratio and its target.

    Attributes:
        name: What is compared, and with what.
        unit: Unit of `ours` and `theirs`.
        target: Bound on the ratio ours / theirs; None without a target.
        at_least: The target is a lower bound; otherwise it is an upper bound.
        absolute: The target bounds `ours` instead of the ratio.
    """

    name: str
    unit: str
    ours: float
    theirs: float
    target: float | None = None
    at_least: bool = False
    absolute: bool = False

    @property
    def ratio(self) -> float | None:
        """ours / theirs; None if theirs is 0."""
        return self.ours / self.theirs if self.theirs else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        value = self.ours if self.absolute else self.ratio
        if self.target is None or value is None:
            return None
        return value >= self.target if self.at_least else value <= self.target


@dataclass(frozen=True)
class SectionResult:
    """Results of one section of the benchmark.

    Attributes:
        comparisons: Lines of the table.
        facts: All other results, as JSON values.
    """

    comparisons: tuple[Comparison, ...]
    facts: dict[str, Any] = field(default_factory=dict)


class OtherProcesses:
    """Measures, while open, the CPU time that other processes use.

    Attributes:
        share: Share of the time of all CPUs, in [0, 1]; set on exit. Child processes of this process count
            as other processes until they have ended.
    """

    share = 0.0

    def __enter__(self) -> Self:
        self._start = time.perf_counter(), _busy_seconds(), _own_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        wall, busy, own = self._start
        others = _busy_seconds() - busy - (_own_seconds() - own)
        self.share = max(0.0, others / (time.perf_counter() - wall) / (psutil.cpu_count() or 1))


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _own_seconds() -> float:
    times = psutil.Process().cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def seconds_of(run: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def alternate(
    contestants: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warm_up: bool = True,
    longest: float = math.inf,
) -> dict[str, Timing]:
    """Times contestants in turns (A B A B ...), so that a disturbance of the machine affects all of them.

    Args:
        contestants: What to time, by name.
        rounds: Number of rounds; each contestant runs once per round.
        warm_up: Run each contestant once before, untimed.
        longest: Seconds after which no new round begins; there is at least one.
    """
    start = time.perf_counter()
    if warm_up:
        for run in contestants.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for index in range(rounds):
        if index and time.perf_counter() - start > longest:
            break
        for name, run in contestants.items():
            seconds[name].append(seconds_of(run))
    return {name: Timing(tuple(values)) for name, values in seconds.items()}
