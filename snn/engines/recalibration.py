"""Batch-norm statistics measured for each architecture and shared by those with the same prefix.

A super-network's stored statistics are averages over all paths that lead to a layer. The input of a layer
depends only on the blocks before it, so its statistics are measured once per prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from snn.engines.inference import Fired, Predicted

Path = tuple[tuple[str, str], ...]
"""(part, block) pairs from the stem on; the block of a pool is empty."""


class MeasuringEngine(Protocol):
    """An engine that can measure the statistics of a block and run it with them."""

    time_steps: int
    chunk_size: int
    device: torch.device

    @property
    def network(self) -> Any: ...

    def forks(self, number: int) -> Sequence[Self]: ...

    def encode(self, inputs: Tensor) -> Fired: ...

    def decide(self, spikes: Any) -> Predicted: ...

    def measure(self, part: str, block: str, spikes: Any) -> tuple[Any, Any]:
        """The statistics of a block on its input spikes, in the engine's form, and the spikes after it."""

    def run_with(self, part: str, block: str, statistics: Any, spikes: Any) -> Fired:
        """Runs a block with statistics from `measure`."""


@dataclass(frozen=True)
class _PathSpikes:
    """Spikes of a batch, the path they took, and the calibration samples' spikes if those were run too."""

    spikes: Any
    path: Path
    calibration: Any


class RecalibratedNetwork:
    """A network whose batch-norm statistics are measured on calibration samples.

    Implements `snn.engines.inference.InferenceNetwork`. The stem keeps its stored statistics, as no path
    leads to it. The statistics of a path are measured once in the life of the network; calibration samples
    run only along paths not yet measured.

    Args:
        engine: Runs the blocks.
        calibration: Inputs [N, C, H, W] or [T, N, C, H, W] without augmentation, not those evaluated on.
    """

    def __init__(self, engine: MeasuringEngine, calibration: Tensor) -> None:
        self.network = engine.network
        self.time_steps = engine.time_steps
        self.chunk_size = engine.chunk_size
        self.device = engine.device
        self.calibration = calibration
        forks = engine.forks(2)  # those with working memory of their own keep batch and calibration apart
        self._batch, self._calibration = forks[0], forks[-1]
        self._measured: dict[Path, Any] = {}
        self._forks: list[RecalibratedNetwork] = []

    def forks(self, number: int) -> list[RecalibratedNetwork]:
        """Networks to run in `number` threads, reused by later calls; each measures its own statistics."""
        engines = self._batch.forks(number)
        while len(self._forks) < len(engines):
            self._forks.append(RecalibratedNetwork(engines[len(self._forks)], self.calibration))
        return self._forks[: len(engines)]

    def encode(self, inputs: Tensor) -> Fired:
        fired = self._batch.encode(inputs)
        calibration = None if self._measured else self._calibration.encode(self.calibration).spikes
        return replace(fired, spikes=_PathSpikes(fired.spikes, (), calibration))

    def run(self, part: str, block: str, spikes: _PathSpikes) -> Fired:
        path = (*spikes.path, (part, block))
        calibration = spikes.calibration
        if path not in self._measured:
            if calibration is None:
                calibration = self._calibration_after(spikes.path)
            self._measured[path], calibration = self._calibration.measure(part, block, calibration)
        else:
            assert calibration is None, "a path was measured, but its prefix was not"
        fired = self._batch.run_with(part, block, self._measured[path], spikes.spikes)
        return replace(fired, spikes=_PathSpikes(fired.spikes, path, calibration))

    def decide(self, spikes: _PathSpikes) -> Predicted:
        return self._batch.decide(spikes.spikes)

    def _calibration_after(self, path: Path) -> Any:
        """The calibration samples' spikes after a path whose statistics are known."""
        spikes = self._calibration.encode(self.calibration).spikes
        for end, (part, block) in enumerate(path, start=1):
            spikes = self._calibration.run_with(part, block, self._measured[path[:end]], spikes).spikes
        return spikes
