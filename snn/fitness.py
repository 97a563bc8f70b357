"""Evaluation of a candidate, its spike-aware fitness, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from snn.options import CostName
from snn.part_values import PartValues

if TYPE_CHECKING:  # settings use this module, and a command line's help should not wait for numpy
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Evaluation:
    """Measurements of one architecture on a set of samples.

    Attributes:
        accuracy: Share of samples classified correctly, in [0, 1].
        spikes: Mean number of spikes per sample, summed over all T steps and counted layers.
        firing_rate: Spikes per counted neuron and time step, in [0, 1].
        num_samples: Number of samples measured.
        synops: Synaptic operations per sample (one for each synapse a spike reaches), if measured.
        energy: Joules per sample with memory, as `snn.energy` estimates them, if operations are counted.
        macs: Multiply-accumulates per sample of the layers with analog input, if measured.
        num_parameters: Learnable parameters of the architecture by itself, if counted.
        spikes_per_layer: Mean spikes per sample of each counted part, from input to output; their sum is
            `spikes`.
        firing_rate_per_layer: Firing rate of each counted part, in [0, 1].
    """

    accuracy: float
    spikes: float
    firing_rate: float
    num_samples: int
    synops: float | None = None
    macs: float | None = None
    energy: float | None = None
    num_parameters: int | None = None
    spikes_per_layer: Mapping[str, float] = field(default_factory=dict)
    firing_rate_per_layer: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("spikes_per_layer", "firing_rate_per_layer"):
            object.__setattr__(self, name, PartValues(getattr(self, name)))


def joined(parts: Sequence[Evaluation]) -> Evaluation:
    """The evaluation on all samples of several evaluations of a network on different samples.

    Counts are whole numbers, so that it equals one evaluation on all of them exactly.
    """
    number = sum(part.num_samples for part in parts)

    def total(values: Iterable[float | None]) -> int:
        pairs = zip(parts, values, strict=True)
        return sum(round((value or 0.0) * part.num_samples) for part, value in pairs)

    spikes = {
        name: total(part.spikes_per_layer[name] for part in parts) / number
        for name in parts[0].spikes_per_layer
    }
    femtojoules = total(1e15 * (part.energy or 0.0) for part in parts)
    outputs = _outputs((part.spikes, part.firing_rate) for part in parts)
    rates = {}
    for name, fired in spikes.items():
        there = [(part.spikes_per_layer[name], part.firing_rate_per_layer[name]) for part in parts]
        rates[name] = fired / _outputs(there) if fired else 0.0
    fired = sum(spikes.values()) if spikes else total(part.spikes for part in parts) / number
    return Evaluation(
        accuracy=total(part.accuracy for part in parts) / number,
        spikes=fired,
        firing_rate=fired / outputs if fired else 0.0,
        num_samples=number,
        synops=None if parts[0].synops is None else total(part.synops for part in parts) / number,
        macs=None if parts[0].macs is None else total(part.macs for part in parts) / number,
        energy=None if parts[0].energy is None else femtojoules * 1e-15 / number,
        num_parameters=parts[0].num_parameters,
        spikes_per_layer=spikes,
        firing_rate_per_layer=rates,
    )


def _outputs(spikes_and_rates: Iterable[tuple[float, float]]) -> int:
    """Binary outputs per sample over all time steps, from what fired; 0 if nothing did."""
    return next((round(spikes / rate) for spikes, rate in spikes_and_rates if spikes), 0)


@dataclass(frozen=True, eq=False)
class SampleScores:
    """What a network did on each of some samples.

    Attributes:
        correct: Whether it classified the sample correctly, bool [N].
        spikes: Spikes of the sample over all T steps and counted layers, int64 [N].
        synops: Synaptic operations of the sample, int64 [N]; None where they are not counted.
        energy: Energy of the sample with memory in femtojoules, int64 [N]; None where it is not counted.
    """

    correct: NDArray[np.bool_]
    spikes: NDArray[np.int64]
    synops: NDArray[np.int64] | None = None
    energy: NDArray[np.int64] | None = None

    def cost(self, kind: CostName) -> NDArray[np.int64]:
        """What each sample costs, int64 [N]; raises as `cost_of`."""
        return _counted(getattr(self, kind), kind)


def cost_of(evaluation: Evaluation, kind: CostName) -> float:
    """What is to be saved: mean spikes, synaptic operations or joules of a sample.

    Raises:
        ValueError: The engine that evaluated does not count it.
    """
    return float(_counted(getattr(evaluation, kind), kind))


def _counted(value: Any, kind: CostName) -> Any:
    if value is None:
        raise ValueError(
            f"search.cost is '{kind}', which the dense engine does not count: use --search.engine "
            "event_driven (on CPUs), or --search.cost spikes."
        )
    return value


@dataclass(frozen=True)
class TimeCourse:
    """Accuracy and spikes of a network over its T time steps; means over a set of samples.

    Attributes:
        accuracy: For each t in 1..T, the accuracy in [0, 1] if the network is read out after t steps.
        spikes: For each counted part, the mean spikes per sample at each of the T time steps.
    """

    accuracy: tuple[float, ...]
    spikes: dict[str, tuple[float, ...]]


def spike_aware_fitness(
    accuracy: float, spikes: float, *, spikes_reference: float, spike_exponent: float
) -> float:
    """Fitness of a candidate, to be maximised (paper section 4.3, equation 5).

        F = A * (N / N_avg) ** lambda

    with A the validation accuracy, N the candidate's spikes, N_avg the super-network's mean spikes and
    lambda <= 0 the weight of the spikes.

    Differs from the official code, which at N = 0 raises or returns infinity, so that a silent network
    wins. Here a network without spikes has fitness 0, unless lambda = 0, where F = A.

    Args:
        accuracy: A, in [0, 1].
        spikes: N, mean spikes per sample, at least 0.
        spikes_reference: N_avg, mean spikes per sample, above 0.
        spike_exponent: lambda.
    """
    if spike_exponent == 0:
        return accuracy
    if not spikes_reference > 0 or not math.isfinite(spikes_reference):
        raise ValueError(f"spikes_reference must be a positive number, got {spikes_reference}.")
    if spikes <= 0:
        return 0.0
    return accuracy * math.exp(spike_exponent * math.log(spikes / spikes_reference))


def best_possible_fitness(
    so_far: Evaluation,
    *,
    num_samples: int,
    spikes_reference: float,
    spike_exponent: float,
    cost: CostName = "spikes",
) -> float:
    """Upper bound on the fitness over all samples, given the evaluation of some of them.

    It is the fitness if every remaining sample were classified correctly without a spike. A candidate
    whose bound is below another's fitness cannot beat it.

    Args:
        so_far: Evaluation on some of the samples.
        num_samples: Total number of samples.
        spikes_reference: N_avg of the fitness.
        spike_exponent: lambda of the fitness.
        cost: What N counts.
    """
    evaluated = so_far.num_samples / num_samples
    spikes = cost_of(so_far, cost) * evaluated
    if spike_exponent > 0 or (spike_exponent < 0 and spikes == 0):
        return math.inf
    return spike_aware_fitness(
        so_far.accuracy * evaluated + 1 - evaluated,
        spikes,
        spikes_reference=spikes_reference,
        spike_exponent=spike_exponent,
    )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the non-dominated points, by increasing spikes.

    Args:
        points: (accuracy, spikes) pairs; accuracy is maximised, spikes minimised. Of equal points only the
            first is on the front.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][1], -points[i][0], i))
    front: list[int] = []
    best_accuracy = -math.inf
    for i in order:
        if points[i][0] > best_accuracy:
            front.append(i)
            best_accuracy = points[i][0]
    return front
