"""A contestant in a process of its own, with no more in common with the others than the machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

T = TypeVar("T")

_rounds: list[Callable[[], Any]] = []  # what the process of a contestant runs; one entry


@contextmanager
def own_process(make: Callable[..., Callable[[], T]], *arguments: object) -> Iterator[Callable[[], T]]:
    """While open, runs rounds of a contestant in a new process that waits without work between them.

    What a process sets for itself, as how malloc keeps freed blocks, then holds for one contestant alone. The
    process begins afresh (spawn): threads of torch do not outlive a fork, and settings of malloc do. It
    has as many threads as this one, and its environment.

    Args:
        make: Builds the contestant there and returns its round; a function of a module, which goes there by
            its name.
        arguments: For `make`, as values. Tensors would be shared with this process: give arrays instead.

    Yields:
        Runs one round there and returns what it returned.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        process.submit(_begin, torch.get_num_threads(), make, *arguments).result()
        yield lambda: process.submit(_round).result()


def _begin(num_threads: int, make: Callable[..., Callable[[], Any]], *arguments: object) -> None:
    torch.set_num_threads(num_threads)
    _rounds[:] = [make(*arguments)]


def _round() -> Any:
    return _rounds[0]()
