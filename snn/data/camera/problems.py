"""Recordings of a data set that are defective, and the notes that say so."""

from __future__ import annotations

from dataclasses import dataclass, field

from snn.data.notes import listed


@dataclass
class Problems:
    """Names of defective recordings, with a reason where there is more to say."""

    unreadable: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    too_short: list[str] = field(default_factory=list)
    backwards: list[str] = field(default_factory=list)
    outliers: list[str] = field(default_factory=list)

    def notes(self, num_recordings: int) -> tuple[str, ...]:
        """A sentence on each kind of defect that there is."""
        kinds = (
            (self.unreadable, "could not be read and were left out"),
            (self.empty, "hold no event and were left out"),
            (self.too_short, "are shorter than one window, or empty after denoising and crop: left out"),
            (self.backwards, "have times that go backwards; their events were sorted"),
            (
                self.outliers,
                "hold events outside the sensor, left out (set data.sensor_size if it is larger)",
            ),
        )
        return tuple(
            f"{len(names):,} of {num_recordings:,} recordings {what}: {listed(names)}."
            for names, what in kinds
            if names
        )
