"""What evaluation needs of a network, whichever way it computes: encode, run a part, decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

from torch import Tensor

Counts = dict[str, tuple[Any, int]]
"""Of each part that fired: spikes in all, and its binary outputs per sample and time step."""


@dataclass(frozen=True)
class Fired:
    """Spikes of a part and what was counted on the way there.

    Attributes:
        spikes: In the form the network works with.
        counts: Counts of the parts passed.
        synops: Synaptic operations, None where they are not counted.
        macs: Multiply-accumulates of layers that see analog input, likewise.
    """

    spikes: Any
    counts: Counts
    synops: int | None = None
    macs: int | None = None

    def after(self, before: Fired) -> Fired:
        """This with what was counted `before` it added."""
        counts = dict(before.counts)
        for part, (count, outputs) in self.counts.items():
            counted, others = counts.get(part, (0, 0))
            counts[part] = (counted + count, others + outputs)
        return replace(self, counts=counts, synops=_sum(self.synops, before.synops), macs=before.macs)

    def with_macs(self, macs: int) -> Fired:
        """This with multiply-accumulates."""
        return replace(self, macs=macs)


@dataclass(frozen=True)
class Predicted:
    """Predicted classes [N], of equal ones the first, and what the head fired."""

    classes: Tensor
    fired: Fired


class InferenceNetwork(Protocol):
    """A network ready for evaluation; one of `snn.engines.event_driven` or `snn.engines.dense`."""

    time_steps: int
    chunk_size: int
    """Samples it works on at once, at most."""

    @property
    def network(self) -> Any:
        """The SpikingNetwork it was made of, for its structure."""

    def forks(self, number: int) -> Sequence[Self]:
        """The same network for each of so many threads; one, if it has threads of its own."""

    def encode(self, inputs: Tensor) -> Fired:
        """Spikes of the stem, of images [N, C, H, W] or event frames [T, N, C, H, W]."""

    def run(self, part: str, block: str, spikes: Any) -> Fired:
        """Spikes of a part of the body; `block` is empty for a pool."""

    def decide(self, spikes: Any) -> Predicted:
        """Head and vote."""


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None and second is None else (first or 0) + (second or 0)
