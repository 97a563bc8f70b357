"""Settings of the trainings: super-network, retraining, and where several workers share one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pipeline.identity import added
from snn.options import POSITIVE_FLOAT32, LossName, PathSampling, Range, Schedule, check_settings

# Seeds that every generator takes: Python's, NumPy's and torch's.
Seed = Annotated[int, Range(0, 2**63 - 1)]
Epochs = Annotated[int, Range(1, 1_000_000)]
# Batch norm needs two samples for its statistics.
TrainingBatch = Annotated[int, Range(2, 1_000_000)]
Share = Annotated[float, Range(1e-6, 1 - 1e-6)]
NumRanks = Annotated[int, Range(1, 10_000)]


@dataclass(frozen=True)
class SupernetConfig:
    """Stage 1: training the weight-sharing super-network."""

    epochs: Epochs = 600
    """Passes over D_train."""
    batch_size: TrainingBatch = 96
    """Samples per step."""
    learning_rate: Annotated[float, POSITIVE_FLOAT32] = 1e-3
    """Step size of Adam."""
    learning_rate_schedule: Schedule = "constant"
    """Schedule of the learning rate: `constant` as in the paper, or `cosine` decay to zero."""
    path_sampling: PathSampling = "uniform"
    """Paths of a step: `uniform`, one random path as in the paper; `fair`, as many as there are blocks, each
    block of each layer once; `sandwich`, the first block throughout, the last one, and two random paths. A
    step takes as many times longer."""
    loss: LossName = "mse"
    """Loss of the votes: `mse` of the firing rates as in the paper, `cross_entropy` of the firing rates, or
    `tet`, the mean cross-entropy over the time steps."""
    spike_penalty: Annotated[float, Range(0.0, 1e6)] = 0.0
    """Weight of the firing rate (spikes per neuron and time step) that is added to the loss; 0 is off."""
    average: Annotated[float, Range(0.0, 1.0, high_excluded=True)] = 0.0
    """Candidates are scored with an exponential moving average of the weights of this decay; 0 is off."""
    shared_kernels: bool = field(default=False, metadata=added(False))
    """The kernels of small blocks are the centres of those of large ones (SCB_k3 in SCB_k5, SRB_k3 in SRB_k5,
    SIB likewise), so that each is trained more often."""
    checkpoint_every: Epochs = 10
    """Epochs between checkpoints, from which an interrupted training resumes."""

    def __post_init__(self) -> None:
        check_settings("supernet", self)


@dataclass(frozen=True)
class RetrainConfig:
    """Stage 3: training the chosen architectures from scratch."""

    architectures: tuple[str, ...] = ("best", "autosnn")
    """Architectures to retrain: `best`, the search's choice, or names or texts of architectures."""
    seeds: tuple[Seed, ...] = (0,)
    """One training per architecture and seed."""
    epochs: Epochs = 600
    """Passes over the training set."""
    batch_size: TrainingBatch = 96
    """Samples per step."""
    learning_rate: Annotated[float, POSITIVE_FLOAT32] = 1e-3
    """Step size of Adam."""
    learning_rate_schedule: Schedule = "constant"
    """Schedule of the learning rate: `constant` as in the paper, or `cosine` decay to zero."""
    loss: LossName = "mse"
    """Loss of the votes, as `supernet.loss`."""
    spike_penalty: Annotated[float, Range(0.0, 1e6)] = 0.0
    """Weight of the firing rate in the loss, as `supernet.spike_penalty`."""
    finalists: Annotated[int, Range(1, 1000)] = 1
    """Candidates of highest fitness that are trained shortly; the best of them on held-out samples is `best`.
    1 believes the search."""
    finalist_epochs: Epochs | None = None
    """Passes over the training set in a finalist's short training; by default a quarter of `epochs`."""
    val_fraction: Share = 0.1
    """Share of the training set held out to choose the epoch that is tested."""
    eval_every: Epochs = 1
    """Epochs between measurements on the held-out samples; the last epoch is always measured."""
    checkpoint_every: Epochs = 10
    """Epochs between checkpoints, from which an interrupted training resumes."""
    paper_protocol: bool = True
    """Also measure the test set at each evaluation and report its best epoch, as the paper does, labelled."""

    def __post_init__(self) -> None:
        check_settings("retrain", self)
        if not self.architectures or not self.seeds:
            raise ValueError("retrain.architectures and retrain.seeds need at least one entry each.")


@dataclass(frozen=True)
class TrainingConfig:
    """Data-parallel training; not part of a run's identity, though rounding depends on it."""

    workers: tuple[NumRanks, ...] = (1,)
    """Workers that train the super-network together, each on its share of every batch: one number, or the
    least and the most, between which the training goes on as nodes come and go. Each has
    `training_threads` CPUs, and a GPU if there are any."""
    retrain_workers: tuple[NumRanks, ...] = (1,)
    """Likewise for each network of stage 3, with `threads_per_worker` CPUs; of 1 each, several networks train
    at once."""

    def __post_init__(self) -> None:
        check_settings("training", self)
        for name in ("workers", "retrain_workers"):
            numbers = getattr(self, name)
            if not 1 <= len(numbers) <= 2 or list(numbers) != sorted(numbers):
                raise ValueError(
                    f"training.{name} must be one number of workers, or the least and the most, got "
                    f"{' '.join(map(str, numbers)) or 'none'}."
                )


def check_workers(training: TrainingConfig, supernet: SupernetConfig, retrain: RetrainConfig) -> None:
    """Raises ValueError unless every worker has a sample of each batch."""
    for name, workers, batch, size in (
        ("workers", training.workers, "supernet", supernet.batch_size),
        ("retrain_workers", training.retrain_workers, "retrain", retrain.batch_size),
    ):
        if workers[-1] > size:
            raise ValueError(
                f"training.{name} must be at most {batch}.batch_size ({size}), so that each worker has a "
                f"sample of a batch; got {workers[-1]}."
            )
