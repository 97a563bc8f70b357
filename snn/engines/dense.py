"""Dense inference in torch: folded batch norm, channels-last, any device; hooks count the spikes.

On CUDA the neurons are spikingjelly's fused ones. In bfloat16 spikes stay exact; weights and potentials are
rounded.
"""

from __future__ import annotations

import copy
import sys

import torch
from torch import Tensor, nn

from snn.engines.folding import fold_norm, reduction_weight
from snn.engines.inference import Counts, Fired, Predicted
from snn.model.blocks import ConvNorm, ShiftedReduction, SkipConnection
from snn.model.network import SpikingNetwork, predictions, to_memory_format
from snn.model.spikes import SpikeRecord, count_into, part_of
from snn.options import Precision

# Increment when results change by more than rounding; cached evaluations of other versions are ignored.
DENSE_VERSION = 1


class DenseNetwork:
    """The dense form of a SpikingNetwork; implements `snn.engines.inference.InferenceNetwork`.

    Args:
        network: The network to evaluate, on the device it is to run on; it is copied.
        precision: Format of weights and potentials.
    """

    def __init__(self, network: SpikingNetwork, *, precision: Precision = "float32") -> None:
        self.network = folded(network).to(getattr(torch, precision))
        self.dtype = getattr(torch, precision)
        self.time_steps = network.time_steps
        self.chunk_size = sys.maxsize
        self.device = network.head.weight.device
        self._record = SpikeRecord()
        count_into(self._record, self.network)

    def forks(self, _number: int) -> list[DenseNetwork]:
        """Only this network: torch has its own threads."""
        return [self]

    def encode(self, inputs: Tensor) -> Fired:
        return self._counted(self.network.encode(to_memory_format(inputs.to(self.dtype))))

    def run(self, part: str, block: str, spikes: Tensor) -> Fired:
        module = self.network.body[part]
        chosen = module[block] if isinstance(module, nn.ModuleDict) else module
        return self._counted(chosen(spikes))

    def decide(self, spikes: Tensor) -> Predicted:
        votes = self.network.decide(spikes)
        return Predicted(predictions(votes), self._counted(votes))

    def _counted(self, spikes: Tensor) -> Fired:
        counts: Counts = {}
        for name, count in self._record.counts.items():
            counted, outputs = counts.get(part_of(name), (0, 0))
            count = count.sum(dtype=torch.float64)
            counts[part_of(name)] = (counted + count, outputs + self._record.neurons[name])
        self._record.clear()
        return Fired(spikes, counts)


@torch.no_grad()
def folded(network: SpikingNetwork) -> SpikingNetwork:
    """A channels-last copy in evaluation mode, with each batch norm folded into its convolution."""
    result = copy.deepcopy(network).eval().requires_grad_(False)
    for module in result.modules():
        if isinstance(module, ConvNorm | SkipConnection) and isinstance(module.conv, nn.Conv2d):
            weight, bias = fold_norm(module.conv.weight, module.norm)
            _set_affine(module.conv, weight, bias)
            module.norm = nn.Identity()  # type: ignore[assignment]
        elif isinstance(module, SkipConnection):
            assert isinstance(module.conv, ShiftedReduction)
            weight, bias = fold_norm(reduction_weight(module.conv), module.norm)
            half = module.conv.conv1.out_channels
            _set_affine(module.conv.conv1, weight[:half, :, :1, :1], bias[:half])
            _set_affine(module.conv.conv2, weight[half:, :, 1:, 1:], bias[half:])
            module.norm = nn.Identity()  # type: ignore[assignment]
    return result.to(memory_format=torch.channels_last)


def _set_affine(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)
