"""The spiking network: stem, searched layers, voting head. Super-network and child are one class.

Dimensions: T time steps, N batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snn.model.blocks import (
    ConvNorm,
    SpikingAveragePool,
    fire,
    make_block,
    make_pool,
    over_time,
    split_time,
)
from snn.model.neuron import SpikingNeuron
from snn.model.spike_conv import SpikeConv2d
from snn.model.stepwise_norm import normalise_stepwise
from snn.options import MomentsName, NeuronName
from snn.search_space import Architecture, Backbone, Pool, PoolName, SearchedLayer

VOTERS_PER_CLASS = 10


class SpikingNetwork(nn.Module):
    """A spiking network with one or more candidate blocks in each searched layer.

    With several candidates per layer it is the weight-sharing super-network (supernet) of one-shot NAS,
    with one per layer it is a child. The path is an argument of `forward`, which neither samples paths,
    counts spikes nor keeps state.

    Static images [N, C, H, W] use direct encoding: stem convolution and batch norm run once, and the
    same current drives the stem neuron at each of T time steps. Event frames are [T, N, C, H, W].

    Args:
        backbone: Macro-architecture.
        candidates: Names of the candidate blocks of each searched layer.
        input_shape: (C, H, W) of a sample or frame.
        num_classes: K, number of classes.
        time_steps: T, number of time steps for which a static image is presented.
        neuron: Neuron model; `v_threshold` and `init_tau` are its parameters.
        moments: Whether batch norm, in training, takes its moments over the sequence or at each time step.

    Attributes:
        spikes: Whether it is a spiking network; with ReLU it is not.

    Raises:
        ValueError: T is below 1, the input is too small for the backbone, or `candidates` and the backbone
            differ in their number of layers.
    """

    def __init__(
        self,
        backbone: Backbone,
        candidates: Sequence[Sequence[str]],
        *,
        input_shape: tuple[int, int, int],
        num_classes: int,
        time_steps: int,
        neuron: NeuronName = "PLIF",
        v_threshold: float = 1.0,
        init_tau: float = 2.0,
        moments: MomentsName = "sequence",
    ) -> None:
        super().__init__()
        if time_steps < 1:
            raise ValueError(f"time_steps must be at least 1, got {time_steps}.")
        if len(candidates) != len(backbone.layers):
            raise ValueError(
                f"{backbone.name} has {len(backbone.layers)} searched layers, "
                f"got candidates for {len(candidates)}."
            )
        in_channels, height, width = input_shape
        head_size = backbone.head_size(height, width)
        if min(head_size) < 1:
            raise ValueError(
                f"An input of {height}x{width} is too small for {backbone.name} with the "
                f"'{backbone.stem}' stem: its feature maps shrink to nothing before the head."
            )

        def make_neuron() -> SpikingNeuron:
            return SpikingNeuron(neuron, v_threshold=v_threshold, init_tau=init_tau)

        self.backbone = backbone
        self.input_shape = input_shape
        self.time_steps = time_steps
        self.num_classes = num_classes
        channels = backbone.stem_channels
        self.stem = ConvNorm(in_channels, channels, 3, analog=True)
        self.stem_neuron = make_neuron()
        self.stem_reduction = nn.ModuleDict()
        stem_pool: PoolName = "strided" if backbone.name == "AutoSNN_deploy" else "max"
        if backbone.stem != "image":
            self.stem_reduction["pool0"] = make_pool(Pool("pool0", stem_pool, channels), make_neuron)
            self.stem_reduction["conv0"] = ConvNorm(channels, channels, 3)
            self.stem_reduction["neuron0"] = make_neuron()
        if backbone.stem == "event":
            self.stem_reduction["pool1"] = make_pool(Pool("pool1", stem_pool, channels), make_neuron)

        self.body = nn.ModuleDict()
        remaining = iter(candidates)
        for part in backbone.body:
            if isinstance(part, SearchedLayer):
                blocks = {name: make_block(name, part, make_neuron) for name in next(remaining)}
                self.body[part.name] = nn.ModuleDict(blocks)
            else:
                self.body[part.name] = make_pool(part, make_neuron)
        features = backbone.layers[-1].out_channels
        if backbone.spiking_global_pool:
            self.global_pool: nn.Module = SpikingAveragePool(None, make_neuron)
        else:
            self.global_pool = nn.Identity()
            features *= head_size[0] * head_size[1]
        self.head = nn.Linear(features, VOTERS_PER_CLASS * num_classes, bias=False)
        self.head_neuron = make_neuron()
        self.spikes = neuron != "ReLU"
        for module in self.modules():
            if isinstance(module, SpikeConv2d):
                module.binary = self.spikes
        self.moments = moments
        if moments == "time_step":
            normalise_stepwise(self, time_steps)

    def forward(self, x: Tensor, architecture: Architecture) -> Tensor:
        """Votes of each class at each time step, [T, N, K] in [0, 1].

        Args:
            x: Static images [N, C, H, W] or event frames [T, N, C, H, W].
            architecture: The path: one block per searched layer, each among that layer's candidates.
        """
        spikes = self.encode(x)
        blocks = iter(architecture.blocks)
        for part in self.body.values():
            spikes = part[next(blocks)](spikes) if isinstance(part, nn.ModuleDict) else part(spikes)
        return self.decide(spikes)

    def encode(self, x: Tensor) -> Tensor:
        """Spikes of the stem, [T, N, C, H, W]."""
        if x.dim() == 4 and self.training and self.moments == "time_step":
            current = self.stem.conv(x)
            repeated = current.expand(self.time_steps, *current.shape)
            spikes: Tensor = self.stem_neuron(over_time(self.stem.norm, repeated))
        elif x.dim() == 4:
            current = self.stem.conv(x)[None]
            spikes = self.stem_neuron(current, norm=self.stem.norm, time_steps=self.time_steps)
        else:
            spikes = fire(self.stem_neuron, self.stem, x)
        for name, part in self.stem_reduction.items():
            if isinstance(part, ConvNorm):
                neuron = self.stem_reduction["neuron0"]
                assert isinstance(neuron, SpikingNeuron)
                spikes = fire(neuron, part, spikes)
            elif name != "neuron0":
                spikes = part(spikes)
        return spikes

    def decide(self, spikes: Tensor) -> Tensor:
        """Votes [T, N, K]: for each class the mean output of its 10 voters (with ReLU, logits)."""
        features_TNF = self.global_pool(spikes).flatten(2)
        voters: Tensor = self.head(features_TNF)
        if self.spikes:
            voters = self.head_neuron(voters)
        return torch.unflatten(voters, 2, (self.num_classes, VOTERS_PER_CLASS)).mean(3)

    def count_votes(self, votes_TNK: Tensor) -> Tensor:
        """What decides the class, [N, K]: `vote_counts`, or with ReLU the sum of the logits over time."""
        return vote_counts(votes_TNK) if self.spikes else votes_TNK.float().sum(0)


def firing_rates(votes_TNK: Tensor) -> Tensor:
    """Firing rate of each class, its mean vote over the time steps, [N, K] in [0, 1]."""
    return votes_TNK.mean(0)


def vote_counts(votes_TNK: Tensor) -> Tensor:
    """Spikes of each class's voters over all time steps, [N, K]; whole numbers, so that ties are exact."""
    return (votes_TNK.float() * VOTERS_PER_CLASS).round().sum(0)


