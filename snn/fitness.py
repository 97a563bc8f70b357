"""What a candidate is worth: its evaluation, the spike-aware fitness, the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Evaluation:
    """What was measured of one architecture on one data set.

    Attributes:
        accuracy: Share of samples whose class was predicted, in [0, 1].
        spikes: Mean number of spikes per sample, summed over all T steps and counted layers.
        firing_rate: Spikes per counted neuron and time step, in [0, 1].
        num_samples: Number of samples measured on.
        synops: Synaptic operations per sample (one for each synapse a spike reaches), where measured.
        macs: Multiply-accumulates per sample of the layers that see analog input, where measured.
        spikes_per_layer: Mean spikes per sample of each counted part, from the input to the output;
            adds up to `spikes`.
        firing_rate_per_layer: Firing rate of each counted part, in [0, 1].
    """

    accuracy: float
    spikes: float
    firing_rate: float
    num_samples: int
    synops: float | None = None
    macs: float | None = None
    spikes_per_layer: dict[str, float] = field(default_factory=dict)
    firing_rate_per_layer: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TimeCourse:
    """What a network does over its T time steps; means over the samples of a set.

    Attributes:
        accuracy: Of each t in 1..T the accuracy in [0, 1] if the network is read out after t steps.
        spikes: Of each counted part the mean spikes per sample at each time step, T numbers.
    """

    accuracy: tuple[float, ...]
    spikes: dict[str, tuple[float, ...]]


def spike_aware_fitness(
    accuracy: float, spikes: float, *, spikes_reference: float, spike_exponent: float
) -> float:
    """Fitness of a candidate, to be maximised (paper section 4.3, equation 5).

        F = A * (N / N_avg) ** lambda

    with A the validation accuracy, N the candidate's spikes, N_avg the super-network's mean spikes and
    lambda <= 0 the weight of spikes.

    Differs from the official code: without spikes (N = 0) it raises or gives infinity, so that a dead
    network wins. Here a network without spikes has fitness 0, unless lambda = 0, where F = A.

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
    so_far: Evaluation, *, num_samples: int, spikes_reference: float, spike_exponent: float
) -> float:
    """An upper bound of the fitness on all samples, after some of them.

    It is what the fitness would be if every sample left were predicted right without a spike. A candidate
    whose bound is below another's fitness cannot beat it.

    Args:
        so_far: Evaluation on some of the samples.
        num_samples: Number of all samples.
        spikes_reference: N_avg of the fitness.
        spike_exponent: lambda of the fitness.
    """
    seen = so_far.num_samples / num_samples
    spikes = so_far.spikes * seen
    if spike_exponent > 0 or (spike_exponent < 0 and spikes == 0):
        return math.inf
    return spike_aware_fitness(
        so_far.accuracy * seen + 1 - seen,
        spikes,
        spikes_reference=spikes_reference,
        spike_exponent=spike_exponent,
    )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points no other point beats, by rising spikes.

    Args:
        points: (accuracy, spikes) pairs; accuracy is maximised, spikes minimised. Of equal points the
            first is kept.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][1], -points[i][0], i))
    front: list[int] = []
    best_accuracy = -math.inf
    for i in order:
        if points[i][0] > best_accuracy:
            front.append(i)
            best_accuracy = points[i][0]
    return front
