"""The event-driven engine with batch-norm statistics measured block by block."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from snn.engines.event_driven import EventDrivenNetwork, Step
from snn.engines.inference import Fired
from snn.kernels import calls as kernels
from snn.kernels.layout import Layer, SpikeLists, aligned


@dataclass(frozen=True)
class _Affine:
    """Bias of a layer, and the gain of each connection's weights; None leaves them as stored."""

    bias: NDArray[np.float32]
    gains: tuple[NDArray[np.float64] | None, ...]


Statistics = tuple[_Affine | None, ...]
"""One entry for each step of a block; None for a step without layer."""


class MeasuringEventDrivenNetwork(EventDrivenNetwork):
    """Implements `snn.engines.recalibration.MeasuringEngine`; created with `fold(..., norms_apart=True)`."""

    def measure(self, part: str, block: str, spikes: SpikeLists) -> tuple[Statistics, SpikeLists]:
        signals, measured = [spikes], []
        for i, step in enumerate(self.programs[part, block]):
            inputs = [signals[source] for source in step.sources]
            affine = None if step.layer is None else self._affine(step, step.layer, inputs)
            fired, _ = self.run_step(_with_affine(step, affine), inputs, f"{part}.{i}")
            signals.append(fired)
            measured.append(affine)
        return tuple(measured), signals[-1]

    def run_with(self, part: str, block: str, statistics: Statistics, spikes: SpikeLists) -> Fired:
        steps = zip(self.programs[part, block], statistics, strict=True)
        return self.run_program([_with_affine(*pair) for pair in steps], spikes, part=part, buffer=part)

    def _affine(self, step: Step, layer: Layer, inputs: list[SpikeLists]) -> _Affine:
        """norm(x) = w * (x - mean) / sqrt(var + eps) + b as a gain on the weights and a bias."""
        bias = layer.bias.astype(np.float64)
        gains: list[NDArray[np.float64] | None] = []
        for i, spikes in enumerate(inputs):
            norm = self.arrays.get(f"{step.name}.norm{i}")
            if norm is None:
                gains.append(None)
                continue
            mean, variance = kernels.mean_and_variance(layer, i, spikes, self.workspace)
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
