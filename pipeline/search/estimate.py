"""How long an exhaustive search will take, before it starts."""

from __future__ import annotations

from functools import partial
from timeit import repeat

import torch

from snn.data.sample_set import SampleSet
from snn.engines.inference import InferenceNetwork
from snn.engines.trie import evaluate_architectures
from snn.search_space import Architecture, SearchSpace

_SAMPLES = 8


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
        run = partial(evaluate_architectures, network, architectures, [(inputs, labels)], num_threads=1)
        return min(repeat(run, number=1, repeat=3))

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
