"""Event-driven convolution of spikes for training on CPUs: zeros in the input cost nothing.

Two of the three parts of a convolution's training step read the sparse input spikes: the output and the
weight gradient. The input gradient is dense, because the surrogate gradient is nowhere zero; Winograd's
filtering multiplies less for it.

Dimensions: M samples times time steps, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from snn.kernels import calls as kernels
from snn.kernels import winograd
from snn.kernels.layout import (
    LANES,
    MAX_CHANNELS,
    MAX_SIZE,
    Connection,
    Layer,
    SpikeLists,
    aligned_zeros,
    kernel_layout,
    workspace,
)
from snn.kernels.library import is_available
from snn.kernels.threads import in_threads, shares

# Firing rates of the input above which a dense convolution is as fast, by kernel size for at least so many
# output channels; measured, forward and weight gradient (planes of 8 to 32 pixels, AVX-512, 2 cores). The
# same on every machine, as the choice changes rounding.
_MAX_FIRING_RATES = {1: {64: 0.1}, 3: {8: 0.09, 24: 0.17, 64: 0.25}, 5: {8: 0.2, 32: 0.25}}
# Winograd's tiles from which on it is faster than a dense convolution: how many there are, and how much of
# them lies inside of the planes; measured (kernels of 3 and 5, 16 to 256 channels, planes of 1 to 34 pixels,
# AVX-512 and AVX2, 1 core). The same on every machine too.
_MIN_TILES = 64
_MIN_FILLED = 0.5


class SpikeConv2d(nn.Conv2d):
    """A torch.nn.Conv2d for binary spikes that trains faster on a CPU.

    Outputs and gradients equal Conv2d's up to rounding. Where the event-driven form does not apply (GPU,
    other dtypes or memory formats, strides, planes too large for a spike's 32 bits, high firing rates,
    gradients disabled, no C compiler), the layer falls back to Conv2d.

    Attributes:
        binary: Whether its input is spikes; of other input it is a Conv2d.
    """

    binary = True

    def forward(self, x: Tensor) -> Tensor:
        if not self._applies(x):
            return super().forward(x)
        lists = _spike_lists(x, max_firing_rate(self.kernel_size[0], self.out_channels))
        if lists is None:
            return super().forward(x)
        out: Tensor = _EventConv.apply(x, self.weight, lists, self.padding[0])
        return out

    def _applies(self, x: Tensor) -> bool:
        return (
            self.binary
            and torch.is_grad_enabled()
            and x.device.type == "cpu"
            and x.dtype == torch.float32
            and self.bias is None
            and self.stride == (1, 1)
            and self.out_channels % LANES == 0
            and max_firing_rate(self.kernel_size[0], self.out_channels) > 0
            and max(x.shape[2:]) <= MAX_SIZE
            and self.in_channels <= MAX_CHANNELS
            and x.is_contiguous(memory_format=torch.channels_last)
            and is_available()
        )


def max_firing_rate(kernel_size: int, out_channels: int) -> float:
    """Firing rate of the input up to which the event-driven form of a convolution is faster; 0 if never."""
    known = max((size for size in _MAX_FIRING_RATES if size <= kernel_size), default=0)
    rates = _MAX_FIRING_RATES.get(known, {})
    return max((rate for channels, rate in rates.items() if channels <= out_channels), default=0.0)


class _EventConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, lists: list[SpikeLists], padding: int) -> Tensor:
        height, width = (side + 2 * padding - weight.shape[2] + 1 for side in x.shape[2:])
        layer = _layer(weight, (height, width), padding)
        out = x.new_empty(len(x), height, width, len(weight))
        planes: NDArray[np.float32] = out.numpy()
        in_threads(partial(kernels.convolve, layer), lists, _shares(planes))
        ctx.save_for_backward(weight)
        ctx.lists, ctx.layer, ctx.padding = lists, layer, padding
        return out.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (weight,) = ctx.saved_tensors
        out_gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        x_gradient = weight_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = _input_gradient(weight, out_gradient, ctx.padding)
        if ctx.needs_input_grad[1]:
            weight_gradient = _weight_gradient(ctx.layer, ctx.lists, out_gradient)
        return x_gradient, weight_gradient, None, None


def winograd_pays(num_planes: int, size: tuple[int, int]) -> bool:
    """Whether a convolution to planes of this height and width is faster by Winograd's filtering."""
    down, across = (-(-side // winograd.TILE) for side in size)
    filled = size[0] * size[1] / (down * across * winograd.TILE**2)
    enough = num_planes * down * across >= _MIN_TILES
    return min(size) >= winograd.TILE and filled >= _MIN_FILLED and enough


def _input_gradient(weight: Tensor, out_gradient: Tensor, padding: int) -> Tensor:
    """The gradient of the input, a convolution of the output's gradient with the turned kernels."""
    turned = weight.flip(2, 3)
    padding = weight.shape[2] - 1 - padding
    num_planes, _, *size = out_gradient.shape
    if not (winograd.applies(weight.shape, padding) and winograd_pays(num_planes, (size[0], size[1]))):
        return F.conv2d(out_gradient, turned.transpose(0, 1), padding=padding)
    out = out_gradient.new_empty(num_planes, *size, weight.shape[1])
    planes, weights = out_gradient.permute(0, 2, 3, 1), turned.permute(2, 3, 0, 1).contiguous()
    winograd.convolve(planes.numpy(), weights.numpy(), out.numpy())
    return out.permute(0, 3, 1, 2)


def _weight_gradient(layer: Layer, lists: list[SpikeLists], out_gradient: Tensor) -> Tensor:
    planes: NDArray[np.float32] = out_gradient.permute(0, 2, 3, 1).numpy()
    weights = layer.connections[0].weights
    assert weights is not None
    sums = [aligned_zeros(weights.size, np.float32).reshape(weights.shape) for _ in lists]
    in_threads(partial(kernels.collect_gradient, layer), lists, _shares(planes), sums)
    total = np.sum(sums, axis=0) if len(sums) > 1 else sums[0]
    return torch.from_numpy(np.ascontiguousarray(total[:, :, ::-1].transpose(3, 0, 1, 2)))


def _layer(weight: Tensor, size: tuple[int, int], padding: int) -> Layer:
    """The convolution as a layer of the kernels, without neurons."""
    weights = kernel_layout(weight.detach().numpy())
    connection = Connection(weights, padding=padding, fan_out=len(weight))
    return Layer((len(weight), *size), np.zeros(len(weight), np.float32), 0.0, 1.0, (connection,))


def _spike_lists(x: Tensor, max_rate: float) -> list[SpikeLists] | None:
    """The spikes of each share of x, or None if in one of them more than `max_rate` of the neurons fire."""
    planes: NDArray[np.float32] = x.detach().permute(0, 2, 3, 1).numpy()

    def extract(part: NDArray[np.float32]) -> SpikeLists | None:
        capacity = int(part.size * max_rate) + part.shape[-1]
        lists = kernels.list_spikes(part, capacity, workspace(), "spikes")
        # The buffer is the next call's; what is kept for the backward pass takes no more than it needs.
        return lists and replace(
            lists, entries=lists.entries[: lists.count].copy(), offsets=lists.offsets.copy()
        )

    extracted = in_threads(extract, _shares(planes))
    lists = [part for part in extracted if part is not None]
    return lists if len(lists) == len(extracted) else None


def _shares(planes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [planes[share] for share in shares(len(planes))]
