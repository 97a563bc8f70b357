"""Benchmark of super-network training: steps on random paths, ours against the plain implementation."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from itertools import cycle

import numpy as np
import torch

from pipeline.bench.convolutions import fastest_convolutions
from pipeline.bench.plain import PlainTrainer, contiguous_copy, convolutions_of
from pipeline.bench.stock import stock_copy
from pipeline.bench.stopwatch import Comparison, SectionResult, alternate
from pipeline.bench.subject import CPU, Subject, training_samples
from pipeline.console import say
from snn.data.sample_set import SampleSet
from snn.model.network import SpikingNetwork
from snn.search_space import Architecture
from snn.training.memory import keep_freed_memory
from snn.training.trainer import Trainer

PLAIN_TRAINING_BATCH_SIZE = 96  # of the official code

_FLOOR_BATCH_SIZES = (8, 32, 96)


def bench_training(subject: Subject, *, quick: bool) -> SectionResult:
    """Throughput of training on the same random paths.

    Ours, the plain implementation, a network of stock parts over all time steps, and the convolutions forward
    and backward alone.
    """
    keep_freed_memory()  # as trainings do; the others gain from it too
    steps = 3 if quick else 6
    batch_size = subject.config.supernet.batch_size
    paths = subject.random_architectures(steps, seed=subject.config.seed)
    say(f"  choosing the fastest form of the convolutions of {steps} random paths")
    inputs, _ = subject.batches(1, 1)[0]
    convolutions = [c for path in paths for c in convolutions_of(subject.network, path, inputs)]
    floor = fastest_convolutions(convolutions, batch_sizes=_FLOOR_BATCH_SIZES, backward=True)
    say(f"  {steps} steps on the same paths, in turns")
    plain_images, our_images = steps * PLAIN_TRAINING_BATCH_SIZE, steps * batch_size
    contestants = {
        "plain_96": _plain(subject, paths, training_samples(subject, plain_images)),
        "spikingjelly": _trained(
            stock_copy(subject.network), subject, paths, training_samples(subject, our_images), batch_size
        ),
        "ours": _trained(subject.network, subject, paths, training_samples(subject, our_images), batch_size),
        "convolutions": floor.run,
    }
    images = {
        "plain_96": plain_images,
        "spikingjelly": our_images,
        "ours": our_images,
        "convolutions": steps * floor.batch_size,
    }
    timings = alternate(contestants, rounds=2 if quick else 4, warm_up=not quick, longest=30 if quick else 90)
    speed = {name: images[name] / timing.median for name, timing in timings.items()}
    return SectionResult(
        (
            Comparison("training / plain, batch 96", "img/s", speed["ours"], speed["plain_96"], 2.2, True),
            Comparison("training / spikingjelly", "img/s", speed["ours"], speed["spikingjelly"], 2.5, True),
            Comparison(
                "training / convolutions fwd + bwd",
                "ms/img",
                1000 / speed["ours"],
                1000 / speed["convolutions"],
                1.0,
            ),
        ),
        {
            "images_per_second": speed,
            "spread": {name: timing.spread for name, timing in timings.items()},
            "batch_size": batch_size,
            "paths": [str(path) for path in paths],
            "convolutions": str(floor),
        },
    )


def _trained(
    network: SpikingNetwork,
    subject: Subject,
    paths: Sequence[Architecture],
    samples: SampleSet,
    batch_size: int,
) -> Callable[[], object]:
    path = cycle(paths)
    trainer = Trainer(
        copy.deepcopy(network),
        samples,
        lambda _rng: (next(path),),
        epochs=subject.config.supernet.epochs,
        batch_size=batch_size,
        learning_rate=subject.config.supernet.learning_rate,
        seed=subject.config.seed,
        device=CPU,
    )
    return lambda: list(trainer.train_epoch())


def _plain(subject: Subject, paths: Sequence[Architecture], samples: SampleSet) -> Callable[[], object]:
    trainer = PlainTrainer(
        contiguous_copy(subject.network), learning_rate=subject.config.supernet.learning_rate
    )
    augmentation = torch.Generator().manual_seed(subject.config.seed)
    order = random.Random(subject.config.seed)

    def epoch() -> None:
        shuffled = np.array(order.sample(list(samples.indices), len(samples)))
        for path, indices in zip(paths, np.array_split(shuffled, len(paths)), strict=True):
            trainer.step(*samples.batch(indices, CPU, augmentation), path)

    return epoch
