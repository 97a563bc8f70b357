"""The contestants of the benchmark of training: a round of each is a number of steps on the same paths.

Each is made in a process of its own (`pipeline.bench.own_process`), and has what its users have there. Ours
keeps freed memory, as the product's trainings do. The plain implementation and the network of stock parts
have glibc's defaults: nothing in torch or spikingjelly changes them. The convolutions, a bound from below,
keep freed memory too.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.bench.convolutions import ConvolutionsAlone, fastest_convolutions
from pipeline.bench.plain import PlainTrainer, contiguous_copy, convolutions_of
from pipeline.bench.stock import stock_copy
from pipeline.bench.subject import CPU, Subject, generated_data, repeated
from pipeline.config.tree import Config
from pipeline.data import RunData, load_data
from pipeline.networks import make_network
from snn.data.sample_set import SampleSet
from snn.engines.engine import as_tensors
from snn.model.network import SpikingNetwork
from snn.search_space import Architecture
from snn.training.memory import keep_freed_memory
from snn.training.trainer import Trainer

_FLOOR_BATCH_SIZES = (8, 32, 96)


@dataclass(frozen=True)
class Round:
    """What a contestant did in a round: the images it trained on, and in which form it did so."""

    num_images: int
    form: str = ""


@dataclass(frozen=True)
class Task:
    """What is trained, as values: another process builds network and samples from them.

    Attributes:
        config: Settings of network and training.
        num_generated: Images to generate; 0 loads the data of the config.
        weights: The network's state; empty leaves it as it is initialised with the config's seed.
        paths: One for each step of a round.
        batch_size: Images of a step.
    """

    config: Config
    num_generated: int
    weights: dict[str, NDArray]
    paths: tuple[Architecture, ...]
    batch_size: int

    def data(self) -> RunData:
        return (
            generated_data(self.config, self.num_generated) if self.num_generated else load_data(self.config)
        )

    def network(self, data: RunData) -> SpikingNetwork:
        network = make_network(self.config.network, data, seed=self.config.seed)
        if self.weights:
            network.load_state_dict(as_tensors(self.weights))
        return network

    def samples(self, data: RunData) -> SampleSet:
        """Those of a round."""
        return repeated(data.supernet_train(), len(self.paths) * self.batch_size)


def task_of(subject: Subject, num_steps: int, batch_size: int) -> Task:
    """Steps on random paths through the subject's network, with its weights."""
    return Task(
        config=subject.config,
        num_generated=len(subject.data.train.samples) if subject.generated else 0,
        weights={name: value.numpy() for name, value in subject.network.state_dict().items()},
        paths=tuple(subject.random_architectures(num_steps, seed=subject.config.seed)),
        batch_size=batch_size,
    )


def with_channels(task: Task, channels: int, num_steps: int, batch_size: int) -> Task:
    """The same with another C and initial weights, on the first of its paths."""
    network = replace(task.config.network, channels=channels)
    config = replace(task.config, network=network)
    return replace(task, config=config, weights={}, paths=task.paths[:num_steps], batch_size=batch_size)


def ours(task: Task) -> Callable[[], Round]:
    """The product's training, in a process like that of its trainings."""
    keep_freed_memory()
    data = task.data()
    return _trained(task, task.network(data), data)


def spikingjelly(task: Task) -> Callable[[], Round]:
    """The same with a network of stock parts over all time steps."""
    data = task.data()
    return _trained(task, stock_copy(task.network(data)), data)


def plain(task: Task) -> Callable[[], Round]:
    """The plain implementation."""
    data = task.data()
    samples, config = task.samples(data), task.config
    trainer = PlainTrainer(contiguous_copy(task.network(data)), learning_rate=config.supernet.learning_rate)
    augmentation, order = torch.Generator().manual_seed(config.seed), random.Random(config.seed)

    def run() -> Round:
        shuffled = np.array(order.sample(list(samples.indices), len(samples)))
        for path, indices in zip(task.paths, np.array_split(shuffled, len(task.paths)), strict=True):
            trainer.step(*samples.batch(indices, CPU, augmentation), path)
        return Round(len(samples))

    return run


def convolutions(task: Task) -> Callable[[], Round]:
    """The convolutions of the paths alone, forward and backward, in their fastest form."""
    keep_freed_memory()
    data = task.data()
    network, samples = task.network(data), task.samples(data)
    inputs, _ = samples.batch(samples.indices[:1], CPU)
    run_in_turn = [c for path in task.paths for c in convolutions_of(network, path, inputs)]
    floor = fastest_convolutions(run_in_turn, batch_sizes=_FLOOR_BATCH_SIZES, backward=True)
    return partial(_floor_round, floor, len(task.paths) * floor.batch_size)


def _floor_round(floor: ConvolutionsAlone, num_images: int) -> Round:
    floor.run()
    return Round(num_images, str(floor))


def _trained(task: Task, network: SpikingNetwork, data: RunData) -> Callable[[], Round]:
    path, samples = cycle(task.paths), task.samples(data)
    trainer = Trainer(
        network,
        samples,
        lambda _rng: (next(path),),
        epochs=task.config.supernet.epochs,
        batch_size=task.batch_size,
        learning_rate=task.config.supernet.learning_rate,
        seed=task.config.seed,
        device=CPU,
    )

    def run() -> Round:
        return Round(list(trainer.train_epoch())[-1])

    return run
