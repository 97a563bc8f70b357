"""Batch norm that takes its moments at each time step by itself, as the official code does in training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class StepwiseBatchNorm2d(nn.BatchNorm2d):
    """Batch norm on [T * N, C, H, W], time step after time step.

    In training each time step is normalised with the moments of its own N samples, and the running
    statistics move T times. Otherwise it is torch.nn.BatchNorm2d.

    Args:
        num_features: C.
        time_steps: T.
    """

    def __init__(self, num_features: int, time_steps: int) -> None:
        super().__init__(num_features)
        self.time_steps = time_steps

    def forward(self, x: Tensor) -> Tensor:
        normalise = super().forward
        if not self.training:
            return normalise(x)
        return torch.cat([normalise(step) for step in x.chunk(self.time_steps)])


def normalise_stepwise(network: nn.Module, time_steps: int) -> None:
    """Replaces every new torch.nn.BatchNorm2d of a network by a StepwiseBatchNorm2d."""
    replace_norms(network, lambda norm: StepwiseBatchNorm2d(norm.num_features, time_steps))


def replace_norms(network: nn.Module, make: Callable[[nn.BatchNorm2d], nn.BatchNorm2d]) -> None:
    """Replaces every batch norm of a network by what `make` makes of it."""
    for module in list(network.modules()):
        for name, norm in module.named_children():
            if isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, make(norm))
