"""What tests with real processes share: waiting, killing a driver with its family, tables without times."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from pipeline.storage.evaluations import flat
from pipeline.storage.records import EvaluationRow

# Settings of `run demo` that make a whole run take seconds.
TINY = [
    *("--data.max-train-samples", "200", "--data.max-test-samples", "60"),
    *("--network.channels", "4", "--supernet.epochs", "3", "--supernet.checkpoint-every", "1"),
    *("--search.population-size", "4", "--search.num-parents", "2", "--search.num-mutants", "2"),
    *("--search.no-cache", "--search.max-evaluations", "32"),
    *("--retrain.epochs", "2", "--retrain.architectures", "best"),
]


def kill_family(process: subprocess.Popen[str]) -> None:
    """kill -9 of a driver and of the Ray processes it started, as far as they live."""
    if process.poll() is not None:
        return
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    for child in family:
        if child.is_running():
            child.kill()


def stop_workers(driver: subprocess.Popen[str]) -> None:
    """SIGSTOP of the Ray processes that a driver started: it lives, and gets no further."""
    for child in psutil.Process(driver.pid).children(recursive=True):
        child.suspend()


def write_token(folder: Path) -> Path:
    """A file with a new token of a cluster, which only its owner may read."""
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    return token


def without_times(rows: list[EvaluationRow]) -> list[dict[str, Any]]:
    """All that an evaluation's row says, but for times and names of workers."""
    return [flat(row) | {"seconds": 0.0, "worker": ""} for row in rows]


def wait_until(condition: Callable[[], object], seconds: float = 90.0, what: str = "it to happen") -> None:
    """Waits until a condition holds.

    Raises:
        AssertionError: It did not within the time.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"after {seconds:g} s still waiting for {what}"
        time.sleep(0.05)
