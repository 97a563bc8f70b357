"""Accuracy and spikes over time agree with the evaluation over all time steps."""

from __future__ import annotations

import pytest
import torch
from toys import make_network

from snn.engines.trie import evaluate_architectures
from snn.model.time_course import measure_time_course
from snn.search_space import Architecture

ARCHITECTURE = Architecture(("SRB_k3", "SCB_k5", "skip_connect", "SRB_k5", "SCB_k3"))


@pytest.mark.parametrize("events", [False, True])
def test_last_step_has_the_accuracy_and_all_steps_the_spikes_of_the_evaluation(events: bool) -> None:
    network = make_network(shape=(2, 16, 16))
    x = torch.randn(3, 12, 2, 16, 16) if events else torch.randn(12, 2, 16, 16)
    labels = torch.arange(12) % 3
    course = measure_time_course(network, ARCHITECTURE, [(x, labels)])
    result = evaluate_architectures(network, [ARCHITECTURE], [(x, labels)])[0]
    assert len(course.accuracy) == 3
    assert course.accuracy[-1] == result.accuracy
    assert {part: sum(steps) for part, steps in course.spikes.items()} == pytest.approx(
        result.spikes_per_layer
    )


def test_readout_after_t_steps_equals_a_network_of_t_steps() -> None:
    network, x, labels = make_network(shape=(2, 16, 16)), torch.randn(3, 12, 2, 16, 16), torch.arange(12) % 3
    course = measure_time_course(network, ARCHITECTURE, [(x, labels)])
    for steps in (1, 2):
        shorter = measure_time_course(network, ARCHITECTURE, [(x[:steps], labels)])
        assert shorter.accuracy == course.accuracy[:steps]


def test_no_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        measure_time_course(make_network(), ARCHITECTURE, [])
