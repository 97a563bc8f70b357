"""The choices and settings that `snn` offers; light enough for a command line's help."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

NeuronName = Literal["IF", "LIF", "PLIF"]
EngineName = Literal["auto", "event_driven", "dense"]
Precision = Literal["float32", "bfloat16"]
Schedule = Literal["constant", "cosine"]
BinBy = Literal["time", "count"]
EventValues = Literal["count", "normalised"]


def at_least(section: str, minimum: float, **values: float | None) -> None:
    """Raises ValueError, naming `section.name`, unless every value is None or at least `minimum`."""
    for name, value in values.items():
        if value is not None and not value >= minimum:
            raise ValueError(f"{section}.{name} must be at least {minimum}, got {value}.")


@dataclass(frozen=True)
class FrameOptions:
    """How the events of a recording become frames.

    The steps are: sort by time, denoise, crop, cut into windows, bin, count per down-sampled pixel, clip.
    """

    bin_by: BinBy = "count"
    """Events only: `time` gives the T frames of a sample equal durations, `count` equal numbers of events."""
    window_ms: float = 0.0
    """Events only: recordings are cut into windows of this many milliseconds; 0 keeps them whole."""
    crop: int = 0
    """Events only: side in pixels of the centred square that is kept; 0 keeps the whole sensor."""
    downsample: int = 1
    """Events only: side in pixels of the squares whose events add up to one pixel."""
    denoise_us: int = 0
    """Events only: drops events without one of a neighbouring pixel in the preceding microseconds; 0: off."""
    max_count: int = 255
    """Events only: counts per pixel and frame are clipped to this value; 1 makes frames binary."""

    def __post_init__(self) -> None:
        if self.bin_by not in get_args(BinBy):
            raise ValueError(f"data.bin_by must be one of: time, count; got '{self.bin_by}'.")
        at_least("data", 1, downsample=self.downsample)
        at_least("data", 0, crop=self.crop, denoise_us=self.denoise_us)
        if self.window_ms and not 0.001 <= self.window_ms < math.inf:
            raise ValueError(
                f"data.window_ms must be at least 0.001 ms, or 0 for no windows, got {self.window_ms}."
            )
        if not 1 <= self.max_count <= 255:
            raise ValueError(
                f"data.max_count must be in [1, 255], as counts are stored in a byte, got {self.max_count}."
            )
