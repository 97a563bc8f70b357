"""The search: never twice, ends, survives failures, finds the optimum, depends on nothing but results."""

from __future__ import annotations

import json
import random

import pytest

from pipeline.evolution import Candidate, RandomSearch, SearchSettings, SpikeAwareEvolution
from snn.fitness import Evaluation
from snn.search_space import Architecture, SearchSpace

SETTINGS = {
    "population_size": 10,
    "num_parents": 5,
    "num_mutants": 5,
    "mutation_probability": 0.2,
    "max_evaluations": 150,
    "spike_exponent": -0.08,
    "spikes_reference": 100.0,
}


def make(space=None, kind=SpikeAwareEvolution, seed=0, **changes) -> SpikeAwareEvolution:
    return kind(space or SearchSpace(5), SearchSettings(**{**SETTINGS, **changes}), seed=seed)


def evaluate(architecture: Architecture) -> Evaluation:
    """A toy landscape with interactions, so that greedy choices mislead."""
    rng = random.Random("/".join(architecture.blocks[:3]))
    accuracy = 0.3 + 0.3 * rng.random() + 0.05 * architecture.blocks[3:].count("SRB_k5")
    spikes = 50 + 20 * sum("5" in block for block in architecture.blocks)
    return Evaluation(accuracy, spikes, 0.1, 100)


def ask_all(search: SpikeAwareEvolution) -> list[Candidate]:
    return list(iter(search.ask, None))


def run(search: SpikeAwareEvolution, order=None) -> list[str]:
    while asked := ask_all(search):
        for candidate in order(asked) if order else asked:
            search.tell(candidate.id, evaluate(candidate.architecture))
    assert search.finished
    return [str(candidate.architecture) for candidate in search.candidates]


@pytest.mark.parametrize("kind", [SpikeAwareEvolution, RandomSearch])
def test_no_architecture_is_asked_twice_and_the_budget_is_kept(kind) -> None:
    architectures = run(make(kind=kind))
    assert len(architectures) == len(set(architectures)) == 150


@pytest.mark.parametrize("kind", [SpikeAwareEvolution, RandomSearch])
def test_search_ends_on_an_exhausted_space(kind) -> None:
    space = SearchSpace(2)
    assert set(run(make(space, kind))) == {str(architecture) for architecture in space}


def test_evolution_finds_the_enumerated_optimum_and_beats_random_search() -> None:
    space = SearchSpace(5)
    best = max(make().fitness(evaluate(architecture)) for architecture in space)

    def found(kind, seed: int) -> float:
        search = make(kind=kind, seed=seed, max_evaluations=400, population_size=20, num_parents=10)
        run(search)
        return search.fitness(search.results[search.ranking()[0].id])

    evolved = [found(SpikeAwareEvolution, seed) for seed in range(10)]
    drawn = [found(RandomSearch, seed) for seed in range(10)]
    assert evolved.count(best) >= 5
    assert sum(evolved) > sum(drawn)


def test_search_depends_on_seed_and_results_but_not_on_their_order() -> None:
    shuffler = random.Random(1)
    assert run(make()) == run(make(), lambda asked: shuffler.sample(asked, len(asked)))
    assert run(make()) != run(make(seed=1))


def test_generations_are_bred_from_the_best_of_all_seen() -> None:
    search = make()
    run(search)
    for candidate in search.candidates[10:]:
        before = [c for c in search.candidates if c.generation < candidate.generation]
        before.sort(key=lambda c: (-search.fitness(search.results[c.id]), c.id))
        assert set(candidate.parents) <= {c.id for c in before[:5]}
        for layer, block in enumerate(candidate.architecture.blocks):
            if len(candidate.parents) == 2:
                assert block in {search.candidates[i].architecture.blocks[layer] for i in candidate.parents}


def test_failed_candidate_closes_generation_and_is_no_parent() -> None:
    search = make()
    first = ask_all(search)
    assert search.ask() is None
    for candidate in first:
        failed = candidate.id in (2, 7)
        search.tell(candidate.id, None if failed else evaluate(candidate.architecture))
    second = ask_all(search)
    assert len(second) == 10
    assert not {2, 7} & {i for candidate in second for i in candidate.parents}


def test_search_goes_on_when_a_whole_generation_failed() -> None:
    search = make()
    for candidate in ask_all(search):
        search.tell(candidate.id, None)
    assert search.ranking() == []
    run(search)
    assert len(search.ranking()) == 140


def test_state_goes_through_json_and_back_at_any_point() -> None:
    search = make()
    for candidate in ask_all(search)[:-3]:
        search.tell(candidate.id, evaluate(candidate.architecture))
    copy = make(seed=99)
    copy.load_state_dict(json.loads(json.dumps(search.state_dict())))
    for other in (search, copy):
        for candidate in other.candidates[-3:]:
            other.tell(candidate.id, evaluate(candidate.architecture))
    assert run(search) == run(copy)


def test_repeated_result_changes_nothing_and_a_stranger_is_refused() -> None:
    search = make()
    ask_all(search)
    search.tell(0, Evaluation(0.5, 100, 0.1, 10))
    search.tell(0, Evaluation(0.9, 1, 0.1, 10))
    assert search.results[0].accuracy == 0.5
    with pytest.raises(ValueError, match=r"candidate_id must be in \[0, 10\), got 10"):
        search.tell(10, None)


def test_a_space_of_one_architecture_is_searched() -> None:
    assert run(make(SearchSpace(3, ("SCB_k3",)))) == ["SCB_k3-SCB_k3-SCB_k3"]
