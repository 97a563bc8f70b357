"""Event-camera data: example frames, events per sample, notes on the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from pipeline.report.contents import Events, EventSplit, Report
from pipeline.report.frames import (
    OFF_COLOUR,
    ON_COLOUR,
    block_side,
    frames_picture,
    mixed_colour,
    png_data_url,
)
from pipeline.storage.records import EventExamples

_MOST_STEPS = 8
_MOST_CLASSES = 12
_FRAME_WIDTH = 100  # approximate width of a frame on the screen, in CSS pixels
_COLOURS = (
    ("ON", ON_COLOUR),
    ("OFF", OFF_COLOUR),
    ("both", "#" + "".join(f"{part:02x}" for part in mixed_colour(1, 1))),
)


@dataclass(frozen=True)
class Picture:
    """The frames of one class beside each other, as a PNG in a data URL of the given size in pixels."""

    class_name: str
    url: str
    width: int
    height: int


@dataclass(frozen=True)
class Frames:
    """One sample of each class, as far as there is room.

    Attributes:
        steps: The time steps shown, from 1.
        width: Width of a picture on the screen, in CSS pixels.
        pictures: A picture for each class.
        colours: Names and colours of the legend.
        block_side: Side in sensor pixels of the squares drawn as one pixel.
        left_out: What is shown out of how much, in words; empty if nothing is left out.
    """

    steps: tuple[int, ...]
    width: float
    pictures: tuple[Picture, ...]
    colours: tuple[tuple[str, str], ...]
    block_side: int
    left_out: str


@dataclass(frozen=True)
class Recordings:
    """The event data.

    Attributes:
        dataset: Name of the data set.
        time_steps: Frames of a sample.
        equal_counts: Whether frames hold equally many events, rather than last equally long.
        notes: Each note on the data, after the splits it is about.
        frames: Example frames; None if event_examples.npz is missing.
        splits: The splits whose events per sample are known, by name.
    """

    template: ClassVar[str] = "recordings.html.j2"
    dataset: str
    time_steps: int
    equal_counts: bool
    notes: tuple[tuple[str, str], ...]
    frames: Frames | None
    splits: dict[str, EventSplit]


def recordings(report: Report, examples: EventExamples | None) -> Recordings | None:
    """Prepares the event data; None if the data are images."""
    events = report.events
    if events is None:
        return None
    settings = report.provenance.config
    return Recordings(
        dataset=settings["data"]["dataset"],
        time_steps=settings["network"]["time_steps"],
        equal_counts=settings["data"]["bin_by"] == "count",
        notes=tuple((_of_splits(events, names), note) for note, names in events.splits_by_note().items()),
        frames=_frames(examples) if examples else None,
        splits={name: split for name, split in events.splits.items() if split.events_per_sample},
    )


def _of_splits(events: Events, names: Sequence[str]) -> str:
    return "All splits:" if len(names) == len(events.splits) else f"{', '.join(names)}:"


def _frames(examples: EventExamples) -> Frames:
    """A picture per class, in it a frame per time step."""
    num_classes, num_steps, _, height, width = examples.samples.shape
    steps = np.unique(np.linspace(0, num_steps - 1, min(num_steps, _MOST_STEPS)).round().astype(int))
    pictures = [frames_picture(sample[steps]) for sample in examples.samples[:_MOST_CLASSES]]
    return Frames(
        steps=tuple(int(step) + 1 for step in steps),
        width=_screen_width(pictures[0].width // len(steps)) * len(steps),
        pictures=tuple(map(_picture, examples.class_names, pictures)),
        colours=_COLOURS,
        block_side=block_side(height, width),
        left_out=_left_out(len(pictures), num_classes, len(steps), num_steps),
    )


def _picture(class_name: str, picture: Image.Image) -> Picture:
    return Picture(class_name, png_data_url(picture), picture.width, picture.height)


def _screen_width(frame_width: int) -> float:
    """Width of a frame in CSS pixels: a multiple of half its own, so that its pixels stay even."""
    return frame_width * max(0.5, 2 * _FRAME_WIDTH // frame_width / 2)


def _left_out(num_shown: int, num_classes: int, num_steps_shown: int, num_steps: int) -> str:
    texts = []
    if num_shown < num_classes:
        texts.append(f"the first {num_shown} of {num_classes} classes")
    if num_steps_shown < num_steps:
        texts.append(f"{num_steps_shown} of {num_steps} time steps")
    return f"Shown are {' and '.join(texts)}." if texts else ""
