"""From measured speeds to the hours and the cost of each stage of a config on some workers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pipeline.bench.evaluation import evolved_generations, groups_of
from pipeline.bench.subject import Subject
from snn.engines.trie import count_block_runs

NUM_WORKERS = (1, 8, 64)

# Training samples of the data sets, as their publishers or readers count them.
_NUM_TRAIN = {
    "digits": 1437, "digits_events": 1437, "cifar10": 50_000, "cifar100": 50_000, "svhn": 73_257,
    "tiny_imagenet": 100_000, "nmnist": 60_000, "cifar10_dvs": 9_000, "dvs128_gesture": 1_077,
}  # fmt: skip

ASSUMED = (
    "A worker is a machine like this one, all its threads. Hours are samples times epochs (or candidates) by "
    "the measured speed of this config's network. The super-network trains on one worker, however many "
    "there are, and is paid for one. A generation is shared out evenly and is over when its slowest group "
    "is; extra candidates ahead of the search are left out. The whole space is cut into as many groups. "
    "Starting up, reading data and retraining are not in it. Measured on samples of {shape}."
)


@dataclass(frozen=True)
class Speeds:
    """What the other sections measured.

    Attributes:
        train_images_per_second: Of the super-network's training.
        generation_seconds_per_run: Seconds of a block run per sample, within a generation.
        space_seconds_per_run: Seconds of a block run per sample, within the whole space.
    """

    train_images_per_second: float | None
    generation_seconds_per_run: float | None
    space_seconds_per_run: float | None


@dataclass(frozen=True)
class StageHours:
    """One stage on some workers; cost in the unit of the price, None without a price."""

    stage: str
    num_workers: int
    hours: float
    cost: float | None


def estimate_hours(subject: Subject, speeds: Speeds, price: float | None) -> list[StageHours]:
    """Hours of the super-network's training and of both searches, for 1, 8 and 64 workers.

    Args:
        subject: What was measured; its config is what is estimated.
        speeds: Measured speeds; a stage whose speed is None is left out.
        price: Of one worker for one hour.
    """
    num_train, num_val = _num_samples(subject)
    generations = evolved_generations(subject)
    space = list(subject.config.network.search_space())
    stages: list[StageHours] = []

    def add(stage: str, num_workers: int, seconds: float, paid: int) -> None:
        hours = seconds / 3600
        stages.append(StageHours(stage, num_workers, hours, None if price is None else hours * paid * price))

    for num_workers in NUM_WORKERS:
        if speeds.train_images_per_second:
            seconds = subject.config.supernet.epochs * num_train / speeds.train_images_per_second
            add("super-network", num_workers, seconds, 1)
        if speeds.generation_seconds_per_run:
            runs = sum(_slowest_group(generation, num_workers) for generation in generations)
            seconds = num_val * runs * speeds.generation_seconds_per_run
            add("evolution, 400 candidates", num_workers, seconds, num_workers)
        if speeds.space_seconds_per_run:
            seconds = num_val * _slowest_group(space, num_workers) * speeds.space_seconds_per_run
            add(f"whole space, {len(space):,}", num_workers, seconds, num_workers)
    return stages


def assumptions(subject: Subject) -> dict[str, Any]:
    """What the estimate takes for granted."""
    num_train, num_val = _num_samples(subject)
    shape = "x".join(str(size) for size in subject.val.samples.shape[1:])
    return {"num_train": num_train, "num_val": num_val, "assumed": ASSUMED.format(shape=shape)}


def _num_samples(subject: Subject) -> tuple[int, int]:
    """Samples of D_train and of D_val that a run of the config has; an unknown data set counts 10,000."""
    data, search = subject.config.data, subject.config.search
    total = _NUM_TRAIN.get(data.dataset, 10_000)
    total = min(total, data.max_train_samples or total)
    num_train = math.floor(total * data.train_fraction)
    num_val = total - num_train
    return num_train, min(num_val, search.max_val_samples or num_val)


def _slowest_group(architectures: Any, num_workers: int) -> int:
    return max(count_block_runs(group)[0] for group in groups_of(architectures, num_workers))
