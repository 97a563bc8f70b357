"""Benchmark of starting up: how long the commands of a tiny run take until they have an answer.

Commands run as a user's do, in processes of their own.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.bench.stopwatch import Comparison, SectionResult
from pipeline.console import say
from pipeline.storage.names import (
    CONFIG,
    ENVIRONMENT,
    EVALUATION_PARTS,
    EVALUATIONS,
    SUPERNET,
    SUPERNET_WEIGHTS,
)

# Of `run demo`: all stages take seconds.
_TINY = (
    *("--data.max-train-samples", "200", "--data.max-test-samples", "60"),
    *("--network.channels", "4", "--supernet.epochs", "2"),
    *("--search.population-size", "4", "--search.num-parents", "2", "--search.num-mutants", "2"),
    *("--search.no-cache", "--search.max-evaluations", "8"),
    *("--retrain.epochs", "1", "--retrain.architectures", "best"),
)
_TRAINED = (CONFIG, ENVIRONMENT, SUPERNET, SUPERNET_WEIGHTS)  # what a run has before its search
_POLL = 0.02
_ROUNDS = 3
_SHOWN_OF_LOG = 500

_FINISHED, _EVALUATE, _FIRST = "a finished run", "evaluate", "first candidate of a search"
_TARGETS = {_FINISHED: 2.0, _EVALUATE: 3.5, _FIRST: 6.0}


def bench_start_up(*, quick: bool) -> SectionResult:
    """Seconds of a finished `run`, of `evaluate`, and of `search` until its first candidate is stored.

    Each is the least of three, in turns. Kernels are compiled before and lie in the cache. What importing
    torch alone takes is measured beside them: no command that computes can take less.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        commands = _Commands(folder, folder / "run")
        say("  a tiny run, to start from")
        commands.run()
        commands.evaluate()
        seconds = _least(
            {
                "import torch": commands.import_torch,
                _FINISHED: commands.run,
                _EVALUATE: commands.evaluate,
                _FIRST: commands.first_candidate,
            },
            rounds=1 if quick else _ROUNDS,
        )
    imported = seconds["import torch"]
    return SectionResult(
        tuple(
            Comparison(f"{what} / import torch", "s", seconds[what], imported, target, absolute=True)
            for what, target in _TARGETS.items()
        ),
        {"seconds": seconds, "settings": " ".join(("run demo", *_TINY))},
    )


@dataclass(frozen=True)
class _Commands:
    """Runs the product's commands and returns how long they took, in seconds.

    Attributes:
        folder: Holds everything that is written, also the user's cache of the commands.
        finished: The run folder; finished after the first `run`.
    """

    folder: Path
    finished: Path

    def run(self) -> float:
        return self._seconds(_launch("run", "demo", "--run-dir", str(self.finished), *_TINY))

    def evaluate(self) -> float:
        return self._seconds(_launch("evaluate", str(self.finished), "--architecture", "autosnn"))

    def import_torch(self) -> float:
        return self._seconds([sys.executable, "-c", "import torch"])

    def first_candidate(self) -> float:
        """Of a search in a copy of the run as it was before its own; waits for its end, untimed."""
        run = Path(tempfile.mkdtemp(prefix="search-", dir=self.folder))
        for name in _TRAINED:
            shutil.copy(self.finished / name, run / name)

        def stored() -> bool:
            return any((run / EVALUATION_PARTS).glob("*.parquet")) or (run / EVALUATIONS).exists()

        return self._seconds(_launch("search", str(run)), stored)

    def _seconds(self, command: list[str], answered: Callable[[], bool] | None = None) -> float:
        """Seconds until there is an answer, or until the command has ended.

        Raises:
            RuntimeError: It failed, or ended without an answer.
        """
        environment = os.environ | {"XDG_CACHE_HOME": str(self.folder / "cache")}
        log, end = self.folder / "log", None
        with open(log, "w") as output:
            start = time.perf_counter()
            with subprocess.Popen(command, stdout=output, stderr=output, env=environment) as process:
                while answered is not None and end is None and process.poll() is None:
                    time.sleep(_POLL)
                    end = time.perf_counter() if answered() else None
            end = time.perf_counter() if answered is None else end
        if process.returncode or end is None:
            raise RuntimeError(f"'{' '.join(command[1:4])}' failed: {log.read_text()[-_SHOWN_OF_LOG:]}")
        return end - start


def _launch(*arguments: str) -> list[str]:
    """The command line of a command, from a checkout or an installed wheel."""
    found = importlib.util.find_spec("launch")
    assert found is not None and found.origin is not None
    return [sys.executable, found.origin, *arguments]


def _least(commands: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, float]:
    """The least seconds of each; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            seconds[name].append(command())
            say(f"  {name}: {seconds[name][-1]:.2f} s")
    return {name: min(values) for name, values in seconds.items()}
