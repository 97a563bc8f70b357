"""A subset of a data set as batches of network inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Prepare = Callable[[Tensor, torch.Generator | None], Tensor]
"""Turns stored uint8 samples [N, ...] into a network's input; augments them if a generator is given."""


@dataclass(frozen=True)
class SampleSet:
    """Samples with labels and their conversion into a network's input.

    Attributes:
        samples: uint8 [n, ...]; may be a memory-mapped view.
        labels: int64 [n].
        indices: Of the samples that belong to the set.
        prepare: Applied to each batch of samples, on the device.
    """

    samples: NDArray[np.uint8]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    prepare: Prepare

    def __len__(self) -> int:
        return len(self.indices)

    def largest_share(self) -> float:
        """Share of the most frequent class, in [0, 1]: the accuracy of always naming it."""
        return float(np.bincount(self.labels[self.indices]).max() / len(self))

    def batch(
        self, indices: NDArray[np.int64], device: torch.device, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Inputs and labels [N] of these samples, on `device`; augmented if a generator is given."""
        samples = torch.from_numpy(self.samples[indices]).to(device, non_blocking=True)
        labels = torch.from_numpy(self.labels[indices]).to(device, non_blocking=True)
        return self.prepare(samples, generator), labels

    def batches(self, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """All samples in the order of `indices`, without augmentation."""
        for start in range(0, len(self), batch_size):
            yield self.batch(self.indices[start : start + batch_size], device)
