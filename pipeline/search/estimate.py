"""Estimates the duration of an exhaustive search before it starts."""

from __future__ import annotations

from functools import partial
from timeit import repeat

import torch

from snn.data.sample_set import SampleSet
from snn.engines.inference import InferenceNetwork
from snn.engines.trie import evaluate_architectures
from snn.search_space import Architecture, SearchSpace

_NUM_SAMPLES = 8


def estimate_seconds(network: InferenceNetwork, space: SearchSpace, samples: SampleSet) -> float:
    """Seconds of one thread for a whole space, from measurements on a few samples and prefixes.

    Let m be the architecture with the middle block in every layer. Evaluating together the architectures
    that differ from m in layer i only takes longer than m alone; per extra block by

        c_i = cost of layer i and of all layers after it.

    Layer i costs c_i - c_{i+1} and runs once for each of its (number of blocks) ** (i + 1) prefixes.
    """
    num_blocks = len(space.blocks)
    middle = (space.blocks[num_blocks // 2],)
    inputs, labels = samples.batch(samples.indices[:_NUM_SAMPLES], torch.device("cpu"))

    def measure(architectures: list[Architecture]) -> float:
        run = partial(evaluate_architectures, network, architectures, [(inputs, labels)], num_threads=1)
        return min(repeat(run, number=1, repeat=3))

    one = measure([Architecture(middle * space.num_layers)])
    cost_after = 0.0
    total = one
    for layer in reversed(range(space.num_layers)):
        after = middle * (space.num_layers - layer - 1)
        together = measure([Architecture((*middle * layer, block, *after)) for block in space.blocks])
        cost = (together - one) / max(1, num_blocks - 1)
        total += max(0.0, cost - cost_after) * num_blocks ** (layer + 1)
        cost_after = cost
    return total * len(samples) / len(labels)
