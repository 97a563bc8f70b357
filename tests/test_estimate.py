"""An exhaustive search estimates its duration beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from toys import make_active_network, make_batch, require_kernels

from pipeline.search import estimate
from pipeline.search.estimate import estimate_seconds
from pipeline.search.searcher import LARGEST_GROUP
from snn.engines.engine import make_inference
from snn.search_space import Architecture, SearchSpace

require_kernels()

SPACE = SearchSpace(5)
COSTS = (0.5, 3.0, 0.25, 2.0, 1.0)  # seconds of a block in each layer
STEM = 4.0


class Samples:
    """16 samples; the estimate may use any number of them."""

    def __init__(self) -> None:
        self.indices = np.arange(16)
        self.inputs, self.labels = make_batch(make_active_network(), 16)

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices, _device):
        return self.inputs[indices], self.labels[indices]


def seconds(architectures: list[Architecture], num_samples: int) -> float:
    """Duration of a shared evaluation: the stem once, then each prefix once."""
    prefixes = {a.blocks[: layer + 1] for a in architectures for layer in range(SPACE.num_layers)}
    return num_samples * (STEM + sum(COSTS[len(prefix) - 1] for prefix in prefixes))


def test_estimate_is_the_duration_for_the_whole_space_and_all_samples(monkeypatch) -> None:
    def simulated(run, *, number, repeat) -> list[float]:
        _network, architectures, [(_inputs, labels)] = run.args
        return repeat * [number * seconds(architectures, len(labels))]

    monkeypatch.setattr(estimate, "repeat", simulated)
    samples = Samples()
    space = list(SPACE)
    groups = [space[start : start + LARGEST_GROUP] for start in range(0, len(space), LARGEST_GROUP)]
    expected = sum(seconds(group, len(samples)) for group in groups)
    assert estimate_seconds(None, SPACE, samples) == pytest.approx(expected, rel=0.01)


def test_estimate_of_a_network_is_a_time() -> None:
    result = estimate_seconds(make_inference(make_active_network()), SPACE, Samples())
    assert 0 < result < float("inf")
