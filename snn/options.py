"""The choices and settings that `snn` offers, and how settings are checked; light enough for `--help`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

NeuronName = Literal["IF", "LIF", "PLIF", "ReLU"]
EngineName = Literal["auto", "event_driven", "dense"]
CostName = Literal["spikes", "synops", "energy"]
COSTS: tuple[CostName, ...] = get_args(CostName)
Precision = Literal["float32", "bfloat16"]
StatisticsName = Literal["stored", "recalibrated"]
ScoringName = Literal["supernet", "short_training"]
Schedule = Literal["constant", "cosine"]
PathSampling = Literal["uniform", "fair", "sandwich"]
MomentsName = Literal["sequence", "time_step"]
LossName = Literal["mse", "cross_entropy", "tet"]
BinBy = Literal["time", "count"]
EventValues = Literal["count", "normalised"]


@dataclass(frozen=True)
class Range:
    """What a number may be, beside its type: `Annotated[int, Range(1, 10)]`. It must always be finite.

    Attributes:
        low: The smallest value.
        high: The largest value.
        low_excluded: Whether the number must be above `low`.
        high_excluded: Whether the number must be below `high`.
    """

    low: float
    high: float
    low_excluded: bool = False
    high_excluded: bool = False

    def expected(self, value: float) -> str:
        """What the number must be but is not, in words; empty if it is right."""
        if not abs(value) < math.inf:
            return "a finite number"
        if value < self.low or (self.low_excluded and value == self.low):
            return f"{'above' if self.low_excluded else 'at least'} {_number(self.low)}"
        if value > self.high or (self.high_excluded and value == self.high):
            return f"{'below' if self.high_excluded else 'at most'} {_number(self.high)}"
        return ""


@dataclass(frozen=True)
class Text:
    """What a text may be, as `Range` for numbers: 1 to `longest` printable characters."""

    longest: int

    def expected(self, value: str) -> str:
        """What the text must be but is not, in words; empty if it is right."""
        if 0 < len(value) <= self.longest and value.isprintable():
            return ""
        return f"a printable text of 1 to {self.longest} characters"


POSITIVE_FLOAT32 = Range(1.1754943508222875e-38, 3.4028234663852886e38)
"""The positive numbers that are neither 0 nor infinite, nor lose precision, as float32."""
PIXELS = Range(0, 32_768)
"""A side in pixels; coordinates of events have 15 bits."""
TIME_STEPS = Range(1, 10_000)


def check_settings(section: str, settings: Any) -> None:
    """Checks the fields of a dataclass against their types.

    A number lies in the Range beside its type, a choice is one of its Literal, and the entries of a tuple of
    any length are different from each other.

    Args:
        section: Name of the settings in messages; empty for those outside any section.
        settings: The dataclass.

    Raises:
        ValueError: A value is not as it must be; the message names it `section.field`.
    """
    for name, kind in _kinds(settings.__class__).items():
        _check(f"{section}.{name}" if section else name, getattr(settings, name), kind)


@cache
def _kinds(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _check(name: str, value: Any, kind: Any) -> None:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        expected = parts[1].expected(value)
    elif choices := _choices(kind):
        expected = "" if value in choices else f"one of: {', '.join(choices)}"
    elif origin is tuple:
        variable = parts[1:] == (...,)
        for entry, of in zip(value, parts[:1] * len(value) if variable else parts, strict=True):
            _check(name, entry, of)
        expected = "different from each other" if variable and len(set(value)) < len(value) else ""
    else:
        if value is not None and type(None) in parts:
            _check(name, value, parts[0])
        return
    if expected:
        raise ValueError(f"{name} must be {expected}, got {value!r:.100}.")


def _choices(kind: Any) -> list[str]:
    """The choices of a Literal or of a union of Literals; empty for other types."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [choice for part in get_args(kind) if get_origin(part) is Literal for choice in get_args(part)]


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


@dataclass(frozen=True)
class FrameOptions:
    """How the events of a recording become frames.

    The steps are: sort by time, denoise, crop, cut into windows, bin, count per down-sampled pixel, clip.
    """

    bin_by: BinBy = "count"
    """Events only: `time` gives the T frames of a sample equal durations, `count` equal numbers of events."""
    window_ms: Annotated[float, Range(0.0, 1e9)] = 0.0
    """Events only: recordings are cut into windows of this many milliseconds; 0 keeps them whole."""
    crop: Annotated[int, PIXELS] = 0
    """Events only: side in pixels of the centred square that is kept; 0 keeps the whole sensor."""
    downsample: Annotated[int, Range(1, 32_768)] = 1
    """Events only: side in pixels of the squares whose events add up to one pixel."""
    denoise_us: Annotated[int, Range(0, 1_000_000_000)] = 0
    """Events only: drops events without one of a neighbouring pixel in the preceding microseconds; 0: off."""
    max_count: Annotated[int, Range(1, 255)] = 255
    """Events only: counts per pixel and frame, stored in a byte, are clipped to this value; 1 makes frames
    binary."""

    def __post_init__(self) -> None:
        check_settings("data", self)
        if 0 < self.window_ms < 0.001:
            raise ValueError(
                f"data.window_ms must be at least 0.001 ms, or 0 for no windows, got {self.window_ms}."
            )


@dataclass(frozen=True, kw_only=True)
class FrameSettings(FrameOptions):
    """How recordings become samples of T frames; every field is part of the cache key."""

    time_steps: Annotated[int, TIME_STEPS]
    """T, frames of a sample."""
