"""Candidate blocks (the candidate operations of the search), pooling layers, and their construction by name.

Every module maps a spike sequence [T, N, C, H, W] to a spike sequence. Convolution, batch norm and pooling
have no temporal state: they run once over all T * N samples.
Differs from the official code: in training, batch norm computes its statistics over T and N together
instead of at each time step. With stored statistics both give the same result.

Dimensions: T time steps, N batch, C channels, H height, W width.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn.model.neuron import SpikingNeuron
from snn.model.spike_conv import SpikeConv2d
from snn.model.spike_pool import max_pool
from snn.search_space import ALL_BLOCKS, Pool, SearchedLayer, check_block

MakeNeuron = Callable[[], SpikingNeuron]


def over_time(module: nn.Module, x_TNCHW: Tensor) -> Tensor:
    """Applies a module without temporal state to all T * N samples at once."""
    return split_time(module(x_TNCHW.flatten(0, 1)), x_TNCHW.shape[0])


def split_time(x: Tensor, time_steps: int) -> Tensor:
    """Undoes the flattening of T and N: [T * N, *] to [T, N, *]."""
    return torch.unflatten(x, 0, (time_steps, -1))


class ConvNorm(nn.Sequential):
    """Bias-free convolution, size-preserving at stride 1, then batch norm; on [M, C, H, W].

    The input is binary spikes unless `analog` is set.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, analog: bool = False
    ) -> None:
        super().__init__()
        padding = (kernel_size - 1) // 2
        conv_type = nn.Conv2d if analog else SpikeConv2d
        self.conv = conv_type(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)


def fire(
    neuron: SpikingNeuron, layer: ConvNorm | SkipConnection, x_TNCHW: Tensor, added_T: Tensor | None = None
) -> Tensor:
    """Spikes of neurons behind a layer's convolution and batch norm, and behind what is added to them."""
    spikes: Tensor = neuron(over_time(layer.conv, x_TNCHW), norm=layer.norm, added_T=added_T)
    return spikes


