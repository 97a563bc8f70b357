"""An exhaustive search says beforehand what it takes, and too large a space is refused with advice."""

from __future__ import annotations

import time

import pytest
import torch
from test_event_driven import batch, make

from pipeline.config import SearchConfig
from pipeline.estimate import check_size, estimate_seconds
from snn.engine import make_inference
from snn.search_space import SearchSpace
from snn.trie import evaluate_architectures


def test_large_space_is_refused_with_what_it_would_take_and_may_be_allowed() -> None:
    space, settings = SearchSpace(8), SearchConfig(algorithm="exhaustive")
    with pytest.raises(ValueError, match=r"390,625 architectures.*488,280 block evaluations.*evolution"):
        check_size(space, settings, None)
    with pytest.raises(ValueError, match=r"about 2 h"):
        check_size(space, settings, 7200.0)
    check_size(space, SearchConfig(algorithm="exhaustive", max_evaluations=390_625), None)
    check_size(SearchSpace(5), settings, None)


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
