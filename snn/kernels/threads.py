"""Work in threads, divided by the amount of work alone: no result depends on the number of threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

_T = TypeVar("_T")

_SMALLEST_SHARE = 32
_MOST_SHARES = 16


def shares(count: int) -> list[slice]:
    """Consecutive shares of `count` equal pieces of work, by their number alone."""
    number = max(1, min(_MOST_SHARES, count // _SMALLEST_SHARE))
    return [slice(count * k // number, count * (k + 1) // number) for k in range(number)]


def in_threads(function: Callable[..., _T], *arguments: object) -> list[_T]:
    """Like list(map(function, *arguments)), in as many threads as torch has."""
    columns = [list(column) for column in arguments]  # type: ignore[call-overload]
    if torch.get_num_threads() == 1 or len(columns[0]) == 1:
        return list(map(function, *columns))
    return list(_pool(torch.get_num_threads()).map(function, *columns))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="kernels")
