"""The report's section on event-camera data: example frames, events per sample, notes of the data."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline import formats as fmt
from pipeline.report.frames import (
    OFF_COLOUR,
    ON_COLOUR,
    block_side,
    frames_picture,
    mixed_colour,
    png_address,
)
from pipeline.report.page import callout, escape, note, section, table
from pipeline.storage.records import EventExamples

_MOST_STEPS = 8
_MOST_CLASSES = 12
_FRAME_WIDTH = 100  # of a frame on the screen, about, in CSS pixels
_QUANTITIES = ("min", "median", "mean", "max")


def simulated(report: dict[str, Any]) -> str:
    """Says that the data are simulated, for the headline; empty if no note of the data says so."""
    if report["events"] is None or not report["events"]["simulated"]:
        return ""
    texts = [text for text in _notes(report["events"]) if "SIMULATED" in text]
    return callout("Simulated data.", " ".join(texts))


def recordings(report: dict[str, Any], examples: EventExamples | None) -> str:
    """Example frames beside the events per sample; empty if the data are images."""
    events = report["events"]
    if events is None:
        return ""
    settings = report["provenance"]["config"]
    each = "lasts equally long" if settings["data"]["bin_by"] == "time" else "holds equally many events"
    intro = (
        f"Data set {settings['data']['dataset']}. A sample is {settings['network']['time_steps']} frames "
        "that count, at each pixel, ON events (it grew brighter) and OFF events (darker); each frame of a "
        f"sample {each}."
    )
    shown = _frames(examples) if examples else note("event_examples.npz is missing: no frames to show.")
    notes = "".join(callout(_of_splits(events, splits), text) for text, splits in _notes(events).items())
    body = f'<div class="beside"><div>{shown}</div><div>{_events_per_sample(events)}</div></div>'
    return section("The recordings", intro, notes + body)


def _frames(examples: EventExamples) -> str:
    """A row per class, a column per time step."""
    num_classes, num_steps, _, height, width = examples.samples.shape
    steps = np.unique(np.linspace(0, num_steps - 1, min(num_steps, _MOST_STEPS)).round().astype(int))
    rows = [
        (name, frames_picture(sample[steps]))
        for name, sample in zip(examples.class_names[:_MOST_CLASSES], examples.samples, strict=False)
    ]
    screen_width = _screen_width(rows[0][1].width // len(steps)) * len(steps)
    heads = "".join(f"<span>step {step + 1}</span>" for step in steps)
    pictures = "".join(
        f'<b>{escape(name)}</b><img src="{png_address(picture)}" width="{picture.width}" '
        f'height="{picture.height}" alt="Event frames of class {escape(name)}">'
        for name, picture in rows
    )
    return (
        f"<h3>One training sample of each class</h3>{_legend(block_side(height, width))}"
        f'<div class="scroll"><div class="frames" style="--width: {screen_width:g}px">'
        f'<i></i><div class="steps">{heads}</div>{pictures}</div></div>'
        + _left_out(len(rows), num_classes, len(steps), num_steps)
    )


def _screen_width(picture_width: int) -> float:
    """Width of a frame in CSS pixels: a multiple of half its own, so that its pixels stay even."""
    return picture_width * max(0.5, 2 * _FRAME_WIDTH // picture_width / 2)


def _legend(side: int) -> str:
    both = "#" + "".join(f"{part:02x}" for part in mixed_colour(1, 1))
    swatches = "".join(
        f'<span><i style="background: {colour}"></i>{name}</span>'
        for name, colour in (("ON", ON_COLOUR), ("OFF", OFF_COLOUR), ("both", both))
    )
    text = "stronger colour: more events"
    text += f"; {side} \u00d7 {side} sensor pixels drawn as one" if side > 1 else ""
    return f'<div class="legend">{swatches}<span>{text}</span></div>'


def _left_out(rows: int, num_classes: int, columns: int, num_steps: int) -> str:
    texts = []
    if rows < num_classes:
        texts.append(f"the first {rows} of {num_classes} classes")
    if columns < num_steps:
        texts.append(f"{columns} of {num_steps} time steps")
    return note(f"Shown are {' and '.join(texts)}.") if texts else ""


def _events_per_sample(events: dict[str, Any]) -> str:
    measured = {name: split for name, split in events["splits"].items() if split["events_per_sample"]}
    if not measured:
        return note("Events per sample were not recorded.")
    cells = [
        (
            escape(name) + f"<small>{escape(fmt.count(split['num_samples']))} samples</small>",
            *(escape(fmt.count(split["events_per_sample"].get(key))) for key in _QUANTITIES),
        )
        for name, split in measured.items()
    ]
    body = table(("split", *_QUANTITIES), cells)
    return f"<h3>Events per sample</h3>{body}{note('As the frames hold them, after crop and clipping.')}"


def _notes(events: dict[str, Any]) -> dict[str, list[str]]:
    """Each note of the data once, with the splits it is about."""
    notes: dict[str, list[str]] = {}
    for name, split in events["splits"].items():
        for text in split["notes"]:
            notes.setdefault(text, []).append(name)
    return notes


def _of_splits(events: dict[str, Any], splits: list[str]) -> str:
    return "All splits:" if len(splits) == len(events["splits"]) else f"{', '.join(splits)}:"
