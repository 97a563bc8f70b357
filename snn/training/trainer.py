"""Training of a super-network (a random path per step) or of a child, one epoch at a time.

Dimensions: T time steps, N batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from snn.data.sample_set import SampleSet
from snn.model.network import SpikingNetwork, firing_rates, to_memory_format
from snn.model.spikes import record_spikes
from snn.options import Schedule
from snn.search_space import Architecture


class TrainingDiverged(RuntimeError):
    """The loss or the weights became infinite or NaN."""


@dataclass(frozen=True)
class EpochMeans:
    """Means over the samples of one training epoch: loss, accuracy in [0, 1], spikes per sample."""

    loss: float
    accuracy: float
    spikes: float


class Trainer:
    """Trains a spiking network with Adam on the mean squared error of its firing rates.

        L = mean over N and K of (r_k - y_k) ** 2

    with r_k the firing rate of class k and y the one-hot label (paper section 5.1).
    Differs from the official code: Adam does not update blocks off the sampled path at all, and paths are
    drawn from a generator that is part of the training state.

    Args:
        network: The network to train, already initialised.
        samples: Training samples; `prepare` may augment them.
        next_architecture: Draws the path of a step from the trainer's own generator.
        epochs: Total number of epochs, for the cosine schedule.
        batch_size: N of a step; a last incomplete batch is used too unless it has only one sample.
        learning_rate: Step size of Adam.
        schedule: "constant" or "cosine" (to zero at the end).
        seed: Seed of the sample order, the augmentation and the paths.
        device: The device that holds the network.
    """

    def __init__(
        self,
        network: SpikingNetwork,
        samples: SampleSet,
        next_architecture: Callable[[random.Random], Architecture],
        *,
        epochs: int,
        batch_size: int,
        learning_rate: float,
        schedule: Schedule = "constant",
        seed: int,
        device: torch.device,
    ) -> None:
        self.network = network
        self.samples = samples
        self.next_architecture = next_architecture
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.device = device
        self.epoch = 0
        self.rng = random.Random(seed)
        self.order = np.random.Generator(np.random.PCG64(seed))
        self.augmentation = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)

    def train_epoch(self) -> Generator[int, None, EpochMeans]:
        """Trains one epoch; yields after each step the number of samples processed, returns the means.

        Raises:
            TrainingDiverged: Loss or weights are not finite; the weights are unusable.
        """
        self.network.train()
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

    def _step(self, inputs: Tensor, labels: Tensor) -> Tensor:
        architecture = self.next_architecture(self.rng)
        self.optimizer.zero_grad(set_to_none=True)
        with record_spikes(self.network) as record:
            rates_NK = firing_rates(self.network(to_memory_format(inputs), architecture))
        loss = F.mse_loss(rates_NK, F.one_hot(labels, rates_NK.shape[1]).to(rates_NK.dtype))
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            correct = (rates_NK.argmax(1) == labels).sum()
            return torch.stack([loss.double() * len(labels), correct, record.per_sample().double().sum()])

    def _set_learning_rate(self, epoch_fraction: float) -> None:
        rate = self.learning_rate
        if self.schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * (self.epoch + epoch_fraction) / self.epochs))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
