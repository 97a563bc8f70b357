"""The search space: backbones (macro-architectures) and the architectures they span.

Source: Na et al., "AutoSNN: Towards Energy-Efficient Spiking Neural Networks", ICML 2022,
sections 3 and 4 (arXiv 2201.12738).
"""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

# In the order of the official code, whose checkpoints store a block by its index here.
AUTOSNN_BLOCKS = ("skip_connect", "SCB_k3", "SCB_k5", "SRB_k3", "SRB_k5")
EXTRA_BLOCKS = (
    "SCB_k7",
    "SRB_k7",
    "SIB_k3_e1",
    "SIB_k3_e3",
    "SIB_k3_e6",
    "SIB_k5_e1",
    "SIB_k5_e3",
    "SIB_k5_e6",
)
ALL_BLOCKS = AUTOSNN_BLOCKS + EXTRA_BLOCKS

BackboneName = Literal["AutoSNN", "SNN_2", "SNN_3", "SNN_4", "AutoSNN_deploy"]
StemName = Literal["image", "tiny_imagenet", "event"]
PoolName = Literal["max", "spiking_average", "strided"]

STEM_POOLS: dict[StemName, int] = {"image": 0, "tiny_imagenet": 1, "event": 2}

# Results of the paper's searches on CIFAR-10 with AutoSNN_16, named by the lambda of the search.
REFERENCE_ARCHITECTURES = {
    "autosnn": "SRB_k5-SRB_k5-skip_connect-SRB_k3-SRB_k5",
    "autosnn_lambda_0": "SRB_k5-SRB_k5-SRB_k5-SCB_k5-SRB_k5",
    "autosnn_lambda_0.16": "SRB_k5-SRB_k5-skip_connect-SRB_k5-SRB_k5",
    "autosnn_lambda_0.24": "skip_connect-SRB_k5-skip_connect-SCB_k5-SRB_k5",
    "random_lambda_0": "SCB_k5-SCB_k5-SRB_k5-SCB_k5-SRB_k5",
    "random_lambda_0.08": "SRB_k5-SRB_k5-SRB_k3-SCB_k3-SRB_k5",
    "ann": "SRB_k5-SRB_k3-SCB_k3-SCB_k5-SRB_k5",
}


@dataclass(frozen=True)
class Architecture:
    """One choice per searched layer, from input to output.

    Attributes:
        blocks: Names of the chosen blocks, one per layer. `parse` accepts those of ALL_BLOCKS; a
            CategoricalSpace may have any.
    """

    blocks: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ValueError("An architecture needs at least one block, got none.")

    def __str__(self) -> str:
        return "-".join(self.blocks)

    @classmethod
    def parse(cls, text: str, num_layers: int | None = None) -> Architecture:
        """Parses the text form of an architecture, or the name of a reference architecture.

        Args:
            text: Blocks joined by "-" (`SRB_k5-skip_connect-SCB_k3`), `all-BLOCK` for the same block in
                every layer, or a key of REFERENCE_ARCHITECTURES.
            num_layers: Expected number of searched layers; required for `all-BLOCK`.

        Raises:
            ValueError: A block is unknown, or the number of blocks is not `num_layers`.
        """
        text = REFERENCE_ARCHITECTURES.get(text.strip(), text.strip())
        if text.startswith("all-"):
            if num_layers is None:
                raise ValueError(
                    f"Architecture {text!r:.60} needs a backbone, which sets the number of layers."
                )
            block = text.removeprefix("all-")
            check_block(block)
            return cls((block,) * num_layers)
        architecture = cls(tuple(text.split("-")))
        try:
            for block in architecture.blocks:
                check_block(block)
        except ValueError as error:
            names = ", ".join(REFERENCE_ARCHITECTURES)
            raise ValueError(
                f"Architecture {text!r:.60} cannot be read: {error} "
                f"Write one block per layer, joined by '-', or one of the names {names}."
            ) from error
        if num_layers is not None and len(architecture.blocks) != num_layers:
            raise ValueError(
                f"Architecture {text!r:.60} has {len(architecture.blocks)} blocks; "
                f"this backbone has {num_layers} searched layers."
            )
        return architecture


def check_block(block: str) -> None:
    """Raises ValueError unless `block` is a candidate block's name."""
    if block not in ALL_BLOCKS:
        raise ValueError(f"Unknown block {block!r:.60}; choose from: {', '.join(ALL_BLOCKS)}.")


@dataclass(frozen=True)
class SearchedLayer:
    """A layer whose block is searched (the paper's TBD): input and output channels, and stride."""

    name: str
    in_channels: int
    out_channels: int
    stride: int = 1


