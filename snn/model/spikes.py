"""What counts as a spike; counts of spikes and of synaptic operations.

Every binary output counts, per sample and summed over T: those of each spiking neuron (stem, the neurons of
a block, pooling neurons, all 10 * K voting neurons of the head) and of each max-pool. An identity skip adds
none. This is the official code's definition.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from snn.model.blocks import MaxPool
from snn.model.neuron import SpikingNeuron

STEM = "stem.conv"
"""Name of the first convolution, whose input is analog."""


class SpikeRecord:
    """Spikes of each counted module in its last forward pass, since creation or the last `clear`.

    Attributes:
        counts: For each counted module, by its name in the network, spikes per time step and sample,
            [T, N]; on the device of the network.
        neurons: For each counted module, its number of binary outputs per sample and time step.
    """

    def __init__(self) -> None:
        self.counts: dict[str, Tensor] = {}
        self.neurons: dict[str, int] = {}

    def per_sample(self) -> Tensor:
        """Spikes of each sample, summed over T and all counted modules, [N]."""
        return torch.stack([counts.sum(0) for counts in self.counts.values()]).sum(0)

    def firing_rate(self) -> Tensor:
        """Spikes per counted neuron and time step, in [0, 1]; a scalar."""
        time_steps = len(next(iter(self.counts.values())))
        return self.per_sample().mean() / (sum(self.neurons.values()) * time_steps)

    def clear(self) -> None:
        self.counts.clear()
        self.neurons.clear()


@contextmanager
def record_spikes(network: nn.Module, *, gradients: bool = False) -> Iterator[SpikeRecord]:
    """Records the spikes of `network` while open; a forward pass overwrites what its modules recorded.

    With `gradients` the counts are differentiable, through the neurons' surrogate.
    """
    record = SpikeRecord()
    handles = count_into(record, network, gradients=gradients)
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


def count_into(record: SpikeRecord, network: nn.Module, *, gradients: bool = False) -> list[RemovableHandle]:
    """Makes every forward pass of a counted module write into `record`, until the handles are removed.

    Of a network with ReLU, the activations above 0 count.
    """
    neurons = [module for module in network.modules() if isinstance(module, SpikingNeuron)]
    activations = not gradients and any(neuron.kind == "ReLU" for neuron in neurons)

    def hook(name: str) -> Any:
        def count(_module: nn.Module, _inputs: Any, spikes: Tensor) -> None:
            feature_dims = tuple(range(2, spikes.dim()))  # flattening channels-last planes would copy them
            counted = spikes if gradients else spikes.detach()
            if activations:
                counted = counted != 0
            record.counts[name] = counted.sum(feature_dims, dtype=torch.float32)
            record.neurons[name] = spikes[0, 0].numel()

        return count

    return [
        module.register_forward_hook(hook(name))
        for name, module in network.named_modules()
        if isinstance(module, SpikingNeuron | MaxPool)
    ]


def part_of(module_name: str) -> str:
    """The part of the network a counted module belongs to: stem, layer0, pool0, ..., head."""
    first, _, rest = module_name.partition(".")
    if first == "body":
        return rest.split(".")[0]
    return {"stem_neuron": "stem", "head_neuron": "head"}.get(first, first)


class OperationRecord:
    """Operations of each sample in a network's last forward pass.

    Attributes:
        counts: For each convolution and linear layer, by its name, those of each sample, float64 [N].
        analog: Names of those whose input is no spikes.
    """

    def __init__(self) -> None:
        self.counts: dict[str, Tensor] = {}
        self.analog: set[str] = set()

    @property
    def synops(self) -> Tensor:
        """Synaptic operations of each sample, [N].

        Of the convolutions and linear layers with spike inputs: for each input spike the number of outputs
        it actually reaches (fewer at the border).
        """
        return torch.stack([it * (name not in self.analog) for name, it in self.counts.items()]).sum(0)

    @property
    def macs(self) -> Tensor:
        """Multiply-accumulates of each sample, [N].

        Of the stem, whose input is analog; a static image needs them once. Of all layers of a network with
        ReLU.
        """
        return torch.stack([self.counts[name] for name in self.analog]).sum(0)


@contextmanager
def record_operations(network: nn.Module) -> Iterator[OperationRecord]:
    """Records the operations of `network` while open; a forward pass overwrites those of the one before."""
    record, num_samples = OperationRecord(), 0
    spiking = getattr(network, "spikes", True)

    def begin(_network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal num_samples
        num_samples = inputs[0].shape[0 if inputs[0].dim() == 4 else 1]
        record.counts.clear()
        record.analog.clear()

    def hook(name: str) -> Any:
        def count(module: nn.Conv2d | nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            x = inputs[0].detach()
            if name == STEM or not spiking:
                record.analog.add(name)
                each = output.flatten(0, 1) if isinstance(module, nn.Linear) else output
                macs = each[0].numel() * module.weight[0].numel()
                operations = torch.full((len(each),), float(macs), dtype=torch.float64)
            elif isinstance(module, nn.Linear):
                operations = x.sum(2, dtype=torch.float64) * module.out_features
            else:
                per_position = x.sum(1, dtype=torch.float64)
                operations = (per_position * _fan_out(module, x, output)).sum((1, 2))
            record.counts[name] = operations.reshape(-1, num_samples).sum(0).cpu()  # over the time steps

        return count

    handles = [network.register_forward_pre_hook(begin)]
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            handles.append(module.register_forward_hook(hook(name)))
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


def _fan_out(module: nn.Conv2d, x: Tensor, output: Tensor) -> Tensor:
    """Fan-out of one channel's inputs: the number of outputs that each pixel reaches, [H, W]."""
    ones = torch.ones(1, 1, *output.shape[-2:], dtype=torch.float64, device=x.device)
    kernel = torch.ones(1, 1, *module.kernel_size, dtype=torch.float64, device=x.device)
    stride, padding, sides = module.stride[0], int(module.padding[0]), tuple(x.shape[-2:])
    output_padding = [
        side - ((out - 1) * stride - 2 * padding + module.kernel_size[0])
        for side, out in zip(sides, output.shape[-2:], strict=True)
    ]
    reached = F.conv_transpose2d(ones, kernel, stride=stride, padding=padding, output_padding=output_padding)
    return reached[0, 0] * module.out_channels
