"""What a person sees while a stage runs: bars, and a line for each thing worth keeping."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from typing import Self

from tqdm import tqdm

from pipeline.evolution import SpikeAwareEvolution
from pipeline.records import EvaluationRow


def say(text: str) -> None:
    """Prints a line without tearing a bar apart."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


def percent(share: float | None) -> str:
    """0.612 as "61.2 %"."""
    return "-" if share is None else f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """Seconds for people: "8 s", "2 min 05 s", "3 h 20 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class TrainingProgress:
    """A bar over all samples that one or more trainings will see, with samples/s and time left.

    Args:
        title: What is trained.
        total: Samples of all trainings together.
    """

    def __init__(self, title: str, total: int) -> None:
        self._bar = _bar(title, total, "img")

    def close(self) -> None:
        self._bar.close()

    def advance(self, samples: int, note: str = "") -> None:
        """Adds samples done (negative after a training fell back to its checkpoint)."""
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(samples)


class SearchProgress:
    """A bar over evaluations, and a line per generation with the best architecture so far.

    Args:
        search: The search whose results are shown.
        start: `time.perf_counter()` at its start.
    """

    def __init__(self, search: SpikeAwareEvolution, start: float) -> None:
        self.search = search
        self.start = start
        self.total = min(search.settings.max_evaluations, len(search.space))
        self._bar = _bar("search", self.total, "eval")
        self._best = -1
        self._reported = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, rows: Sequence[EvaluationRow]) -> None:
        """Shows the rows of a finished trial."""
        self._bar.update(len(rows))
        done = len(self.search.results)
        size = self.search.settings.population_size
        if done // size > self._reported or done == self.total:
            self._reported = done // size
            self._report(done)

    def _report(self, done: int) -> None:
        ranking = self.search.ranking()
        if not ranking:
            say(f"  {done}/{self.total} evaluated, all failed so far")
            return
        best = ranking[0]
        result = self.search.results[best.id]
        assert result is not None
        left = (time.perf_counter() - self.start) / done * (self.total - done)
        generation = (done - 1) // self.search.settings.population_size
        say(
            f"  generation {generation:>2}  {done}/{self.total} evaluated  "
            f"best {percent(result.accuracy)}, {result.spikes:,.0f} spikes  {duration(left)} left"
        )
        if best.id != self._best:
            say(f"    {best.architecture}")
            self._best = best.id


def _bar(title: str, total: int, unit: str) -> tqdm:
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=title,
        unit=unit,
        leave=False,
        disable=not terminal,
        mininterval=0.5,
        ncols=min(shutil.get_terminal_size().columns - 1, 120),
    )
