"""Event-camera data sets as frames: recordings are read, cut, counted and stored once per node."""

# n samples, T time steps, H height, W width

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snn.data.camera.files import Recordings, download_recordings, find_recordings
from snn.data.camera.frames import FrameSettings, clean_events, cut_windows, frame_shape, frames_from_events
from snn.data.camera.recordings import Events, UnreadableRecording, read_recording
from snn.data.images import load_images
from snn.data.samples import LabelledSamples, cache_directory, cached_samples, content_key
from snn.datasets import EventDataset, Split, look_up_dataset

_READER_VERSION = 2  # increment when the same files and settings give other samples
_NAMES_IN_A_NOTE = 20
_SIMULATED = (
    "The events are SIMULATED: scikit-learn's digits seen by a model of an event camera that makes three "
    "saccades in front of them. No event camera recorded them."
)


def load_events(
    dataset: str,
    split: Split,
    *,
    root: Path,
    settings: FrameSettings,
    download: bool = False,
    sensor_size: tuple[int, int] | None = None,
) -> LabelledSamples:
    """Loads one split of a data set as counts of events, uint8 [n, T, 2, H, W].

    The first call converts the recordings into one Arrow file (`snn.data.samples`); later calls map it into
    memory. Recordings are read one at a time and their frames stored in a temporary file beside the Arrow
    file, so a data set may be larger than memory; while it is built, the disk holds the samples twice.

    The notes count and name recordings that cannot be read, hold no events, are shorter than one window, or
    have times that go backwards (their events are sorted).

    Args:
        dataset: Name of an event data set in `snn.datasets.DATASETS`.
        split: As the `split` of its entry says.
        root: The folder above the data set's folder, or that folder itself.
        settings: How recordings become samples.
        download: Download missing recordings into `root` through tonic, if it has the data set.
        sensor_size: (W, H) in pixels; for "recordings" only. None takes 128 x 128 if all files are AEDAT
            2.0, else the largest column and row of all events, training and test.

    Returns:
        Samples; the group of each is the index of its recording within the split, so the windows of one
        recording share a group.

    Raises:
        FileNotFoundError: There is no recording of this split.
        ValueError: An unknown data set, a crop larger than the sensor, or no readable recording.
        OSError: The download failed, or the disk is too full for the samples.
    """
    entry = look_up_dataset(dataset, EventDataset)
    if entry.sensor_size is not None and sensor_size not in (None, entry.sensor_size):
        raise ValueError(
            f"data.sensor_size is for your own recordings; that of {dataset} is {entry.sensor_size}, got "
            f"{sensor_size}. Leave it out."
        )
    if dataset == "digits_events":
        return _load_digits(entry, split, root, settings)
    recordings = _find(dataset, split, root, download)
    known_size = entry.sensor_size or sensor_size
    sources = [recordings]
    if known_size is None:
        sources.append(find_recordings(dataset, "test" if split == "train" else "train", root))
        if all(file.suffix == ".aedat" for source in sources for file in source.files):
            known_size = (128, 128)
    key = _key(dataset, split, settings, known_size, [_facts(source) for source in sources])
    directory = cache_directory(root, key)

    def build() -> LabelledSamples:
        size = known_size or _measured_size(sources)
        return _build(recordings, size, settings, directory, f"Split: {entry.split}.")

    return cached_samples(directory, key, build)


def _load_digits(entry: EventDataset, split: Split, root: Path, settings: FrameSettings) -> LabelledSamples:
    from snn.data.camera.sensor import simulated_digits

    digits = load_images("digits", split, root=root)
    size = entry.sensor_size
    assert size is not None
    key = _key(entry.name, split, settings, size, [digits.fingerprint])
    directory = cache_directory(root, key)

    def build() -> LabelledSamples:
        frames = _Frames(frame_shape(size, settings), directory)
        frames.reserve(len(digits))
        for group, events in enumerate(simulated_digits(digits.samples)):
            frames.add(_windows(events, size, settings), size, settings, int(digits.labels[group]), group)
        return frames.finish(digits.class_names, (_SIMULATED,))

    return cached_samples(directory, key, build)


def _find(dataset: str, split: Split, root: Path, download: bool) -> Recordings:
    try:
        return find_recordings(dataset, split, root)
    except FileNotFoundError:
        if not download:
            raise
    download_recordings(dataset, split, root)
    return find_recordings(dataset, split, root)


def _key(
    dataset: str, split: Split, settings: FrameSettings, size: tuple[int, int] | None, facts: list[object]
) -> str:
    return f"{dataset}-{split}-{content_key(_READER_VERSION, asdict(settings), size, facts)}"


def _facts(recordings: Recordings) -> object:
    """What identifies the content of the files: name, size and time of each."""
    stats = [(file, file.stat()) for file in recordings.files]
    return [
        (str(file.relative_to(recordings.folder)), stat.st_size, stat.st_mtime_ns) for file, stat in stats
    ]


def _measured_size(sources: Iterable[Recordings]) -> tuple[int, int]:
    """The smallest sensor that contains all readable events."""
    width = height = 1
    for recordings in sources:
        for file in _progress(recordings.files, "Measuring the sensor"):
            try:
                events = read_recording(file, recordings.form)
            except UnreadableRecording:
                continue  # reported when the recordings are read
            if len(events):
                width, height = (
                    max(width, int(events["x"].max()) + 1),
                    max(height, int(events["y"].max()) + 1),
                )
    return width, height


