"""Racing stops evaluations early without changing the course of the search."""

from __future__ import annotations

import random

import pytest
from toys import make_search, run_search

from pipeline.algorithms.run_in_process import run_in_process
from snn.fitness import Evaluation, best_possible_fitness, spike_aware_fitness
from snn.search_space import Architecture

NUM_SAMPLES = 400


def outcomes(architecture: Architecture) -> list[tuple[bool, int]]:
    """Of each sample whether it is predicted right and its spikes: a toy network."""
    rng = random.Random("/".join(architecture.blocks))
    strength = 0.2 + 0.6 * random.Random("/".join(architecture.blocks[:3])).random()
    return [(rng.random() < strength, rng.randrange(50, 150)) for _ in range(NUM_SAMPLES)]


def after(seen: list[tuple[bool, int]]) -> Evaluation:
    number = len(seen)
    return Evaluation(sum(right for right, _ in seen) / number, sum(n for _, n in seen) / number, 0.1, number)


def raced(architecture: Architecture, threshold: float | None, **settings: float) -> Evaluation:
    samples = outcomes(architecture)
    for end in range(20, NUM_SAMPLES, 20):
        so_far = after(samples[:end])
        bound = best_possible_fitness(so_far, num_samples=NUM_SAMPLES, **settings)
        if threshold is not None and bound < threshold:
            return so_far
    return after(samples)


@pytest.mark.parametrize("exponent", [0.0, -0.08, -0.24])
def test_bound_is_never_below_the_fitness_on_all_samples(exponent: float) -> None:
    settings = {"spikes_reference": 80.0, "spike_exponent": exponent}
    for seed in range(30):
        samples = outcomes(Architecture((("SRB_k3", "SCB_k5")[seed % 2],) * (seed + 1)))
        complete = after(samples)
        fitness = spike_aware_fitness(complete.accuracy, complete.spikes, **settings)
        bounds = [
            best_possible_fitness(after(samples[:end]), num_samples=NUM_SAMPLES, **settings)
            for end in range(1, NUM_SAMPLES + 1)
        ]
        assert bounds[-1] == pytest.approx(fitness)
        assert min(bounds) >= fitness - 1e-12
        partial = after(samples[:100])
        assert spike_aware_fitness(partial.accuracy, partial.spikes, **settings) <= bounds[99]


def test_bound_is_infinite_where_more_spikes_could_help() -> None:
    silent = Evaluation(0.1, 0.0, 0.0, 10)
    options = {"num_samples": 20, "spikes_reference": 80.0}
    assert best_possible_fitness(silent, spike_exponent=-0.1, **options) == float("inf")
    assert best_possible_fitness(Evaluation(0.1, 9.0, 0.1, 10), spike_exponent=0.1, **options) == float("inf")


@pytest.mark.parametrize("seed", range(5))
def test_search_with_racing_asks_for_the_same_and_chooses_the_same(seed: int) -> None:
    def searched(racing: bool):
        search = make_search(seed=seed)
        settings = {
            "spikes_reference": search.spikes_reference,
            "spike_exponent": search.settings.spike_exponent,
        }
        run_in_process(search, lambda a: raced(a, search.parent_threshold() if racing else None, **settings))
        return search, sum(NUM_SAMPLES - result.num_samples for result in search.results.values())

    plain, _ = searched(False)
    racing, saved = searched(True)
    assert racing.candidates == plain.candidates
    num_parents = plain.settings.num_parents
    assert racing.ranking()[:num_parents] == plain.ranking()[:num_parents]
    assert saved > 0.02 * NUM_SAMPLES * len(plain.candidates)


def test_search_without_racing_evaluates_every_candidate() -> None:
    assert len(run_search(make_search(max_evaluations=30))) == 30
