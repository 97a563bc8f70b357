"""Spike-aware fitness and Pareto front."""

from __future__ import annotations

import pytest

from snn.fitness import pareto_front, spike_aware_fitness


def fitness(accuracy: float, spikes: float, exponent: float = -0.08) -> float:
    return spike_aware_fitness(accuracy, spikes, spikes_reference=100.0, spike_exponent=exponent)


def test_fitness_is_accuracy_at_the_reference_and_prefers_fewer_spikes() -> None:
    assert fitness(0.5, 100) == pytest.approx(0.5)
    assert fitness(0.5, 50) == pytest.approx(0.5 * 0.5**-0.08)
    assert fitness(0.5, 50) > fitness(0.5, 100) > fitness(0.5, 200)


def test_silent_network_cannot_win() -> None:
    assert fitness(0.1, 0) == 0.0
    assert fitness(0.1, 0) < fitness(0.01, 1e-9)


def test_lambda_zero_is_accuracy_even_without_spikes_or_reference() -> None:
    assert spike_aware_fitness(0.3, 0, spikes_reference=0, spike_exponent=0) == 0.3


@pytest.mark.parametrize("reference", [0.0, -1.0, float("nan"), float("inf")])
def test_invalid_reference_is_rejected(reference: float) -> None:
    with pytest.raises(ValueError, match="spikes_reference must be a positive number"):
        spike_aware_fitness(0.5, 10, spikes_reference=reference, spike_exponent=-0.08)


def test_pareto_front_is_exactly_the_non_dominated_points() -> None:
    points = [(0.5, 10.0), (0.6, 20.0), (0.55, 30.0), (0.5, 10.0), (0.7, 40.0), (0.4, 5.0), (0.6, 25.0)]
    front = pareto_front(points)
    assert front == [5, 0, 1, 4]

    def dominated(i: int) -> bool:
        return any(a >= points[i][0] and s <= points[i][1] and (a, s) != points[i] for a, s in points)

    assert {points[i] for i in front} == {points[i] for i in range(len(points)) if not dominated(i)}