def _build(
    recordings: Recordings,
    size: tuple[int, int],
    settings: FrameSettings,
    directory: Path,
    note: str,
) -> LabelledSamples:
    frames = _Frames(frame_shape(size, settings), directory)
    problems = _Problems()
    whole = settings.window_ms == 0
    if whole:
        frames.reserve(len(recordings.files))
    for group, file in enumerate(_progress(recordings.files, "Reading recordings")):
        events = _read(file, recordings.form, size, problems)
        if events is None:
            continue
        windows = _windows(events, size, settings)
        if not windows:
            problems.too_short.append(_name(file))
        elif not whole and len(frames.labels) == 0:
            total = sum(path.stat().st_size for path in recordings.files)
            frames.reserve(round(len(windows) * total / file.stat().st_size))  # equally many windows per byte
        frames.add(windows, size, settings, recordings.labels[group], group)
    if not frames.labels:
        raise ValueError(
            f"None of the {len(recordings.files):,} recordings in {recordings.folder} yields a sample: "
            f"{' '.join(problems.notes(len(recordings.files)))} Check the files, and data.window_ms and "
            f"data.crop."
        )
    notes = [note, *problems.notes(len(recordings.files))]
    if not whole:
        num_used = len(set(frames.groups))
        notes.append(f"{len(frames.labels):,} windows of {settings.window_ms:g} ms, {num_used:,} recordings.")
    return frames.finish(recordings.class_names, tuple(notes))


def _read(file: Path, form: str | None, size: tuple[int, int], problems: _Problems) -> Events | None:
    """The events of a recording; None, with a problem noted, if there are none."""
    try:
        events = read_recording(file, form)
        if len(events) and (events["x"].max() >= size[0] or events["y"].max() >= size[1]):
            raise UnreadableRecording(
                f"{_name(file)} (event at x = {events['x'].max()}, y = {events['y'].max()} or beyond lies "
                f"outside the sensor of {size[0]} x {size[1]})"
            )
    except UnreadableRecording as error:
        problems.unreadable.append(str(error))
        return None
    if len(events) == 0:
        problems.empty.append(_name(file))
        return None
    if np.any(np.diff(events["t"]) < 0):
        problems.backwards.append(_name(file))
    return events


def _windows(events: Events, size: tuple[int, int], settings: FrameSettings) -> list[Events]:
    return cut_windows(clean_events(events, sensor_size=size, settings=settings), settings.window_ms)


def _name(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


def _progress(files: tuple[Path, ...], what: str) -> Iterator[Path]:
    """On a terminal, shows progress if it takes over two seconds."""
    from tqdm import tqdm

    yield from tqdm(files, what, delay=2, leave=False, disable=None)


@dataclass
class _Problems:
    """Names of defective recordings."""

    unreadable: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    too_short: list[str] = field(default_factory=list)
    backwards: list[str] = field(default_factory=list)

    def notes(self, num_recordings: int) -> tuple[str, ...]:
        kinds = (
            (self.unreadable, "could not be read and were left out"),
            (self.empty, "hold no event and were left out"),
            (self.too_short, "are shorter than one window, or empty after denoising and crop: left out"),
            (self.backwards, "have times that go backwards; their events were sorted"),
        )
        return tuple(
            f"{len(names):,} of {num_recordings:,} recordings {what}: {_listed(names)}."
            for names, what in kinds
            if names
        )


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMES_IN_A_NOTE
    return ", ".join(names[:_NAMES_IN_A_NOTE]) + (f" and {more:,} more" if more > 0 else "")


class _Frames:
    """Collects samples in an unnamed temporary file of `directory`, which vanishes with the process."""

    def __init__(self, shape: tuple[int, int, int, int], directory: Path) -> None:
        self._shape = shape
        self._directory = directory
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115, closed when it is garbage-collected
        self.labels: list[int] = []
        self.groups: list[int] = []

    def reserve(self, num_samples: int) -> None:
        """Checks that the disk has room for this many samples twice: here and in the Arrow file."""
        needed, free = 2 * num_samples * int(np.prod(self._shape)), shutil.disk_usage(self._directory).free
        if needed > free:
            raise OSError(
                errno.ENOSPC,
                f"Too little space for about {num_samples:,} samples of {list(self._shape)}: building them "
                f"needs {needed / 2**20:,.0f} MiB, {free / 2**20:,.0f} MiB are free. Free some space, raise "
                f"data.downsample, lower data.time_steps, or set --data.root to a larger disk",
                str(self._directory),
            )

    def add(
        self, windows: list[Events], size: tuple[int, int], settings: FrameSettings, label: int, group: int
    ) -> None:
        to_frames = partial(frames_from_events, sensor_size=size, settings=settings)
        for window in windows:
            self._file.write(to_frames(window).data)
        self.labels += [label] * len(windows)
        self.groups += [group] * len(windows)

    def finish(self, class_names: tuple[str, ...], notes: tuple[str, ...]) -> LabelledSamples:
        if not self.labels:
            raise ValueError("No recording is as long as data.window_ms; use shorter windows, or 0 for none.")
        self._file.flush()
        samples: NDArray[np.uint8] = np.memmap(
            self._file, np.uint8, "r", shape=(len(self.labels), *self._shape)
        )
        labels, groups = np.array(self.labels, np.int64), np.array(self.groups, np.int64)
        return LabelledSamples.from_arrays(samples, labels, class_names, groups=groups, notes=notes)
