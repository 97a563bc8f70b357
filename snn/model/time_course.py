"""A network's time course: accuracy when read out after each time step, and spikes per part and step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from snn.fitness import TimeCourse
from snn.model.network import SpikingNetwork, to_memory_format
from snn.model.spikes import part_of, record_spikes
from snn.search_space import Architecture


def measure_time_course(
    network: SpikingNetwork, architecture: Architecture, batches: Iterable[tuple[Tensor, Tensor]]
) -> TimeCourse:
    """Runs the network for all T time steps and reads it out after each.

    Args:
        network: Contains the blocks of `architecture`.
        architecture: The path.
        batches: Pairs of inputs ([N, C, H, W] images or [T, N, C, H, W] frames) and labels [N].

    Raises:
        ValueError: There are no samples.
    """
    network.eval()
    correct: Tensor | float = 0.0
    spikes: dict[str, Tensor] = {}
    num_samples = 0
    with torch.inference_mode(), record_spikes(network) as record:
        for inputs, labels in batches:
            votes_TNK = network(to_memory_format(inputs), architecture)
            correct = correct + (votes_TNK.cumsum(0).argmax(2) == labels).sum(1).double()
            for name, counts_TN in record.counts.items():
                part, total = part_of(name), counts_TN.sum(1, dtype=torch.float64)
                spikes[part] = spikes[part] + total if part in spikes else total
            num_samples += len(labels)
    if not isinstance(correct, Tensor):
        raise ValueError("There are no samples to measure on; give at least one batch.")
    return TimeCourse(
        accuracy=tuple((correct / num_samples).tolist()),
        spikes={part: tuple((total / num_samples).tolist()) for part, total in spikes.items()},
    )
