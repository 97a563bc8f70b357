"""Event-camera data sets as frames: recordings are read, cut, counted and stored once per node."""

# n samples, T time steps, H height, W width

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from snn.data.camera.aedat import aedat_sensor
from snn.data.camera.files import Recordings, download_recordings, find_recordings
from snn.data.camera.measure import measure_sensor
from snn.data.camera.problems import Problems
from snn.data.camera.recordings import MAX_SIDE, Events, UnreadableRecording, read_recording, short_name
from snn.data.camera.store import FrameStore
from snn.data.images import load_images
from snn.data.samples import LabelledSamples, cache_directory, cached_samples, content_key
from snn.datasets import EventDataset, Split, look_up_dataset
from snn.options import FrameSettings

logger = logging.getLogger(__name__)

_READER_VERSION = 3  # increment when the same files and settings give other samples
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

    The notes count and name recordings that cannot be read, hold no events, are shorter than one window,
    have times that go backwards (their events are sorted) or events outside a measured sensor (these are left
    out, with a warning). They state the sensor of "recordings".

    Args:
        dataset: Name of an event data set in `snn.datasets.DATASETS`.
        split: As the `split` of its entry says.
        root: The folder above the data set's folder, or that folder itself.
        settings: How recordings become samples.
        download: Download missing recordings into `root` through tonic, if it has the data set.
        sensor_size: (W, H) in pixels; for "recordings" only. None takes that of the camera if all files are
            AEDAT 2.0 of one, else it is measured from all events, training and test (`measure_sensor`).

    Returns:
        Samples; the group of each is the index of its recording within the split, so the windows of one
        recording share a group.

    Raises:
        FileNotFoundError: There is no recording of this split.
        ValueError: An unknown data set, an impossible sensor, a crop larger than the sensor, samples of more
            than 256 MiB, or no readable recording.
        OSError: The download failed, or the disk is too full for the samples.
    """
    entry = look_up_dataset(dataset, EventDataset)
    _check_sensor_size(sensor_size)
    if entry.sensor_size is not None and sensor_size not in (None, entry.sensor_size):
        raise ValueError(
            f"data.sensor_size is for your own recordings; that of {dataset} is {entry.sensor_size}, got "
            f"{sensor_size}. Leave it out."
        )
    if dataset == "digits_events":
        return _load_digits(entry, split, root, settings)
    recordings = _find(dataset, split, root, download)
    sources = [recordings]
    if entry.sensor_size is not None:
        sensor = _Sensor(entry.sensor_size)
    else:
        sources.append(find_recordings(dataset, "test" if split == "train" else "train", root))
        sensor = _own_sensor(sources, sensor_size)
    key = _key(dataset, split, settings, sensor.size, [_facts(source) for source in sources])
    directory = cache_directory(root, key)

    def build() -> LabelledSamples:
        return _build(recordings, _measured(sensor, sources), settings, directory, f"Split: {entry.split}.")

    return cached_samples(directory, key, build)


@dataclass(frozen=True)
class _Sensor:
    """The sensor of a data set.

    Attributes:
        size: (W, H) in pixels; None if it is still to be measured.
        origin: Where the size of somebody's own recordings comes from; empty for other data sets.
        is_measured: Whether events outside it are outliers, rather than a sign of another sensor.
    """

    size: tuple[int, int] | None
    origin: str = ""
    is_measured: bool = False


def _check_sensor_size(size: tuple[int, int] | None) -> None:
    if size is not None and not (
        len(size) == 2 and all(type(side) is int and 1 <= side <= MAX_SIDE for side in size)
    ):
        raise ValueError(
            f"data.sensor_size must be width and height in pixels, each from 1 to {MAX_SIDE:,}, got {size}."
        )


def _own_sensor(sources: Iterable[Recordings], stated: tuple[int, int] | None) -> _Sensor:
    if stated is not None:
        return _Sensor(stated, "as data.sensor_size says")
    files = [file for source in sources for file in source.files]
    if all(file.suffix == ".aedat" for file in files) and len(sizes := _named_sensors(files)) == 1:
        return _Sensor(sizes.pop(), "that of the camera that the AEDAT 2.0 files name")
    return _Sensor(None, "measured from all recordings, training and test", is_measured=True)


def _named_sensors(files: Iterable[Path]) -> set[tuple[int, int]]:
    """Sizes of the sensors that AEDAT 2.0 recordings name; those that cannot be read are reported later."""
    sizes = set()
    for file in files:
        with suppress(ValueError, OSError):
            sizes.add(aedat_sensor(file))
    return sizes


def _measured(sensor: _Sensor, sources: Iterable[Recordings]) -> _Sensor:
    return replace(sensor, size=sensor.size or measure_sensor(_all_events(sources)))


def _all_events(sources: Iterable[Recordings]) -> Iterator[Events]:
    for recordings in sources:
        for file in _progress(recordings.files, "Measuring the sensor"):
            with suppress(UnreadableRecording):  # reported when the recordings are read
                yield read_recording(file, recordings.form)


def _load_digits(entry: EventDataset, split: Split, root: Path, settings: FrameSettings) -> LabelledSamples:
    from snn.data.camera.sensor import simulated_digits

    digits = load_images("digits", split, root=root)
    size = entry.sensor_size
    assert size is not None
    key = _key(entry.name, split, settings, size, [digits.fingerprint])
    directory = cache_directory(root, key)

    def build() -> LabelledSamples:
        store = FrameStore(size, settings, directory)
        store.reserve(len(digits))
        for group, events in enumerate(simulated_digits(digits.samples)):
            store.add(store.windows(events), int(digits.labels[group]), group)
        return store.finish(digits.class_names, (_SIMULATED,))

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
    return [(str(file.relative_to(recordings.folder)), *_size_and_time(file)) for file in recordings.files]


def _size_and_time(file: Path) -> tuple[int, int]:
    """In bytes and ns; zeros for a file that is listed but cannot be reached, as behind a dangling link."""
    try:
        stat = file.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def _build(
    recordings: Recordings, sensor: _Sensor, settings: FrameSettings, directory: Path, note: str
) -> LabelledSamples:
    assert sensor.size is not None
    store = FrameStore(sensor.size, settings, directory)
    problems = Problems()
    whole = settings.window_ms == 0
    if whole:
        store.reserve(len(recordings.files))
    for group, file in enumerate(_progress(recordings.files, "Reading recordings")):
        events = _read(file, recordings.form, sensor, problems)
        if events is None:
            continue
        windows = store.windows(events)
        if not windows:
            problems.too_short.append(short_name(file))
        elif not whole and not store.labels:  # equally many windows per byte
            num_bytes = sum(_size_and_time(path)[0] for path in recordings.files)
            store.reserve(round(len(windows) * num_bytes / file.stat().st_size))
        store.add(windows, recordings.labels[group], group)
    defects = problems.notes(len(recordings.files))
    if not store.labels:
        raise ValueError(
            f"None of the {len(recordings.files):,} recordings in {recordings.folder} yields a sample: "
            f"{' '.join(defects)} Check the files, and data.window_ms and data.crop."
        )
    notes = [note, *_sensor_notes(sensor), *defects]
    if problems.unreadable or problems.outliers:
        logger.warning("%s: %s", recordings.folder, " ".join(notes[1:]))
    if not whole:
        num_used = len(set(store.groups))
        notes.append(f"{len(store.labels):,} windows of {settings.window_ms:g} ms, {num_used:,} recordings.")
    return store.finish(recordings.class_names, tuple(notes))


def _sensor_notes(sensor: _Sensor) -> list[str]:
    assert sensor.size is not None
    return [f"Sensor: {sensor.size[0]} x {sensor.size[1]} pixels, {sensor.origin}."] if sensor.origin else []


def _read(file: Path, form: str | None, sensor: _Sensor, problems: Problems) -> Events | None:
    """The events of a recording; None, with a problem noted, if there are none."""
    name = short_name(file)
    try:
        events = _on_sensor(read_recording(file, form), name, sensor, problems)
    except UnreadableRecording as error:
        problems.unreadable.append(str(error))
        return None
    if len(events) == 0:
        problems.empty.append(name)
        return None
    if np.any(np.diff(events["t"]) < 0):
        problems.backwards.append(name)
    return events


def _on_sensor(events: Events, name: str, sensor: _Sensor, problems: Problems) -> Events:
    """The events without those outside a measured sensor, which are noted."""
    assert sensor.size is not None
    (W, H), x, y = sensor.size, events["x"], events["y"]
    inside = (x < W) & (y < H)
    if inside.all():
        return events
    if not sensor.is_measured or not inside.any():
        raise UnreadableRecording(
            f"{name} (event at x = {x.max()}, y = {y.max()} or beyond lies outside the sensor of {W} x {H})"
        )
    num = len(events) - int(inside.sum())
    problems.outliers.append(f"{name} ({num:,} of {len(events):,}, up to x = {x.max()}, y = {y.max()})")
    return events[inside]


def _progress(files: tuple[Path, ...], what: str) -> Iterator[Path]:
    """On a terminal, shows progress if it takes over two seconds."""
    from tqdm import tqdm

    yield from tqdm(files, what, delay=2, leave=False, disable=None)
