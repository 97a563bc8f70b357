"""What each worker process of Ray does when it starts."""

from __future__ import annotations

import importlib
import os
from contextlib import suppress

from pipeline.config.variables import WORKER_IMPORTS
from pipeline.console import configure_worker_logging

_THREADS = "OMP_NUM_THREADS"


def start_worker() -> None:
    """Configures logging and imports what the work to come needs, while the driver prepares that work."""
    configure_worker_logging()
    if module := os.environ.get(WORKER_IMPORTS):
        with suppress(Exception):  # who needs it says what is wrong; Ray would only start the next process
            _import(module)


def _import(module: str) -> None:
    """Imports with the number of threads that Ray sets before the work of one CPU: libraries read it once."""
    unset = _THREADS not in os.environ
    os.environ.setdefault(_THREADS, "1")
    try:
        importlib.import_module(module)
    finally:
        if unset:
            del os.environ[_THREADS]
