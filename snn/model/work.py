"""Counts what a network does for a sample, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from snn.energy import ConnectionWork, NeuronWork, Work
from snn.model.network import SpikingNetwork, to_memory_format
from snn.model.neuron import SpikingNeuron
from snn.model.spikes import STEM, record_operations, record_spikes
from snn.search_space import Architecture


def measure_work(network: SpikingNetwork, architecture: Architecture, batches: Iterable[Tensor]) -> Work:
    """Runs the network densely and counts.

    Args:
        network: Contains the blocks of `architecture`.
        architecture: The path.
        batches: Inputs, [N, C, H, W] images or [T, N, C, H, W] frames.

    Raises:
        ValueError: There are no samples.
    """
    network.eval()
    shapes: dict[str, tuple[int, int]] = {}
    operations: dict[str, float] = {}
    spikes: dict[str, float] = {}
    neurons: dict[str, int] = {}
    num_samples = 0

    def note(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            is_linear = output.dim() == 3
            source, target = (x[0, 0] if is_linear else x[0] for x in (inputs[0], output))
            shapes[name] = source.numel(), target.numel()

        return hook

    handles = [
        module.register_forward_hook(note(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.inference_mode(), record_spikes(network) as record, record_operations(network) as done:
            for inputs in batches:
                network(to_memory_format(inputs), architecture)
                num_samples += inputs.shape[0 if inputs.dim() == 4 else 1]
                for name, counts in done.counts.items():
                    operations[name] = operations.get(name, 0.0) + counts.sum().item()
                for name, counts_TN in record.counts.items():
                    spikes[name] = spikes.get(name, 0.0) + counts_TN.sum(dtype=torch.float64).item()
                neurons = dict(record.neurons)
    finally:
        for handle in handles:
            handle.remove()
    if num_samples == 0:
        raise ValueError("There are no samples to measure on; give at least one batch.")
    return Work(
        tuple(
            _connection(network, name, *shapes[name], operations[name] / num_samples) for name in operations
        ),
        tuple(
            NeuronWork(name, neurons[name], neurons[name] * network.time_steps, spikes[name] / num_samples)
            for name in spikes
            if isinstance(network.get_submodule(name), SpikingNeuron)
        ),
    )


def _connection(
    network: SpikingNetwork, name: str, sources: int, targets: int, operations: float
) -> ConnectionWork:
    module = network.get_submodule(name)
    assert isinstance(module, nn.Conv2d | nn.Linear)
    weights = module.weight
    is_analog = name == STEM or not network.spikes
    return ConnectionWork(
        name=name,
        weights=weights.numel(),
        sources=sources,
        targets=targets,
        synops=0.0 if is_analog else operations,
        macs=operations if is_analog else 0.0,
        twin_macs=float(targets * weights[0].numel()),
    )
