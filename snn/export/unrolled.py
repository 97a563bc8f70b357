"""A trained network in plain torch operations, its time steps written out: what compilers can take apart."""

# N samples, T time steps, K classes

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snn.engines.dense import folded
from snn.model.network import SpikingNetwork, vote_counts
from snn.model.neuron import SpikingNeuron, input_currents
from snn.search_space import Architecture


class Unrolled(nn.Module):
    """Maps inputs to classes and votes; equal to the network's up to rounding.

    Args:
        network: A child.
        architecture: Its architecture.
    """

    def __init__(self, network: SpikingNetwork, architecture: Architecture) -> None:
        super().__init__()
        self.network = folded(network).cpu()
        self.architecture = architecture
        for name, module in [*self.network.named_modules()]:
            if isinstance(module, SpikingNeuron):
                self.network.set_submodule(name, UnrolledNeuron(module))
        self.eval()

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Classes [N], int64, and votes [N, K], spikes of each class's voters, int64.

        Args:
            inputs: Images [N, C, H, W] or event frames [T, N, C, H, W], float32.
        """
        votes = vote_counts(self.network(inputs, self.architecture)).to(torch.int64)
        return votes.argmax(1), votes


class UnrolledNeuron(nn.Module):
    """A layer of neurons, for inference: the equations of `SpikingNeuron`, one operation after the other."""

    def __init__(self, neuron: SpikingNeuron) -> None:
        super().__init__()
        decay = neuron.decay()
        self.decay = 1.0 if decay is None else decay.item()
        self.leaks = decay is not None
        self.v_threshold = neuron.v_threshold

    def forward(self, *currents: Any, **more: Any) -> Tensor:
        """Spikes [T, *]; arguments as in `SpikingNeuron.forward`."""
        x_T = input_currents(*currents, **more)
        v: Tensor | None = None
        spikes = []
        for x in x_T.unbind(0):
            if v is None:
                h = x * self.decay if self.leaks else x
            else:
                h = v + (x - v) * self.decay if self.leaks else v + x
            s = (h >= self.v_threshold).to(x.dtype)
            v = h * (1.0 - s)
            spikes.append(s)
        return torch.stack(spikes)
