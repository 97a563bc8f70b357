"""The size of a sensor that nobody stated, measured from the events of all recordings."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from snn.data.camera.recordings import MAX_SIDE, Events

KNOWN_SENSORS = (
    (34, 34),  # N-MNIST
    (128, 128),  # DVS128
    (240, 180),  # DAVIS240
    (304, 240),  # ATIS, Prophesee Gen1
    (320, 240),  # DVXplorer Lite
    (320, 320),  # GenX320
    (346, 260),  # DAVIS346
    (480, 360),  # Prophesee Gen2
    (640, 480),  # Prophesee Gen3, DVXplorer
    (768, 640),  # CeleX-IV
    (1280, 720),  # Prophesee Gen4, EVK4
    (1280, 800),  # CeleX-V
    (1280, 960),  # Samsung Gen4
)
"""(W, H) of sensors on the market, the smaller first."""

_LARGEST = 4096  # pixels of a side; beyond it, even a recording that lies mostly there is an outlier
_BORDER = 8  # pixels
_CLIFF = 50  # how many times fewer events than those of the border lie beyond a cliff
_Counts = NDArray[np.int64]  # events in each column, or in each row


def measure_sensor(recordings: Iterable[Events]) -> tuple[int, int]:
    """(W, H) of the smallest sensor that contains all events but outliers, such as those with a flipped bit.

    Without outliers these are the largest column and row. Events that reach exactly the borders of one of
    KNOWN_SENSORS have none. Otherwise events are outliers if they are few, one in 10,000 or up to three of at
    least 100 each, and lie
      * outside a known sensor whose last column and last row saw at least as many events as lie beyond them,
      * or as far beyond all other events as these reach, or further,
      * or, at most three, beyond a gap behind a border whose columns (or rows) see so many events that the
        pixels beyond it, too, would have seen 50 times as many.
    The events of a recording that lies mostly there are no outliers.

    Args:
        recordings: The events of each recording.
    """
    columns, rows = np.zeros((2, MAX_SIDE), np.int64)
    column = row = 0  # the largest medians of a recording
    for events in recordings:
        columns += np.bincount(events["x"], minlength=MAX_SIDE)
        rows += np.bincount(events["y"], minlength=MAX_SIDE)
        column, row = max(column, _median(events["x"])), max(row, _median(events["y"]))
    reach = (_reach(columns), _reach(rows))
    if reach in KNOWN_SENSORS:
        return reach
    for width, height in KNOWN_SENSORS:
        if width > column and height > row and _ends_at(width, columns) and _ends_at(height, rows):
            return width, height
    return _side(columns, column), _side(rows, row)


def _median(values: NDArray[np.int16]) -> int:
    """The median, the lower of two; 0 if there is none, or it lies beyond all sensors."""
    middle = int(np.sort(values)[(len(values) - 1) // 2]) if len(values) else 0
    return middle if middle < _LARGEST else 0


def _reach(counts: _Counts) -> int:
    return int(np.flatnonzero(counts).max(initial=0)) + 1


def _few(counts: _Counts) -> int:
    num_events = int(counts.sum())
    return max(num_events // 10_000, min(3, num_events // 100))


def _ends_at(side: int, counts: _Counts) -> bool:
    """Whether events reach the last pixel of a side, and only outliers lie beyond it."""
    beyond = counts[side:].sum()
    return bool(counts[side - 1] >= max(beyond, 1) and beyond <= _few(counts))


def _side(counts: _Counts, middle: int) -> int:
    """The smallest side, above `middle`, beyond which only outliers lie."""
    seen, few = np.flatnonzero(counts), _few(counts)
    beyond = counts.sum() - np.cumsum(counts)[seen]
    for pixel, following, num in zip(seen[:-1], seen[1:], beyond[:-1], strict=True):
        side = int(pixel) + 1
        if pixel < middle or num > few:
            continue
        expected = counts[max(side - _BORDER, 0) : side].min() * (seen[-1] + 1 - side)
        is_cliff = following > side and num <= 3 and expected >= _CLIFF * num
        if following >= 2 * side or is_cliff:
            return side
    return _reach(counts)
