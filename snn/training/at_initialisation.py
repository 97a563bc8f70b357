"""What networks with their initial weights tell of their architecture: scores that need no training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snn.model.network import SpikingNetwork, to_memory_format
from snn.model.neuron import SpikingNeuron
from snn.model.spikes import record_spikes
from snn.search_space import Architecture


@dataclass(frozen=True)
class AtInitialisation:
    """Measurements of a network with its initial weights on one batch, with the batch's own statistics.

    Attributes:
        hamming_distance: Log-determinant of the kernel of spike patterns; high where samples differ.
        operations: Multiply-accumulates per sample and time step if every layer were dense.
        spikes: Mean spikes per sample.
    """

    hamming_distance: float
    operations: float
    spikes: float


@torch.no_grad()
def measure_at_initialisation(
    network: SpikingNetwork, architecture: Architecture, inputs: Tensor
) -> AtInitialisation:
    """Runs one batch through a network; its running statistics move.

    The kernel is that of the sparsity-aware Hamming distance (Kim et al., "Neural architecture search for
    spiking neural networks", ECCV 2022, section 3.2): over all layers and time steps the sum of

        K_ij = A - a_ij * d_ij,    a_ij = 0.5 / (r_i (1 - r_j) + (1 - r_i) r_j)

    with A neurons, d_ij the Hamming distance of two samples' spikes and r_i the firing rate of a sample, so
    that sparse layers count as much as others.

    Args:
        network: With its initial weights.
        architecture: The path through it.
        inputs: At least two images [N, C, H, W] or event samples [T, N, C, H, W].
    """
    number = inputs.shape[-4]
    kernel, operations = torch.zeros(number, number, dtype=torch.float64), 0.0

    def add_kernel(_module: nn.Module, _inputs: Any, spikes: Tensor) -> None:
        for pattern in spikes.flatten(2):
            kernel.add_(_kernel(pattern.float()).double().cpu())

    def add_operations(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal operations
        weight = module.get_parameter("weight")
        planes = output.flatten(0, 1) if output.dim() in (3, 5) else output
        operations += planes[0].numel() * weight[0].numel()

    hooks = [
        module.register_forward_hook(add_kernel if isinstance(module, SpikingNeuron) else add_operations)
        for module in network.modules()
        if isinstance(module, SpikingNeuron | nn.Conv2d | nn.Linear)
    ]
    try:
        with record_spikes(network) as record:
            network.train()(to_memory_format(inputs), architecture)
        spikes = record.per_sample().mean().item()
    finally:
        for hook in hooks:
            hook.remove()
    sign, logarithm = torch.linalg.slogdet(kernel)
    return AtInitialisation(logarithm.item() if sign != 0 else -torch.inf, operations, spikes)


def _kernel(pattern: Tensor) -> Tensor:
    """[N, N] of the binary pattern [N, A] of a layer at a time step."""
    neurons, rates = pattern.shape[1], pattern.mean(1)
    counts = neurons * rates
    distance = counts[:, None] + counts - 2 * (pattern @ pattern.T)
    expected = rates[:, None] * (1 - rates) + (1 - rates[:, None]) * rates
    return neurons - 0.5 * distance / (expected + 1e-3)
