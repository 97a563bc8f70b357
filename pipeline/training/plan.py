"""A training from scratch as stage 1 or stage 3 plans it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config.tree import Config
from snn.options import LossName, PathSampling, Schedule
from snn.search_space import Architecture


@dataclass(frozen=True)
class TrainingPlan:
    """What is trained, and how; the same on every machine.

    Attributes:
        config: The run's settings, for data and network.
        number: Number of the retrained network; None for the super-network.
        architecture: The child that is trained; None trains random paths of the super-network.
        seed: Seed of the initial weights, of the order of samples, of augmentation and paths.
        epochs: Passes over the training samples.
        batch_size: Samples per step.
        learning_rate: Step size of Adam.
        schedule: Course of the learning rate.
        sampling: Paths of a step, for the super-network.
        loss: Loss of the votes.
        spike_penalty: Weight of the firing rate in the loss.
        average: Decay of the moving average of the weights; 0 is none.
        shared_kernels: Whether blocks of the super-network share kernels.
        checkpoint_every: Epochs between checkpoints.
    """

    config: Config
    number: int | None
    architecture: Architecture | None
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: Schedule
    sampling: PathSampling
    loss: LossName
    spike_penalty: float
    average: float
    shared_kernels: bool
    checkpoint_every: int


def plan_supernet(config: Config) -> TrainingPlan:
    """Stage 1: the super-network on D_train."""
    settings = config.supernet
    return TrainingPlan(
        config=config,
        number=None,
        architecture=None,
        seed=config.seed,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        schedule=settings.learning_rate_schedule,
        sampling=settings.path_sampling,
        loss=settings.loss,
        spike_penalty=settings.spike_penalty,
        average=settings.average,
        shared_kernels=settings.shared_kernels,
        checkpoint_every=settings.checkpoint_every,
    )


def plan_retraining(config: Config, number: int, architecture: Architecture, seed: int) -> TrainingPlan:
    """Stage 3: one chosen architecture, one seed."""
    settings = config.retrain
    return TrainingPlan(
        config=config,
        number=number,
        architecture=architecture,
        seed=seed,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        schedule=settings.learning_rate_schedule,
        sampling="uniform",
        loss=settings.loss,
        spike_penalty=settings.spike_penalty,
        average=0.0,
        shared_kernels=False,
        checkpoint_every=settings.checkpoint_every,
    )
