"""Batch-norm statistics measured for each architecture and shared by those with the same prefix.

A super-network's stored statistics are averages over all paths that lead to a layer. The input of a layer
depends only on the blocks before it, so its statistics are measured once per prefix.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from snn.engines.event_driven import EventDrivenNetwork, Step
from snn.engines.inference import Fired, Predicted
from snn.kernels import calls as kernels
from snn.kernels.layout import Layer, SpikeLists, aligned

Path = tuple[tuple[str, str], ...]
"""(part, block) pairs from the stem on; the block of a pool is empty."""


@dataclass(frozen=True)
class _Affine:
    """Bias of a layer on a path, and the gain of each connection's weights; None leaves them as stored."""

    bias: NDArray[np.float32]
    gains: tuple[NDArray[np.float64] | None, ...]


@dataclass(frozen=True)
class _PathSpikes:
    """Spikes of a batch, the path they took, and the calibration samples' spikes if those were run too."""

    spikes: SpikeLists
    path: Path
    calibration: SpikeLists | None


class RecalibratedNetwork:
    """An event-driven network whose batch-norm statistics are measured on calibration samples.

    Implements `snn.engines.inference.InferenceNetwork`. The stem keeps its stored statistics, as no path
    leads to it. The statistics of a path are measured once in the life of the network; calibration samples
    run only along paths not yet measured.

    Args:
        network: Created with the arrays of `fold(..., norms_apart=True)`.
        calibration: Inputs [N, C, H, W] or [T, N, C, H, W] without augmentation, not those evaluated on.
    """

    def __init__(self, network: EventDrivenNetwork, calibration: Tensor) -> None:
        self.network = network.network
        self.time_steps = network.time_steps
        self.chunk_size = network.chunk_size
        self.device = network.device
        self.calibration = calibration
        self._batch, self._calibration = network.forks(2)
        self._measured: dict[Path, tuple[_Affine | None, ...]] = {}
        self._forks: list[RecalibratedNetwork] = []

    def forks(self, number: int) -> list[RecalibratedNetwork]:
        """Networks to run in `number` threads, reused by later calls; each measures its own statistics."""
        while len(self._forks) < number:
            self._forks.append(RecalibratedNetwork(self._batch, self.calibration))
        return self._forks[:number]

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
            self._measured[path], calibration = self._measure(part, block, calibration)
        else:
            assert calibration is None, "a path was measured, but its prefix was not"
        fired = self._batch.run_program(self._program(path), spikes.spikes, part=part, buffer=part)
        return replace(fired, spikes=_PathSpikes(fired.spikes, path, calibration))

    def decide(self, spikes: _PathSpikes) -> Predicted:
        return self._batch.decide(spikes.spikes)

    def _calibration_after(self, path: Path) -> SpikeLists:
        """The calibration samples' spikes after a path whose statistics are known."""
        spikes: SpikeLists = self._calibration.encode(self.calibration).spikes
        for end, (part, _) in enumerate(path, start=1):
            program = self._program(path[:end])
            spikes = self._calibration.run_program(program, spikes, part=part, buffer=part).spikes
        return spikes

    def _program(self, path: Path) -> list[Step]:
        """The steps of a path's last block with the statistics measured for it."""
        stored = self._batch.programs[path[-1]]
        return [_with_affine(*pair) for pair in zip(stored, self._measured[path], strict=True)]

    def _measure(
        self, part: str, block: str, calibration: SpikeLists
    ) -> tuple[tuple[_Affine | None, ...], SpikeLists]:
        """Statistics of a block's layers, measured in order, and the calibration samples' spikes after it."""
        signals, measured = [calibration], []
        for i, step in enumerate(self._batch.programs[part, block]):
            inputs = [signals[source] for source in step.sources]
            affine = None if step.layer is None else self._affine(step, step.layer, inputs)
            fired, _ = self._calibration.run_step(_with_affine(step, affine), inputs, f"{part}.{i}")
            signals.append(fired)
            measured.append(affine)
        return tuple(measured), signals[-1]

    def _affine(self, step: Step, layer: Layer, inputs: list[SpikeLists]) -> _Affine:
        """norm(x) = w * (x - mean) / sqrt(var + eps) + b as a gain on the weights and a bias."""
        bias = layer.bias.astype(np.float64)
        gains: list[NDArray[np.float64] | None] = []
        for i, spikes in enumerate(inputs):
            norm = self._batch.arrays.get(f"{step.name}.norm{i}")
            if norm is None:
                gains.append(None)
                continue
            mean, variance = kernels.mean_and_variance(layer, i, spikes, self._calibration.workspace)
            weight, shift, eps = norm.astype(np.float64)
            gain = weight / np.sqrt(variance + np.where(eps > 0, eps, 1.0))  # eps is 0 in padded channels
            bias = bias + shift - mean * gain
            gains.append(gain)
        return _Affine(bias.astype(np.float32), tuple(gains))


def _with_affine(step: Step, affine: _Affine | None) -> Step:
    """A step with its bias replaced and its weights multiplied by the gains."""
    if step.layer is None or affine is None:
        return step
    connections = [
        connection if gain is None else replace(connection, weights=_scaled(connection.weights, gain))
        for connection, gain in zip(step.layer.connections, affine.gains, strict=True)
    ]
    return replace(step, layer=replace(step.layer, bias=affine.bias, connections=tuple(connections)))


def _scaled(weights: NDArray[np.float32] | None, gain: NDArray[np.float64]) -> NDArray[np.float32]:
    assert weights is not None
    return aligned(weights * gain.astype(np.float32))
