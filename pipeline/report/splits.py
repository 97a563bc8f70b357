"""The splits of the data as environment.json describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DataSplit:
    """Facts about one split; what environment.json does not say is None or empty.

    Attributes:
        fingerprint: Hash of the data set it was taken from.
        num_samples: Its number of samples.
        samples_per_class: Number of samples of each class, by name.
        notes: Remarks on the data, such as files that could not be read.
        events_per_sample: Min, median, mean and max of the events per sample; None for images.
    """

    fingerprint: str | None
    num_samples: int | None
    samples_per_class: dict[str, int]
    notes: tuple[str, ...]
    events_per_sample: dict[str, float] | None


def read_splits(data: Any) -> dict[str, DataSplit]:
    """The splits by name; empty if environment.json is missing or holds none."""
    if not isinstance(data, dict):
        return {}
    return {name: _split(facts) for name, facts in data.items() if isinstance(facts, dict)}


def _split(facts: dict[str, Any]) -> DataSplit:
    return DataSplit(
        fingerprint=facts.get("fingerprint"),
        num_samples=facts.get("num_samples"),
        samples_per_class=facts.get("samples_per_class") or {},
        notes=tuple(facts.get("notes") or ()),
        events_per_sample=facts.get("events_per_sample"),
    )