@dataclass(frozen=True)
class Pool:
    """A 2x2 pooling layer with stride 2; part of the backbone, not searched.

    Attributes:
        kind: "max" keeps spikes binary; "spiking_average" averages, then feeds a spiking neuron; "strided" is
            a convolution of stride 2 with batch norm and a spiking neuron.
    """

    name: str
    kind: PoolName
    channels: int


@dataclass(frozen=True)
class Backbone:
    """Macro-architecture: stem, searched layers and pools in order, then the voting head (paper table 1).

    Attributes:
        stem: "image" keeps the resolution, "tiny_imagenet" halves it once, "event" twice.
        stem_channels: Output channels of the stem (the paper's C).
        body: Searched layers and pools, from input to output.
        spiking_global_pool: Whether the body is followed by a global average pool and a spiking neuron
            (SNN_2).
    """

    name: BackboneName
    stem: StemName
    stem_channels: int
    body: tuple[SearchedLayer | Pool, ...]
    spiking_global_pool: bool

    @property
    def layers(self) -> tuple[SearchedLayer, ...]:
        """The searched layers, without the pools."""
        return tuple(part for part in self.body if isinstance(part, SearchedLayer))

    @property
    def cuts(self) -> tuple[int, ...]:
        """How many searched layers lie before each place between two parts of the body, pools included.

        The official code draws its crossover's cut from these places. So a cut right after a pool is the one
        before it once more, and one before a final pool leaves nothing to the second parent.
        """
        searched = [isinstance(part, SearchedLayer) for part in self.body]
        return tuple(sum(searched[:place]) for place in range(1, len(self.body)))

    def head_size(self, height: int, width: int) -> tuple[int, int]:
        """Size (H, W) of the feature maps that reach the head, for an input of `height` x `width`.

        Pools round down, stride-2 convolutions round up.
        """
        for _ in range(STEM_POOLS[self.stem]):
            height, width = height // 2, width // 2
        for part in self.body:
            if isinstance(part, Pool):
                height, width = height // 2, width // 2
            elif part.stride == 2:
                height, width = (height + 1) // 2, (width + 1) // 2
        return height, width


POOL_KINDS: dict[BackboneName, PoolName] = {"SNN_4": "spiking_average", "AutoSNN_deploy": "strided"}
"""Pools of the backbones' bodies that have no max-pools."""


def stem_for_size(height: int, width: int) -> StemName:
    """The stem that brings an input closest to 32x32, the resolution the body is designed for.

    Up to 48 pixels (CIFAR, digits, the 34x34 sensor of N-MNIST) the resolution is kept, up to 96 it is
    halved (Tiny-ImageNet), above 96 it is quartered (128x128 event sensors).
    """
    size = max(height, width)
    return "image" if size <= 48 else "tiny_imagenet" if size <= 96 else "event"


def make_backbone(name: BackboneName, *, channels: int, stem: StemName = "image") -> Backbone:
    """Builds one of the paper's backbones, or ours for chips.

    Args:
        name: "AutoSNN" (the paper's SNN_1), "SNN_2" (+ spiking global average pool), "SNN_3" (searched
            stride-2 layers instead of pools), "SNN_4" (average pool + neuron instead of max-pool). Ours:
            "AutoSNN_deploy" (strided convolutions instead of max-pools, which chips for spikes lack).
        channels: C, output channels of the stem, at least 1.
        stem: How the input is reduced to the body's resolution.
    """
    if channels < 1:
        raise ValueError(f"channels must be at least 1, got {channels}.")
    body = _strided_body(channels) if name == "SNN_3" else _pooled_body(name, channels)
    return Backbone(name, stem, channels, body, spiking_global_pool=name == "SNN_2")


def _pooled_body(name: BackboneName, c: int) -> tuple[SearchedLayer | Pool, ...]:
    kind = POOL_KINDS.get(name, "max")
    return (
        SearchedLayer("layer0", c, c),
        Pool("pool0", kind, c),
        SearchedLayer("layer1", c, 2 * c),
        SearchedLayer("layer2", 2 * c, 2 * c),
        Pool("pool1", kind, 2 * c),
        SearchedLayer("layer3", 2 * c, 4 * c),
        SearchedLayer("layer4", 4 * c, 4 * c),
        Pool("pool2", kind, 4 * c),
    )


def _strided_body(c: int) -> tuple[SearchedLayer, ...]:
    widths = (c, c, 2 * c, 2 * c, 2 * c, 4 * c, 4 * c, 4 * c, 8 * c)
    strides = (1, 2, 1, 1, 2, 1, 1, 2)
    return tuple(
        SearchedLayer(f"layer{i}", widths[i], widths[i + 1], stride) for i, stride in enumerate(strides)
    )


