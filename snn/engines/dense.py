"""Dense inference in torch: folded batch norm, channels-last, any device; hooks count the spikes.

On CUDA the neurons are spikingjelly's fused ones. In bfloat16 spikes stay exact; weights and potentials are
rounded.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from snn.engines.folding import fold_norm, reduction_weight
from snn.engines.inference import Counts, Fired, Predicted
from snn.model.blocks import ConvNorm, ShiftedReduction, SkipConnection
from snn.model.network import SpikingNetwork, to_memory_format
from snn.model.spikes import SpikeRecord, count_into, part_of
from snn.options import Precision

# Increment when results change by more than rounding; cached evaluations of other versions are ignored.
DENSE_VERSION = 1


class DenseNetwork:
    """The dense form of a SpikingNetwork; implements `snn.engines.inference.InferenceNetwork`.

    Args:
        network: The network to evaluate, on the device it is to run on; it is copied.
        precision: Format of weights and potentials.
        norms_apart: Leave the batch norms of the body as they are.
    """

    def __init__(
        self, network: SpikingNetwork, *, precision: Precision = "float32", norms_apart: bool = False
    ) -> None:
        self.network = folded(network, norms_apart=norms_apart).to(getattr(torch, precision))
        self.dtype = getattr(torch, precision)
        self.time_steps = network.time_steps
        self.chunk_size = sys.maxsize
        self.device = network.head.weight.device
        self._record = SpikeRecord()
        count_into(self._record, self.network)

    def forks(self, number: int) -> list[Self]:
        """Only this network: torch has its own threads."""
        return [self]

    def encode(self, inputs: Tensor) -> Fired:
        return self._counted(self.network.encode(to_memory_format(inputs.to(self.dtype))))

    def run(self, part: str, block: str, spikes: Tensor) -> Fired:
        return self._counted(self._module(part, block)(spikes))

    def decide(self, spikes: Tensor) -> Predicted:
        votes = self.network.decide(spikes)
        return Predicted(self.network.count_votes(votes), self._counted(votes))

    def _module(self, part: str, block: str) -> nn.Module:
        module = self.network.body[part]
        return module[block] if isinstance(module, nn.ModuleDict) else module

    def _counted(self, spikes: Tensor) -> Fired:
        counts: Counts = {}
        for name, count in self._record.counts.items():
            counted, outputs = counts.get(part_of(name), (0, 0))
            count = count.sum(0, dtype=torch.float64)
            counts[part_of(name)] = (counted + count, outputs + self._record.neurons[name])
        self._record.clear()
        return Fired(spikes, counts)


Statistics = dict[nn.BatchNorm2d, tuple[Tensor, Tensor]]
"""Mean and variance of each channel, by the batch norm that they replace the stored ones of."""


class MeasuringDenseNetwork(DenseNetwork):
    """Implements `snn.engines.recalibration.MeasuringEngine`.

    Args:
        network: As for DenseNetwork; likewise `precision`. Batch norms stay in float32.
    """

    def __init__(self, network: SpikingNetwork, *, precision: Precision = "float32") -> None:
        super().__init__(network, precision=precision, norms_apart=True)
        for norm in _norms(self.network):
            norm.float()

    def measure(self, part: str, block: str, spikes: Tensor) -> tuple[Statistics, Tensor]:
        module = self._module(part, block)
        statistics: Statistics = {}
        norms = _norms(module)
        handles = [norm.register_forward_pre_hook(_measuring(statistics)) for norm in norms]
        for norm in norms:
            norm.train()  # it normalises with the statistics of its input
        following = module(spikes)
        for norm, handle in zip(norms, handles, strict=True):
            handle.remove()
            norm.eval()
        self._record.clear()
        return statistics, following

    def run_with(self, part: str, block: str, statistics: Statistics, spikes: Tensor) -> Fired:
        for norm, (mean, variance) in statistics.items():
            norm.running_mean, norm.running_var = mean, variance
        return self.run(part, block, spikes)


def _norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]


def _measuring(statistics: Statistics) -> Callable[[nn.BatchNorm2d, tuple[Tensor]], None]:
    """A hook that notes mean and variance of each channel of a norm's input."""

    def measure(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        variance, mean = torch.var_mean(inputs[0].float(), dim=(0, 2, 3), correction=0)
        statistics[norm] = (mean, variance)

    return measure


@torch.no_grad()
def folded(network: SpikingNetwork, *, norms_apart: bool = False) -> SpikingNetwork:
    """A channels-last copy in evaluation mode, with each batch norm folded into its convolution.

    With `norms_apart` those of the body are left as they are.
    """
    result = copy.deepcopy(network).eval().requires_grad_(False)
    kept = set(result.body.modules()) if norms_apart else set()
    for module in set(result.modules()) - kept:
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
