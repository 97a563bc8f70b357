"""Samples of event frames, collected on the disk before they become one file."""

from __future__ import annotations

import errno
import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snn.data.camera.frames import frame_shape, frames_from_events, windows_of
from snn.data.camera.recordings import Events
from snn.data.samples import LabelledSamples
from snn.options import FrameSettings

_LARGEST_SAMPLE = 256 << 20  # bytes; counting its events takes eight times as much memory


class FrameStore:
    """Collects samples in an unnamed temporary file, which vanishes with the process.

    Args:
        sensor_size: (W, H) in pixels.
        settings: How events become frames.
        directory: Folder of the temporary file.

    Raises:
        ValueError: A crop larger than the sensor, or samples of more than 256 MiB.
    """

    def __init__(self, sensor_size: tuple[int, int], settings: FrameSettings, directory: Path) -> None:
        self._sensor_size = sensor_size
        self._settings = settings
        self._shape = frame_shape(sensor_size, settings)
        self._check_shape()
        self._directory = directory
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115, closed when it is garbage-collected
        self.labels: list[int] = []
        self.groups: list[int] = []

    def reserve(self, num_samples: int) -> None:
        """Checks that the disk has room for this many samples twice: here and in the Arrow file.

        Raises:
            OSError: It has not.
        """
        needed, free = 2 * num_samples * math.prod(self._shape), shutil.disk_usage(self._directory).free
        if needed > free:
            raise OSError(
                errno.ENOSPC,
                f"Too little space for about {num_samples:,} samples of {list(self._shape)}: building them "
                f"needs {needed / 2**20:,.0f} MiB, {free / 2**20:,.0f} MiB are free. {self._remedies()}, or "
                f"free some space or set --data.root to a larger disk",
                str(self._directory),
            )

    def windows(self, events: Events) -> list[Events]:
        """The events of each sample that a recording yields: sorted, denoised, cropped and cut."""
        return windows_of(events, sensor_size=self._sensor_size, settings=self._settings)

    def add(self, windows: list[Events], label: int, group: int) -> None:
        """Stores the frames of the windows of a recording.

        Raises:
            OSError: The disk is full, or fails.
        """
        for window in windows:
            frames = frames_from_events(window, sensor_size=self._sensor_size, settings=self._settings)
            try:
                self._file.write(frames.data)
                self._file.flush()
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"Sample {len(self.labels):,} of {list(self._shape)} cannot be stored: {error.strerror}. "
                    f"{self._remedies()}, or free some space or set --data.root to a larger disk",
                    str(self._directory),
                ) from error
            self.labels.append(label)
            self.groups.append(group)

    def finish(self, class_names: tuple[str, ...], notes: tuple[str, ...]) -> LabelledSamples:
        """All samples, as a view of the temporary file.

        Raises:
            ValueError: There is none.
        """
        if not self.labels:
            raise ValueError("No recording is as long as data.window_ms; use shorter windows, or 0 for none.")
        samples: NDArray[np.uint8] = np.memmap(
            self._file, np.uint8, "r", shape=(len(self.labels), *self._shape)
        )
        labels, groups = np.array(self.labels, np.int64), np.array(self.groups, np.int64)
        return LabelledSamples.from_arrays(
            samples, labels, class_names, groups=groups, notes=notes, sensor_size=self._sensor_size
        )

    def _check_shape(self) -> None:
        T, _, h, w = self._shape
        size = math.prod(self._shape)
        if size > _LARGEST_SAMPLE:
            raise ValueError(
                f"A sample of {T:,} frames of {w:,} x {h:,} pixels would take {size / 2**20:,.0f} MiB, at "
                f"most {_LARGEST_SAMPLE >> 20} MiB are possible. {self._remedies()}."
            )

    def _remedies(self) -> str:
        W, H = self._sensor_size
        return (
            f"The sensor has {W:,} x {H:,} pixels: set data.sensor_size if this is wrong, otherwise raise "
            f"data.downsample, set data.crop or lower network.time_steps"
        )
