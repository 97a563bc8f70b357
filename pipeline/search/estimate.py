"""Estimates the duration of an exhaustive search before it starts."""

from __future__ import annotations

from functools import partial
from timeit import repeat

import torch

from pipeline.search.searcher import LARGEST_GROUP
from snn.data.sample_set import SampleSet
from snn.engines.inference import InferenceNetwork
from snn.engines.trie import evaluate_architectures
from snn.search_space import SearchSpace

_NUM_SAMPLES = 16
_NUM_GROUPS = 4


def estimate_seconds(network: InferenceNetwork, space: SearchSpace, samples: SampleSet) -> float:
    """Seconds of one thread for a whole space, in groups as trials have them.

    Some groups at even distances over the space are evaluated on a few samples; the others are taken to cost
    as much on average. Each is timed twice, and the faster one counts.
    """
    size = min(LARGEST_GROUP, len(space))
    num_groups = min(_NUM_GROUPS, len(space) // size)
    inputs, labels = samples.batch(samples.indices[:_NUM_SAMPLES], torch.device("cpu"))
    seconds = 0.0
    for number in range(num_groups):
        start = (len(space) - size) * number // max(1, num_groups - 1)
        group = [space.at(start - start % size + i) for i in range(size)]
        run = partial(evaluate_architectures, network, group, [(inputs, labels)], num_threads=1)
        seconds += min(repeat(run, number=1, repeat=2))
    return seconds / num_groups * len(space) / size * len(samples) / len(labels)
