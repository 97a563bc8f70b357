"""The evolution of the paper: it ends, survives failures, finds the optimum, depends only on results."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from toys import ask_all, make_search, run_search, toy_evaluation

from pipeline.algorithms.breeding import neighbours
from snn.fitness import Evaluation
from snn.search_space import SearchSpace


def test_evolution_finds_the_enumerated_optimum_and_beats_random_search() -> None:
    space = SearchSpace(5)
    optimum = max(make_search().fitness(toy_evaluation(architecture)) for architecture in space)

    def best_fitness(algorithm: str, seed: int) -> float:
        search = make_search(space, algorithm, seed, max_evaluations=400, population_size=20, num_parents=10)
        run_search(search)
        return search.fitness(search.results[search.best().id])

    evolved = [best_fitness("evolution", seed) for seed in range(10)]
    drawn = [best_fitness("random", seed) for seed in range(10)]
    assert evolved.count(optimum) >= 5
    assert sum(evolved) > sum(drawn)


def test_of_equally_fit_candidates_the_one_of_fewer_spikes_ranks_first() -> None:
    search = make_search(spike_exponent=0.0)
    for candidate in ask_all(search):
        search.tell(candidate.id, replace(toy_evaluation(candidate.architecture), accuracy=0.5))
    spikes = [search.results[candidate.id].spikes for candidate in search.ranking()]
    assert spikes == sorted(spikes) and spikes[0] < spikes[-1]


def test_generations_are_bred_from_the_best_of_all_seen() -> None:
    search = make_search()
    run_search(search)
    for candidate in search.candidates[10:]:
        before = [c for c in search.candidates if c.generation < candidate.generation]
        before.sort(key=lambda c: (-search.fitness(search.results[c.id]), c.id))
        assert set(candidate.parents) <= {c.id for c in before[:5]}
        for layer, block in enumerate(candidate.architecture.blocks):
            if len(candidate.parents) == 2:
                assert block in {search.candidates[i].architecture.blocks[layer] for i in candidate.parents}


def test_failed_candidate_closes_generation_and_is_no_parent() -> None:
    search = make_search()
    first = ask_all(search)
    assert search.ask() is None
    for candidate in first:
        failed = candidate.id in (2, 7)
        search.tell(candidate.id, None if failed else toy_evaluation(candidate.architecture))
    second = ask_all(search)
    assert len(second) == 10
    assert not {2, 7} & {i for candidate in second for i in candidate.parents}


def test_search_continues_after_a_generation_without_a_result() -> None:
    search = make_search()
    for candidate in ask_all(search):
        search.tell(candidate.id, None)
    assert search.ranking() == []
    run_search(search)
    assert len(search.ranking()) == 140


def test_state_goes_through_json_and_back_at_any_point() -> None:
    search = make_search()
    for candidate in ask_all(search)[:-3]:
        search.tell(candidate.id, toy_evaluation(candidate.architecture))
    copy = make_search(seed=99)
    copy.load_state_dict(json.loads(json.dumps(search.state_dict())))
    for other in (search, copy):
        for candidate in other.candidates[-3:]:
            other.tell(candidate.id, toy_evaluation(candidate.architecture))
    assert run_search(search) == run_search(copy)


def test_repeated_result_changes_nothing_and_an_unknown_id_is_refused() -> None:
    search = make_search()
    ask_all(search)
    search.tell(0, Evaluation(0.5, 100, 0.1, 10))
    search.tell(0, Evaluation(0.9, 1, 0.1, 10))
    assert search.results[0].accuracy == 0.5
    with pytest.raises(ValueError, match=r"candidate_id must be in \[0, 10\), got 10"):
        search.tell(10, None)


def test_a_space_of_one_architecture_is_searched() -> None:
    assert run_search(make_search(SearchSpace(3, ("SCB_k3",)))) == ["SCB_k3-SCB_k3-SCB_k3"]


def test_candidates_above_the_spike_budget_rank_last_in_order_of_spikes() -> None:
    search = make_search(max_spikes=90)
    run_search(search)
    results = [search.results[candidate.id] for candidate in search.ranking()]
    within = [result for result in results if result.spikes <= 90]
    above = results[len(within) :]
    assert within and above and all(result.spikes > 90 for result in above)
    assert [search.fitness(r) for r in within] == sorted((search.fitness(r) for r in within), reverse=True)
    assert [r.spikes for r in above] == sorted(r.spikes for r in above)


def test_spike_budget_draws_the_search_to_candidates_within_it() -> None:
    def share(**changes) -> float:
        search = make_search(**changes)
        run_search(search)
        return sum(result.spikes <= 70 for result in search.results.values()) / 150

    assert share(max_spikes=70) > 2 * share()


def test_parents_come_in_turn_from_the_ranking_of_each_lambda() -> None:
    search = make_search(more_exponents=(0.0, -1.0), max_evaluations=20)
    run_search(search)
    first = [c for c in search.candidates if c.generation == 0]
    results = {c.id: search.results[c.id] for c in first}

    def best_first(exponent: float) -> list[int]:
        return sorted(results, key=lambda i: (-results[i].accuracy * results[i].spikes ** exponent, i))

    expected: list[int] = []
    while len(expected) < 5:
        for exponent in (-0.08, 0.0, -1.0):
            expected.append(next(i for i in best_first(exponent) if i not in expected))
    bred = {i for c in search.candidates[10:] for i in c.parents}
    assert bred <= set(expected[:5])
    assert [c.id for c in search.ranking_for(-1.0) if c.generation == 0] == best_first(-1.0)


def test_a_lambda_named_twice_changes_nothing() -> None:
    assert run_search(make_search(more_exponents=(-0.08,))) == run_search(make_search())


@pytest.mark.parametrize("budget", [None, 90])
def test_candidate_below_the_parent_threshold_never_becomes_a_parent(budget) -> None:
    search = make_search(max_spikes=budget)
    below: set[int] = set()
    thresholds = []
    while asked := ask_all(search):
        for candidate in asked:
            threshold = search.parent_threshold()
            result = toy_evaluation(candidate.architecture)
            search.tell(candidate.id, result)
            if threshold is not None:
                thresholds.append(threshold)
                if search.fitness(result) < threshold:
                    below.add(candidate.id)
    assert below and thresholds == sorted(thresholds)
    assert not below & {i for candidate in search.candidates for i in candidate.parents}


def test_parent_threshold_needs_enough_results_and_one_lambda() -> None:
    search = make_search()
    candidates = ask_all(search)
    for number, candidate in enumerate(candidates):
        assert (search.parent_threshold() is None) == (number < 5)
        search.tell(candidate.id, toy_evaluation(candidate.architecture))
    fitness = sorted((search.fitness(result) for result in search.results.values()), reverse=True)
    assert search.parent_threshold() == fitness[4]
    several = make_search(more_exponents=(0.0,))
    run_search(several)
    assert several.parent_threshold() is None


def test_likely_next_lists_neighbours_of_the_best_first_and_the_rest_of_the_space_once() -> None:
    search = make_search()
    for candidate in ask_all(search):
        search.tell(candidate.id, toy_evaluation(candidate.architecture))
    before = json.dumps(search.state_dict())
    likely = list(search.likely_next())
    assert json.dumps(search.state_dict()) == before
    handed_out = {c.architecture for c in search.candidates}
    assert len(likely) == len(set(likely)) and set(likely) == set(search.space) - handed_out
    near = list(neighbours(search.space, search.ranking()[0].architecture))
    near = [architecture for architecture in near if architecture not in handed_out]
    assert likely[: len(near)] == near
    assert len(list(neighbours(search.space, likely[0]))) == 5 * 4


def test_nothing_is_likely_next_once_the_budget_is_spent() -> None:
    search = make_search()
    run_search(search)
    assert list(search.likely_next()) == []