class SpikingConvBlock(nn.Module):
    """SCB_k, spiking convolution block: k x k convolution + BN + neuron, twice."""

    def __init__(self, layer: SearchedLayer, kernel_size: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.conv1 = ConvNorm(layer.in_channels, layer.out_channels, kernel_size, layer.stride)
        self.neuron1 = make_neuron()
        self.conv2 = ConvNorm(layer.out_channels, layer.out_channels, kernel_size)
        self.neuron2 = make_neuron()

    def forward(self, x_TNCHW: Tensor) -> Tensor:
        return fire(self.neuron2, self.conv2, fire(self.neuron1, self.conv1, x_TNCHW))


class SpikingResidualBlock(nn.Module):
    """SRB_k, spiking residual block: SCB_k with a shortcut added before the second neuron.

    Outputs stay binary, because the shortcut adds to the neuron's input current.
    """

    def __init__(self, layer: SearchedLayer, kernel_size: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.conv1 = ConvNorm(layer.in_channels, layer.out_channels, kernel_size, layer.stride)
        self.neuron1 = make_neuron()
        self.conv2 = ConvNorm(layer.out_channels, layer.out_channels, kernel_size)
        self.shortcut = _shortcut(layer)
        self.neuron2 = make_neuron()

    def forward(self, x_TNCHW: Tensor) -> Tensor:
        hidden = fire(self.neuron1, self.conv1, x_TNCHW)
        return fire(self.neuron2, self.conv2, hidden, over_time(self.shortcut, x_TNCHW))


class SpikingInvertedBottleneck(nn.Module):
    """SIB_k_e, spiking inverted bottleneck: 1x1 expansion by e, k x k, 1x1 projection, each + BN + neuron.

    A shortcut is added before the last neuron. The k x k convolution is a full one, not depthwise, as in
    the official code.
    """

    def __init__(
        self, layer: SearchedLayer, kernel_size: int, expansion: int, make_neuron: MakeNeuron
    ) -> None:
        super().__init__()
        width = layer.in_channels * expansion
        self.conv1 = ConvNorm(layer.in_channels, width, 1)
        self.neuron1 = make_neuron()
        self.conv2 = ConvNorm(width, width, kernel_size, layer.stride)
        self.neuron2 = make_neuron()
        self.conv3 = ConvNorm(width, layer.out_channels, 1)
        self.shortcut = _shortcut(layer)
        self.neuron3 = make_neuron()

    def forward(self, x_TNCHW: Tensor) -> Tensor:
        hidden = fire(self.neuron2, self.conv2, fire(self.neuron1, self.conv1, x_TNCHW))
        return fire(self.neuron3, self.conv3, hidden, over_time(self.shortcut, x_TNCHW))


class SkipConnection(nn.Module):
    """skip_connect where channels or resolution change: 1x1 convolution + BN + neuron.

    At stride 2 the convolution is a ShiftedReduction.
    """

    def __init__(self, layer: SearchedLayer, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.conv: nn.Conv2d | ShiftedReduction
        if layer.stride == 1:
            self.conv = SpikeConv2d(layer.in_channels, layer.out_channels, 1, bias=False)
        else:
            self.conv = ShiftedReduction(layer.in_channels, layer.out_channels)
        self.norm = nn.BatchNorm2d(layer.out_channels)
        self.neuron1 = make_neuron()

    def forward(self, x_TNCHW: Tensor) -> Tensor:
        return fire(self.neuron1, self, x_TNCHW)


class MaxPool(nn.Module):
    """2x2 max-pooling of spikes; its outputs are binary and count as spikes."""

    def forward(self, x_TNCHW: Tensor) -> Tensor:
        return split_time(max_pool(x_TNCHW.flatten(0, 1)), x_TNCHW.shape[0])


class StridedPool(nn.Module):
    """Convolution of 2x2 pixels with stride 2 + BN + neuron, in the place of a pool."""

    def __init__(self, channels: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels, 2, 2)
        self.neuron1 = make_neuron()

    def forward(self, x_TNCHW: Tensor) -> Tensor:
        return fire(self.neuron1, self.conv1, x_TNCHW)


class SpikingAveragePool(nn.Module):
    """Average pooling, then a spiking neuron; `size` None is global average pooling (SNN_2)."""

    def __init__(self, size: int | None, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.size = size
        self.neuron1 = make_neuron()

    def forward(self, x_TNCHW: Tensor) -> Tensor:
        x = x_TNCHW.flatten(0, 1)
        pooled = F.adaptive_avg_pool2d(x, 1) if self.size is None else F.avg_pool2d(x, self.size)
        spikes: Tensor = self.neuron1(split_time(pooled, x_TNCHW.shape[0]))
        return spikes


class ShiftedReduction(nn.Module):
    """Halves the resolution with two 1x1 stride-2 convolutions, concatenated along the channels.

    The first sees pixel (0, 0) of each 2x2 patch, the second, whose input is shifted by one, pixel (1, 1).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.conv2 = nn.Conv2d(in_channels, out_channels - out_channels // 2, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        return torch.cat([self.conv1(x), self.conv2(shifted)], dim=1)


def _shortcut(layer: SearchedLayer) -> nn.Module:
    if layer.stride == 1 and layer.in_channels == layer.out_channels:
        return nn.Identity()
    return ConvNorm(layer.in_channels, layer.out_channels, 1, layer.stride)


def make_pool(pool: Pool, make_neuron: MakeNeuron) -> nn.Module:
    """Builds a pooling layer of the backbone."""
    if pool.kind == "strided":
        return StridedPool(pool.channels, make_neuron)
    return MaxPool() if pool.kind == "max" else SpikingAveragePool(2, make_neuron)


def make_block(name: str, layer: SearchedLayer, make_neuron: MakeNeuron) -> nn.Module:
    """Builds a candidate block for a searched layer.

    Raises:
        ValueError: Unknown block name.
    """
    check_block(name)
    if name == "skip_connect":
        identity = layer.stride == 1 and layer.in_channels == layer.out_channels
        return nn.Identity() if identity else SkipConnection(layer, make_neuron)
    kind, kernel_size, expansion = read_block_name(name)
    if kind == "SCB":
        return SpikingConvBlock(layer, kernel_size, make_neuron)
    if kind == "SRB":
        return SpikingResidualBlock(layer, kernel_size, make_neuron)
    return SpikingInvertedBottleneck(layer, kernel_size, expansion, make_neuron)


def read_block_name(name: str) -> tuple[str, int, int]:
    """Kind, kernel size and expansion (1 if it has none) of a candidate block with convolutions."""
    match = re.fullmatch(r"(SCB|SRB|SIB)_k(\d)(?:_e(\d))?", name)
    assert match, f"{name} is in ALL_BLOCKS but has no module: {ALL_BLOCKS}"
    return match[1], int(match[2]), int(match[3] or 1)
