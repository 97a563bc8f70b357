"""Hours and cost of each stage of a config on several workers, estimated from measured speeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pipeline.bench.evaluation import evolved_generations, groups_of
from pipeline.bench.subject import Subject
from snn.datasets import DATASETS
from snn.search_space import count_block_runs

NUM_WORKERS = (1, 8, 64)

ASSUMED = (
    "A worker is a machine like this one with all its threads. Hours are samples times epochs (or "
    "candidates) divided by the measured speed of this config's network. The super-network trains on one "
    "worker, however many there are, and is paid for one. A generation is divided evenly and ends with its "
    "slowest group; candidates evaluated ahead of the search are not counted. The whole space is divided "
    "into one group per worker. Startup, reading data and retraining are not included. Measured on samples "
    "of {shape}."
)


@dataclass(frozen=True)
class Speeds:
    """Speeds that the other sections measured; None if the section did not run.

    Attributes:
        train_images_per_second: Throughput of the super-network's training.
        generation_seconds_per_run: Seconds per block run and sample, within a generation.
        space_seconds_per_run: Seconds per block run and sample, within the whole space.
    """

    train_images_per_second: float | None
    generation_seconds_per_run: float | None
    space_seconds_per_run: float | None


@dataclass(frozen=True)
class StageHours:
    """One stage on `num_workers` workers; cost in the currency of the price, None without a price."""

    stage: str
    num_workers: int
    hours: float
    cost: float | None


def estimate_hours(subject: Subject, speeds: Speeds, price: float | None) -> list[StageHours]:
    """Hours of the super-network's training and of both searches, for 1, 8 and 64 workers.

    Args:
        subject: What was measured; the estimate is for its config.
        speeds: Measured speeds; a stage whose speed is None is omitted.
        price: Of one worker for one hour.

    Returns:
        Nothing if the number of samples is unknown; `assumptions` then says why.
    """
    if _why_unknown(subject):
        return []
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
    """What the estimate assumes; `unknown` says why there is no estimate, None if there is one."""
    unknown = _why_unknown(subject)
    num_train, num_val = (None, None) if unknown else _num_samples(subject)
    shape = "x".join(str(size) for size in subject.val.samples.shape[1:])
    return {
        "num_train": num_train,
        "num_val": num_val,
        "unknown": unknown,
        "assumed": ASSUMED.format(shape=shape),
    }


def _why_unknown(subject: Subject) -> str | None:
    """Why the number of samples is unknown; None if it is known."""
    data = subject.config.data
    if not subject.generated:
        return None
    if DATASETS[data.dataset].num_train is None:
        what = f"recordings in '{data.dataset}'"
    elif data.is_events and data.window_ms:
        what = f"windows of {data.window_ms:g} ms in '{data.dataset}'"
    else:
        return None
    return (
        f"No estimate of hours: the number of {what} is known only after reading them. To measure a run on "
        f"its own data, pass --supernet RUN_DIR."
    )


def _num_samples(subject: Subject) -> tuple[int, int]:
    """Samples of D_train, and those of D_val on which candidates are scored."""
    if not subject.generated:
        return len(subject.train), len(subject.val)
    data, search = subject.config.data, subject.config.search
    total = DATASETS[data.dataset].num_train
    assert total is not None
    total = min(total, data.max_train_samples or total)
    num_train = math.floor(total * data.train_fraction)
    num_val = total - num_train
    return num_train, min(num_val, search.max_val_samples or num_val)


def _slowest_group(architectures: Any, num_workers: int) -> int:
    return max(count_block_runs(group)[0] for group in groups_of(architectures, num_workers))