@dataclass(frozen=True)
class CategoricalSpace:
    """All architectures that take one of several choices in each layer.

    Attributes:
        choices: The choices of each layer, at least one and all different; their order defines an
            architecture's index.
        cuts: As in `Backbone.cuts`; empty if there is no backbone.
    """

    choices: tuple[tuple[str, ...], ...]
    cuts: tuple[int, ...] = field(default=(), compare=False, kw_only=True)

    def __post_init__(self) -> None:
        if not self.choices:
            raise ValueError("A search space needs at least one layer, got none.")
        for blocks in self.choices:
            if len(set(blocks)) != len(blocks) or not blocks:
                raise ValueError(f"blocks must be different from each other and not empty, got {blocks}.")

    @property
    def num_layers(self) -> int:
        """Number of searched layers."""
        return len(self.choices)

    def __len__(self) -> int:
        return math.prod(map(len, self.choices))

    def __contains__(self, architecture: Architecture) -> bool:
        blocks = architecture.blocks
        return len(blocks) == self.num_layers and all(map(operator.contains, self.choices, blocks))

    def __iter__(self) -> Iterator[Architecture]:
        return (self.at(index) for index in range(len(self)))

    def at(self, index: int) -> Architecture:
        """The architecture at an index in [0, len(self)); the first layer is the most significant digit."""
        if not 0 <= index < len(self):
            raise ValueError(f"index must be in [0, {len(self)}), got {index}.")
        blocks = []
        for choices in reversed(self.choices):
            index, digit = divmod(index, len(choices))
            blocks.append(choices[digit])
        return Architecture(tuple(reversed(blocks)))

    def index(self, architecture: Architecture) -> int:
        """The index of an architecture, the inverse of `at`."""
        if architecture not in self:
            raise ValueError(f"Architecture '{architecture}' is not in the search space: {self}.")
        index = 0
        for block, choices in zip(architecture.blocks, self.choices, strict=True):
            index = index * len(choices) + choices.index(block)
        return index

    def __str__(self) -> str:
        return " x ".join(f"({', '.join(choices)})" for choices in self.choices)

    def sample(self, rng: random.Random) -> Architecture:
        """Draws an architecture uniformly."""
        return Architecture(tuple(rng.choice(choices) for choices in self.choices))

    def mutate(self, parent: Architecture, probability: float, rng: random.Random) -> Architecture:
        """Changes each layer with `probability`, always to a different block (paper section 4.3)."""
        return Architecture(
            tuple(
                _other_block(choices, block, rng) if rng.random() < probability else block
                for choices, block in zip(self.choices, parent.blocks, strict=True)
            )
        )

    def crossover(
        self, first: Architecture, second: Architecture, rng: random.Random, *, official: bool = False
    ) -> Architecture:
        """One-point crossover: the first layers of one parent and the remaining ones of the other.

        Each parent contributes at least one layer, and every cut is as likely as another.

        Args:
            first: The parent of the first layers.
            second: The parent of the last layers.
            rng: Draws the cut.
            official: Draw it from `cuts`, as the official code does.
        """
        if self.num_layers == 1:
            return first
        cut = rng.choice(self.cuts) if official and self.cuts else rng.randrange(1, self.num_layers)
        return Architecture(first.blocks[:cut] + second.blocks[cut:])


def _other_block(choices: Sequence[str], block: str, rng: random.Random) -> str:
    others = [other for other in choices if other != block]
    return rng.choice(others) if others else block


class SearchSpace(CategoricalSpace):
    """All architectures of a backbone: one of `blocks` in each of `num_layers` layers.

    Args:
        num_layers: Number of searched layers, at least 1.
        blocks: Candidate blocks, the same in every layer; their order defines an architecture's index.
        cuts: As in CategoricalSpace.
    """

    def __init__(
        self, num_layers: int, blocks: tuple[str, ...] = AUTOSNN_BLOCKS, *, cuts: tuple[int, ...] = ()
    ) -> None:
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}.")
        for block in blocks:
            check_block(block)
        super().__init__((blocks,) * num_layers, cuts=cuts)

    @property
    def blocks(self) -> tuple[str, ...]:
        """The candidate blocks of every layer."""
        return self.choices[0]

    def __str__(self) -> str:
        return f"{self.num_layers} layers, each one of {', '.join(self.blocks)}"


def count_block_runs(architectures: Iterable[Architecture]) -> tuple[int, int]:
    """Block evaluations per sample for all architectures: (each distinct prefix once, separate)."""
    prefixes: set[tuple[str, ...]] = set()
    separate = 0
    for architecture in architectures:
        depth = len(architecture.blocks)
        separate += depth
        prefixes |= {architecture.blocks[: i + 1] for i in range(depth)}
    return len(prefixes), separate
