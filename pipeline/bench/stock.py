"""A network of stock parts, for comparison: torch's layers and spikingjelly's neurons over all time steps."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn.model.blocks import MaxPool
from snn.model.network import SpikingNetwork
from snn.model.neuron import SpikingNeuron
from snn.model.spike_conv import SpikeConv2d


class _StockNeuron(SpikingNeuron):
    """spikingjelly's multi-step node behind torch's batch norm."""

    def forward(
        self,
        x_T: Tensor,
        *,
        norm: nn.BatchNorm2d | None = None,
        added_T: Tensor | None = None,
        time_steps: int | None = None,
    ) -> Tensor:
        if norm is not None:
            x_T = torch.unflatten(norm(x_T.flatten(0, 1)), 0, (len(x_T), -1))
        if time_steps is not None:
            x_T = x_T.expand(time_steps, *x_T.shape[1:])
        return self.spikingjelly_forward(x_T if added_T is None else x_T + added_T)


class _StockPool(MaxPool):
    def forward(self, x_TNCHW: Tensor) -> Tensor:
        return torch.unflatten(F.max_pool2d(x_TNCHW.flatten(0, 1), 2), 0, (len(x_TNCHW), -1))


def stock_copy(network: SpikingNetwork) -> SpikingNetwork:
    """A copy that computes the same with dense convolutions, torch's norms and spikingjelly's neurons."""
    result = copy.deepcopy(network)
    for module in result.modules():
        if isinstance(module, SpikingNeuron):
            module.__class__ = _StockNeuron
        elif isinstance(module, MaxPool):
            module.__class__ = _StockPool
        elif isinstance(module, SpikeConv2d):
            module.binary = False
    return result
