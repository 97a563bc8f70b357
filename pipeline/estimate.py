"""How long an exhaustive search will take, before it starts."""

from __future__ import annotations

import math
import time

import torch

from pipeline.config import SearchConfig
from pipeline.formats import duration
from snn.inference import InferenceNetwork
from snn.search_space import Architecture, SearchSpace
from snn.training import SampleSet
from snn.trie import evaluate_architectures

# The paper's space has 3,125 architectures; with three blocks more a layer it would be 32,768.
LARGEST_EXHAUSTIVE = 20_000
_SAMPLES = 8


def check_size(space: SearchSpace, settings: SearchConfig, seconds: float | None) -> None:
    """Refuses an exhaustive search of a large space unless `max_evaluations` allows it by name.

    Args:
        space: What would be searched.
        settings: Of the search.
        seconds: Estimated length, where known.

    Raises:
        ValueError: The space is too large; the message says what it would take and what to do.
    """
    size = len(space)
    if size <= max(LARGEST_EXHAUSTIVE, settings.max_evaluations):
        return
    layers = [len(space.blocks) ** (depth + 1) for depth in range(space.num_layers)]
    time_text = "" if seconds is None else f", about {readable(seconds)} on the workers at hand"
    raise ValueError(
        f"search.algorithm is 'exhaustive', but the space has {size:,} architectures "
        f"({space.num_layers} layers of {len(space.blocks)} blocks): "
        f"{sum(layers):,} block evaluations per sample{time_text}. Use "
        "--search.algorithm evolution, fewer --network.blocks, or allow it with "
        f"--search.max-evaluations {size}."
    )


def readable(seconds: float) -> str:
    """A duration for a terminal, which breaks lines well enough by itself."""
    return duration(seconds).replace("\u00a0", " ")


def estimate_seconds(network: InferenceNetwork, space: SearchSpace, samples: SampleSet) -> float:
    """Seconds that one thread needs for a whole space, measured on a few samples and a few prefixes.

    All blocks in one layer, with the middle block everywhere else, take longer than one of them alone by
    what a block of this layer and all after it cost. The difference from layer to layer is what one layer
    costs; layer i runs once for each of its prefixes.
    """
    num_blocks = len(space.blocks)
    middle = (space.blocks[num_blocks // 2],)
    inputs, labels = samples.batch(samples.indices[:_SAMPLES], torch.device("cpu"))

    def measured(architectures: list[Architecture]) -> float:
        best = math.inf
        for _ in range(3):
            start = time.perf_counter()
            evaluate_architectures(network, architectures, [(inputs, labels)], num_threads=1)
            best = min(best, time.perf_counter() - start)
        return best

    one = measured([Architecture(middle * space.num_layers)])
    from_here_on = 0.0
    total = one
    for layer in reversed(range(space.num_layers)):
        after = middle * (space.num_layers - layer - 1)
        together = measured([Architecture((*middle * layer, block, *after)) for block in space.blocks])
        cost = (together - one) / max(1, num_blocks - 1)
        total += max(0.0, cost - from_here_on) * num_blocks ** (layer + 1)
        from_here_on = cost
    return total * len(samples) / len(labels)
