"""Training of a super-network (a random path per step) or of a child, one epoch at a time.

Dimensions: T time steps, N batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from snn.data.sample_set import SampleSet
from snn.model.network import SpikingNetwork, firing_rates, to_memory_format
from snn.model.spikes import record_spikes
from snn.options import LossName, Schedule
from snn.search_space import Architecture
from snn.training.losses import LOSSES
from snn.training.paths import NextPaths
from snn.training.ranks import Ranks
from snn.training.shared_kernels import SharedKernels


class TrainingDiverged(RuntimeError):
    """The loss or the weights became infinite or NaN."""


@dataclass(frozen=True)
class EpochMeans:
    """Means over the samples of one training epoch: loss, accuracy in [0, 1], spikes per sample."""

    loss: float
    accuracy: float
    spikes: float


class Trainer:
    """Trains a spiking network with Adam.

    Each step takes one or more paths through the network on the same batch and adds up their gradients.
    Differs from the official code: Adam does not update blocks off the sampled paths at all, and paths are
    drawn from a generator that is part of the training state.

    Args:
        network: The network to train, already initialised.
        samples: Training samples; `prepare` may augment them.
        next_paths: Draws the paths of a step from the trainer's own generator.
        epochs: Total number of epochs, for the cosine schedule.
        batch_size: N of a step; a last incomplete batch is used too unless it has only one sample.
        learning_rate: Step size of Adam.
        schedule: "constant" or "cosine" (to zero at the end).
        loss: Loss of the votes; the paper's is "mse".
        spike_penalty: Weight of the firing rate, in [0, 1], that is added to the loss.
        average: Decay of the exponential moving average of the weights over the steps, in [0, 1); 0 is none.
        shared_kernels: Whether blocks that differ only in the size of their kernels share them.
        seed: Seed of the sample order, the augmentation and the paths.
        device: The device that holds the network.
        ranks: The processes that train the network together; the network's batch norms are synchronised.
    """

    def __init__(
        self,
        network: SpikingNetwork,
        samples: SampleSet,
        next_paths: NextPaths,
        *,
        epochs: int,
        batch_size: int,
        learning_rate: float,
        schedule: Schedule = "constant",
        loss: LossName = "mse",
        spike_penalty: float = 0.0,
        average: float = 0.0,
        shared_kernels: bool = False,
        seed: int,
        device: torch.device,
        ranks: Ranks | None = None,
    ) -> None:
        self.network = network
        self.samples = samples
        self.next_paths = next_paths
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.loss = LOSSES[loss]
        self.spike_penalty = spike_penalty
        self.device = device
        self.ranks = ranks
        self.epoch = 0
        self.rng = random.Random(seed)
        self.order = np.random.Generator(np.random.PCG64(seed))
        self.augmentation = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
        self.shared_kernels = SharedKernels(network) if shared_kernels else None
        self.averaged: AveragedModel | None = None
        if average:
            self.averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(average))

    def train_epoch(self) -> Generator[int, None, EpochMeans]:
        """Trains one epoch; yields after each step the number of samples processed, returns the means.

        Raises:
            TrainingDiverged: Loss or weights are not finite; the weights are unusable.
        """
        self.network.train()
        if self.ranks is not None:
            self.ranks.hand_out(self.network)  # where ranks run on unlike processors, rounding drifts apart
        order = self.order.permutation(self.samples.indices)
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        num_processed = 0
        for start in range(0, len(order), self.batch_size):
            indices = order[start : start + self.batch_size]
            if len(indices) == 1 and len(order) > 1:
                continue  # too few values for batch norm statistics
            self._set_learning_rate(start / len(order))
            sums += self._step(*self.samples.batch(indices, self.device, self.augmentation))
            num_processed += len(indices)
            yield num_processed
        self.epoch += 1
        if self.ranks is not None:
            self.ranks.add_up([sums])
        loss, accuracy, spikes = (sums / num_processed).tolist()
        if not math.isfinite(loss) or not self._weights_are_finite():
            raise TrainingDiverged(
                f"The loss or the weights became infinite or NaN in epoch {self.epoch} (loss {loss}): lower "
                f"the learning rate (it is {self.learning_rate})."
            )
        return EpochMeans(loss, accuracy, spikes)

    @torch.no_grad()
    def _weights_are_finite(self) -> bool:
        """Checked apart from the loss: a NaN potential never fires, so NaN weights can give a finite loss."""
        norms = torch._foreach_norm(list(self.network.parameters()))
        return bool(torch.stack(norms).isfinite().all())

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to resume the training as if it had not been interrupted."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "rng": self.rng.getstate(),
            "order": self.order.bit_generator.state,
            "augmentation": self.augmentation.get_state(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state returned by `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = state["epoch"]
        version, internal, gauss = state["rng"]
        self.rng.setstate((version, tuple(internal), gauss))
        self.order.bit_generator.state = state["order"]
        self.augmentation.set_state(state["augmentation"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])

    @property
    def result(self) -> SpikingNetwork:
        """The network with the averaged weights, or the trained one itself."""
        return self.network if self.averaged is None else cast(SpikingNetwork, self.averaged.module)

    def _step(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Sums over this rank's samples of loss, correct predictions and spikes; means over the paths."""
        paths, weight, copies = self.next_paths(self.rng), 1.0, 1
        if self.ranks is not None:
            own, copies = self.ranks.share(len(labels))
            weight = len(labels[own]) / len(labels) / copies
            inputs, labels = inputs[..., own, :, :, :], labels[own]
        inputs = to_memory_format(inputs)
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.stack([self._add_gradients(path, inputs, labels, weight) for path in paths])
        if self.ranks is not None:
            self.ranks.add_up(p.grad for p in self.network.parameters() if p.grad is not None)
        if self.shared_kernels is not None:
            self.shared_kernels.collect()
        self.optimizer.step()
        if self.shared_kernels is not None:
            self.shared_kernels.hand_out()
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)
        return sums.mean(0) / copies

    def _add_gradients(self, path: Architecture, inputs: Tensor, labels: Tensor, weight: float) -> Tensor:
        penalty = self.spike_penalty
        with record_spikes(self.network, gradients=penalty > 0) as record:
            votes = self.network(inputs, path)
        loss = self.loss(votes, labels)
        if penalty:
            loss = loss + penalty * record.firing_rate()
        (loss * weight).backward()
        with torch.no_grad():
            correct = (firing_rates(votes).argmax(1) == labels).sum()
            return torch.stack([loss.double() * len(labels), correct, record.per_sample().double().sum()])

    def _set_learning_rate(self, epoch_fraction: float) -> None:
        rate = self.learning_rate
        if self.schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * (self.epoch + epoch_fraction) / self.epochs))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
