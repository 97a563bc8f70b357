"""What a person reads: lines and progress bars on the terminal, warnings, errors, and what is logged."""

from __future__ import annotations

import logging
import os
import select
import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self, TextIO

from tqdm import tqdm

from pipeline.formats import duration, percent
from pipeline.interruption import BudgetSpent, ProcessLost, Terminated, interruptible, interruption

if TYPE_CHECKING:
    from pipeline.algorithms.ask_tell import ArchitectureSearch
    from pipeline.algorithms.history import Candidate
    from pipeline.storage.records import EvaluationRow
    from snn.fitness import Evaluation

LOG_VARIABLE = "AUTOSNN_LOG"
_LEVELS = ("debug", "info", "warning", "error")
_PACKAGES = ("snn", "pipeline")
_STDOUT = 1
_READER_LEFT = 141  # the status of a program that SIGPIPE ends
# Without a terminal there are no bars; a line reports a training's progress at this interval instead.
_SECONDS_BETWEEN_LINES = 60


def say(text: str, stream: TextIO | None = None) -> None:
    """Prints a line without tearing a bar apart, on standard output unless another stream is given."""
    stream = stream or sys.stdout
    tqdm.write(text.replace("\u00a0", " "), file=stream)  # terminals break lines well enough
    stream.flush()


def run_command(run: Callable[[], None], *, resume: Sequence[str] = ()) -> int:
    """Configures logging, runs a command and returns its exit status.

    It is 0, 2 after an error, 130 after Ctrl-C, and after another signal what `Terminated.status` says.

    Args:
        run: The command. Its ValueError, OSError or RuntimeError is shown as one message; with
            AUTOSNN_TRACEBACK set it is raised.
        resume: Arguments of launch.py that resume the command, shown where that makes sense.
    """

    def report(error: BaseException) -> int:
        return _report(error, resume)

    with interruptible(report):
        try:
            try:
                configure_logging()
                run()
            finally:
                sys.stdout.flush()
        except BaseException as error:
            cause = interruption() or error
            if isinstance(cause, BrokenPipeError) and _reader_left():
                return _READER_LEFT
            shown = isinstance(cause, KeyboardInterrupt | ValueError | OSError | RuntimeError)
            if not shown or (isinstance(cause, Exception) and os.environ.get("AUTOSNN_TRACEBACK")):
                raise
            status = report(cause)
            if isinstance(cause, ProcessLost):
                os._exit(status)  # at its exit, Ray would wait for what is lost
            return status
    return 0


def _report(error: BaseException, resume: Sequence[str]) -> int:
    """Says why a command ended and how to go on; returns its exit status."""
    command = f"Resume with: python launch.py {shlex.join(resume)}"
    if isinstance(error, BudgetSpent):
        say(f"{error}; finished work is kept. {command}, with a higher limit.", sys.stderr)
        return error.status
    if isinstance(error, KeyboardInterrupt):
        if resume:
            say(f"\ninterrupted; finished work is kept. {command}", sys.stderr)
        return error.status if isinstance(error, Terminated) else 130
    say(f"error: {error}", sys.stderr)
    if isinstance(error, ProcessLost) and resume:
        say(f"Finished work is kept. {command}", sys.stderr)
    return 2


def configure_logging() -> None:
    """Shows warnings and log records of the chosen level on the terminal, each as `level: message`.

    Raises:
        ValueError: AUTOSNN_LOG is not a level.
    """
    level = os.environ.get(LOG_VARIABLE) or "warning"
    if level not in _LEVELS:
        raise ValueError(f"{LOG_VARIABLE} must be one of {', '.join(_LEVELS)}, got '{level}'.")
    _set_handler(_TerminalHandler(), level)
    warnings.showwarning = _log_warning


def configure_worker_logging() -> None:
    """The same records with time, process and module on standard error, which is a Ray worker's log file."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"))
    _set_handler(handler, os.environ.get(LOG_VARIABLE) or "warning")
    logging.captureWarnings(True)


class TrainingProgress:
    """A bar over the samples of one or more trainings, with images/s and the time left.

    Args:
        title: What is trained.
        total: Number of samples of all trainings together.
    """

    def __init__(self, title: str, total: int) -> None:
        self._bar = _bar(title, total, "img")
        self._last_line = time.monotonic()

    def close(self) -> None:
        self._bar.close()

    def advance(self, samples: int, note: str = "") -> None:
        """Adds samples (negative after a training returned to its checkpoint)."""
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(samples)
        if not sys.stderr.isatty() and time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            say(f"  {self._bar}")


class SearchProgress:
    """A bar over evaluations, and at intervals a line with the best architecture so far.

    Args:
        search: The search whose results are shown.
        start: `time.perf_counter()` at its start.
        num_samples: Samples of a complete evaluation; a candidate that was dropped earlier is never the best.
    """

    def __init__(self, search: ArchitectureSearch, start: float, *, num_samples: int = 0) -> None:
        self.search = search
        self.num_samples = num_samples
        self.start = start
        self.total = search.num_planned
        # one line per generation of the paper's size, about 20 for the whole space
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
        left = (time.perf_counter() - self.start) / done * (self.total - done)
        text = f"  {done:>5,}/{self.total:,} evaluated"
        best, result = self._best_so_far()
        if best is None or result is None:
            failed = all(result is None for result in self.search.results.values())
            say(f"{text}, all failed so far" if failed else text)
            return
        say(
            f"{text}  best {percent(result.accuracy)}, {result.spikes:,.0f} spikes  "
            f"{duration(round(left))} left"
        )
        if best.id != self._best:
            say(f"    {best.architecture}")
            self._best = best.id

    def _best_so_far(self) -> tuple[Candidate | None, Evaluation | None]:
        for candidate in self.search.history.elite():
            result = self.search.results[candidate.id]
            if result is not None and result.num_samples >= self.num_samples:
                return candidate, result
        return None, None


class _TerminalHandler(logging.Handler):
    """Shows a record as `level: message`."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {self.format(record)}", sys.stderr)


def _set_handler(handler: logging.Handler, level: str) -> None:
    """Sends records to this handler instead of an earlier one of ours; others' only from WARNING on."""
    handler.set_name("autosnn")
    root = logging.getLogger()
    for earlier in [h for h in root.handlers if h.get_name() == handler.get_name()]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(max(logging.WARNING, getattr(logging, level.upper())))
    for package in _PACKAGES:
        logging.getLogger(package).setLevel(level.upper())


def _log_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Logs a warning of Python's without its line of source."""
    logging.getLogger("py.warnings").warning("%s", message)


def _reader_left() -> bool:
    """Whether standard output is a pipe that nobody reads any more, as after `| head`; then closes it."""
    poll = select.poll()
    poll.register(_STDOUT, select.POLLOUT)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)  # otherwise Python complains when it exits
    return True


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
