"""What a person sees while a stage runs: bars, and a line for each thing worth keeping."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Self

from tqdm import tqdm

from pipeline.algorithms.ask_tell import ArchitectureSearch
from pipeline.formats import duration, percent
from pipeline.storage.records import EvaluationRow

# Where there is no terminal to draw a bar on, a line tells now and then how far a training is.
_SECONDS_BETWEEN_LINES = 60


def say(text: str) -> None:
    """Prints a line without tearing a bar apart."""
    tqdm.write(text.replace("\u00a0", " "), file=sys.stdout)  # terminals break lines well enough
    sys.stdout.flush()


class TrainingProgress:
    """A bar over all samples that one or more trainings will see, with images/s and time left.

    Args:
        title: What is trained.
        total: Samples of all trainings together.
    """

    def __init__(self, title: str, total: int) -> None:
        self._bar = _bar(title, total, "img")
        self._last_line = time.monotonic()

    def close(self) -> None:
        self._bar.close()

    def advance(self, samples: int, note: str = "") -> None:
        """Adds samples done (negative after a training fell back to its checkpoint)."""
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(samples)
        if not sys.stderr.isatty() and time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            say(f"  {self._bar}")


class SearchProgress:
    """A bar over evaluations, and now and then a line with the best architecture so far.

    Args:
        search: The search whose results are shown.
        start: `time.perf_counter()` at its start.
    """

    def __init__(self, search: ArchitectureSearch, start: float) -> None:
        self.search = search
        self.start = start
        self.total = search.num_planned
        # a line per generation of the paper's size, a dozen lines for the whole space
        self.step = max(search.settings.population_size, self.total // 20)
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
        if done // self.step > self._reported or done == self.total:
            self._reported = done // self.step
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
        say(
            f"  {done:>5,}/{self.total:,} evaluated  best {percent(result.accuracy)}, "
            f"{result.spikes:,.0f} spikes  {duration(left)} left"
        )
        if best.id != self._best:
            say(f"    {best.architecture}")
            self._best = best.id


def _bar(title: str, total: int, unit: str) -> tqdm:
    return tqdm(
        total=total,
        desc=title,
        unit=unit,
        leave=False,
        file=sys.stderr if sys.stderr.isatty() else open(os.devnull, "w"),
        mininterval=0.5,
        ncols=min(shutil.get_terminal_size().columns - 1, 120),
    )
