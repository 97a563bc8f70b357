"""A network of stock parts, for comparison: torch's layers and spikingjelly's neurons over all time steps."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from snn.model.blocks import MaxPool
from snn.model.network import SpikingNetwork
from snn.model.neuron import SpikingNeuron, input_currents
from snn.model.spike_conv import SpikeConv2d


class _StockNeuron(SpikingNeuron):
    """spikingjelly's multi-step node behind torch's batch norm."""

    def forward(self, *currents: Any, **more: Any) -> Tensor:
        return self.spikingjelly_forward(input_currents(*currents, **more))


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
