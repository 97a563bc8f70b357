"""Which paths of a super-network a training step takes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from snn.options import PathSampling
from snn.search_space import Architecture, SearchSpace

NextPaths = Callable[[random.Random], Sequence[Architecture]]


def path_sampler(sampling: PathSampling, space: SearchSpace) -> NextPaths:
    """How the paths of a step are drawn.

    `uniform` takes one path, each block with the same probability (paper section 4.2). `fair` takes as many
    paths as there are candidate blocks, so that each block of each layer is trained exactly once a step
    (FairNAS, Chu et al. 2019, algorithm 1). `sandwich` takes the paths of the first and of the last candidate
    block and two uniform ones (after the sandwich rule of Yu and Huang 2019).

    Args:
        sampling: The rule.
        space: The candidate blocks.
    """
    return {"uniform": _uniform, "fair": _fair, "sandwich": _sandwich}[sampling](space)


def num_paths(sampling: PathSampling, space: SearchSpace) -> int:
    """Paths of a step; a step costs as many forward and backward passes."""
    return len(path_sampler(sampling, space)(random.Random(0)))


def _uniform(space: SearchSpace) -> NextPaths:
    return lambda rng: (space.sample(rng),)


def _fair(space: SearchSpace) -> NextPaths:
    def next_paths(rng: random.Random) -> Sequence[Architecture]:
        layers = [rng.sample(space.blocks, len(space.blocks)) for _ in range(space.num_layers)]
        return [Architecture(blocks) for blocks in zip(*layers, strict=True)]

    return next_paths


def _sandwich(space: SearchSpace) -> NextPaths:
    ends = [Architecture((block,) * space.num_layers) for block in (space.blocks[0], space.blocks[-1])]
    return lambda rng: (*ends, space.sample(rng), space.sample(rng))
