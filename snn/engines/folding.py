"""Folds batch norm into the preceding convolution: with stored statistics both are one affine map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snn.model.blocks import ShiftedReduction
from snn.model.neuron import SpikingNeuron


@torch.no_grad()
def fold_norm(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution equivalent to `weight` followed by `norm`.

        norm(x) = g * (x - mean) / sqrt(var + eps) + b

    Args:
        weight: [C_out, C_in, K_h, K_w], of a convolution without bias.
        norm: Batch norm with stored statistics.

    Returns:
        Both in float64, so that they are rounded only once, by the caller.
    """
    assert norm.running_mean is not None and norm.running_var is not None
    gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = norm.bias.double() - norm.running_mean.double() * gain
    return weight.double() * gain[:, None, None, None], bias


def reduction_weight(reduction: ShiftedReduction) -> Tensor:
    """[C_out, C_in, 2, 2]: the first half of the outputs sees pixel (0, 0) of each 2x2, the other (1, 1)."""
    first, second = reduction.conv1.weight, reduction.conv2.weight
    weight = first.new_zeros(len(first) + len(second), first.shape[1], 2, 2)
    weight[: len(first), :, 0, 0] = first[:, :, 0, 0]
    weight[len(first) :, :, 1, 1] = second[:, :, 0, 0]
    return weight


@torch.no_grad()
def gain_and_leak(neuron: SpikingNeuron) -> tuple[float, float]:
    """(d, l) of the neuron written as h_t = d * x_t + l * v_{t-1}; (1, 1) for IF, else l = 1 - d."""
    decay = neuron.decay()
    return (1.0, 1.0) if decay is None else (decay.double().item(), 1.0 - decay.double().item())