def predictions(votes_TNK: Tensor) -> Tensor:
    """Predicted class [N], the one with most votes; the first on a tie."""
    return vote_counts(votes_TNK).argmax(1)


def child_weights(weights: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """The state dict of a child: the entries of a super-network's state dict that its architecture uses."""
    blocks = {f"layer{i}": block for i, block in enumerate(architecture.blocks)}
    selected = {}
    for name, value in weights.items():
        path = name.split(".")  # body.LAYER.BLOCK.*
        if path[0] != "body" or path[1] not in blocks or blocks[path[1]] == path[2]:
            selected[name] = value
    return selected


def num_parameters(network: nn.Module) -> int:
    """Number of learnable parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


@dataclass(frozen=True)
class ParameterCounts:
    """Learnable parameters of a super-network.

    Attributes:
        common: Of the parts on every path.
        blocks: Of each searched layer's blocks, by name.
    """

    common: int
    blocks: tuple[dict[str, int], ...]

    def of(self, architecture: Architecture) -> int:
        """Those on the path of an architecture: of its network by itself."""
        chosen = zip(self.blocks, architecture.blocks, strict=True)
        return self.common + sum(numbers[block] for numbers, block in chosen)


def count_parameters(network: SpikingNetwork) -> ParameterCounts:
    """Counts a super-network's parameters, block by block; it may be on the meta device."""
    layers = [part for part in network.body.values() if isinstance(part, nn.ModuleDict)]
    blocks = tuple({name: num_parameters(block) for name, block in layer.items()} for layer in layers)
    searched = sum(sum(numbers.values()) for numbers in blocks)
    return ParameterCounts(num_parameters(network) - searched, blocks)


def to_memory_format(x: Tensor) -> Tensor:
    """Converts images or frames to channels-last, in which convolutions with few channels run faster."""
    if x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    return split_time(x.flatten(0, 1).contiguous(memory_format=torch.channels_last), x.shape[0])
