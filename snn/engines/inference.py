"""The interface of an evaluation engine: encode, run a part, decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Counts = dict[str, tuple[Any, int]]
"""For each part that fired: the spikes of each sample [N], and binary outputs per sample and time step."""


@dataclass(frozen=True)
class Fired:
    """Spikes of a part, with the counts of all parts up to it.

    Attributes:
        spikes: In the engine's own format.
        counts: Counts of the parts passed so far.
        synops: Synaptic operations of each sample, [N]; None where they are not counted.
        energy: Energy of each sample with memory in femtojoules, as `snn.energy` estimates it, int64 [N];
            None where operations are not counted.
        macs: Multiply-accumulates of layers with analog input; None where they are not counted.
    """

    spikes: Any
    counts: Counts
    synops: NDArray[np.int64] | None = None
    energy: NDArray[np.int64] | None = None
    macs: int | None = None

    def after(self, before: Fired) -> Fired:
        """A copy with the counts of `before` added."""
        counts = dict(before.counts)
        for part, (count, outputs) in self.counts.items():
            counted, others = counts.get(part, (0, 0))
            counts[part] = (counted + count, others + outputs)
        return replace(
            self,
            counts=counts,
            synops=_sum(self.synops, before.synops),
            energy=_sum(self.energy, before.energy),
            macs=before.macs,
        )

    def with_macs(self, macs: int) -> Fired:
        """A copy with the given multiply-accumulates."""
        return replace(self, macs=macs)


@dataclass(frozen=True)
class Predicted:
    """The outcome of a network.

    Attributes:
        votes: Spikes of each class's voters over all time steps, [N, K].
        fired: Spikes of the head.
    """

    votes: Tensor
    fired: Fired

    @property
    def classes(self) -> Tensor:
        """The class with most votes, [N]; the first one in a tie."""
        return self.votes.argmax(1)


class InferenceNetwork(Protocol):
    """A network ready for evaluation; `snn.engines.engine` makes one."""

    time_steps: int
    chunk_size: int
    """Maximum number of samples per call."""
    device: torch.device
    """Device of inputs and labels."""

    @property
    def network(self) -> Any:
        """The SpikingNetwork it was created from, for its structure."""

    def forks(self, number: int) -> Sequence[Self]:
        """Networks to run in `number` threads; a single one if the engine has its own threads."""

    def encode(self, inputs: Tensor) -> Fired:
        """Spikes of the stem, of images [N, C, H, W] or event frames [T, N, C, H, W]."""

    def run(self, part: str, block: str, spikes: Any) -> Fired:
        """Spikes of a part of the body; `block` is empty for a pool."""

    def decide(self, spikes: Any) -> Predicted:
        """The votes, from the spikes of the last part of the body."""


def _sum(first: NDArray[np.int64] | None, second: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    """The sum of what is counted."""
    return first if second is None else second if first is None else first + second
