"""An exhaustive search says beforehand what it takes."""

from __future__ import annotations

import time

import torch
from test_event_driven import batch, make

from pipeline.estimate import estimate_seconds
from snn.engine import make_inference
from snn.search_space import SearchSpace
from snn.trie import evaluate_architectures


def test_estimate_is_of_the_right_order() -> None:
    class Samples:
        def __init__(self) -> None:
            self.inputs, self.labels = batch(network, 8)
            self.indices = torch.arange(8)

        def __len__(self) -> int:
            return 8

        def batch(self, indices, _device):
            return self.inputs[indices], self.labels[indices]

    network = make()
    samples, prepared = Samples(), make_inference(network)
    space = SearchSpace(5)
    estimated = estimate_seconds(prepared, space, samples)
    start = time.perf_counter()
    evaluate_architectures(prepared, list(space), [(samples.inputs, samples.labels)], num_threads=1)
    measured = time.perf_counter() - start
    assert measured / 8 < estimated < measured * 8
