"""Batch-norm statistics measured anew for every architecture, shared by those with the same prefix.

The stored statistics of a super-network mix all paths that led to a layer. What a layer sees depends on
the blocks before it alone, so that its own statistics are measured once per prefix.
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
"""(part, block) from the stem on; the block of a pool is empty."""


@dataclass(frozen=True)
class _Affine:
    """Of one layer on one path: its bias, and of each connection the gain of its weights (None: stored)."""

    bias: NDArray[np.float32]
    gains: tuple[NDArray[np.float64] | None, ...]


@dataclass(frozen=True)
class _Reached:
    """Spikes of a batch, the path that led there, and the calibration samples' spikes, if they went along."""

    spikes: SpikeLists
    path: Path
    calibration: SpikeLists | None


class RecalibratedNetwork:
    """An event-driven network whose batch norms take their statistics from calibration samples.

    Has the methods of `snn.engines.inference.InferenceNetwork`. The stem keeps its stored statistics: no path
    leads to it. Statistics of a path are measured once in the life of the network; the calibration samples
    go along only where something is to be measured.

    Args:
        network: Made with the arrays of `fold(..., norms_apart=True)`.
        calibration: Inputs [N, C, H, W] or [T, N, C, H, W] without augmentation, not those evaluated on.
    """

    def __init__(self, network: EventDrivenNetwork, calibration: Tensor) -> None:
        self.network = network.network
        self.time_steps = network.time_steps
        self.chunk_size = network.chunk_size
        self.calibration = calibration
        self._batch, self._calibration = network.forks(2)
        self._measured: dict[Path, tuple[_Affine | None, ...]] = {}
        self._forks: list[RecalibratedNetwork] = []

    def forks(self, number: int) -> list[RecalibratedNetwork]:
        """A network for each of so many threads; each measures for itself and is handed out again."""
        while len(self._forks) < number:
            self._forks.append(RecalibratedNetwork(self._batch, self.calibration))
        return self._forks[:number]

    def encode(self, inputs: Tensor) -> Fired:
        fired = self._batch.encode(inputs)
        calibration = None if self._measured else self._calibration.encode(self.calibration).spikes
        return replace(fired, spikes=_Reached(fired.spikes, (), calibration))

    def run(self, part: str, block: str, reached: _Reached) -> Fired:
        path = (*reached.path, (part, block))
        calibration = reached.calibration
        if path not in self._measured:
            if calibration is None:
                calibration = self._calibration_after(reached.path)
            self._measured[path], calibration = self._measure(part, block, calibration)
        else:
            assert calibration is None, "a path was measured, but not the one before it"
        fired = self._batch.run_program(self._program(path), reached.spikes, part=part, place=part)
        return replace(fired, spikes=_Reached(fired.spikes, path, calibration))

    def decide(self, reached: _Reached) -> Predicted:
        return self._batch.decide(reached.spikes)

    def _calibration_after(self, path: Path) -> SpikeLists:
        """The calibration samples' spikes behind a path that is measured."""
        spikes: SpikeLists = self._calibration.encode(self.calibration).spikes
        for end, (part, _) in enumerate(path, start=1):
            program = self._program(path[:end])
            spikes = self._calibration.run_program(program, spikes, part=part, place=part).spikes
        return spikes

    def _program(self, path: Path) -> list[Step]:
        """The steps of a path's last block with the statistics measured there."""
        stored = self._batch.programs[path[-1]]
        return [_with_affine(*pair) for pair in zip(stored, self._measured[path], strict=True)]

    def _measure(
        self, part: str, block: str, calibration: SpikeLists
    ) -> tuple[tuple[_Affine | None, ...], SpikeLists]:
        """Statistics of a block's layers, one after the other, and the calibration spikes behind it."""
        made, measured = [calibration], []
        for i, step in enumerate(self._batch.programs[part, block]):
            inputs = [made[source] for source in step.sources]
            affine = None if step.layer is None else self._affine(step, step.layer, inputs)
            fired, _ = self._calibration.run_step(_with_affine(step, affine), inputs, f"{part}.{i}")
            made.append(fired)
            measured.append(affine)
        return tuple(measured), made[-1]

    def _affine(self, step: Step, layer: Layer, inputs: list[SpikeLists]) -> _Affine:
        """norm(x) = w * (x - mean) / sqrt(var + eps) + b as a gain of the weights and a bias."""
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
    """A step with another bias and with its weights times the gains."""
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
