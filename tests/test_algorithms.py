"""Properties of every search algorithm, and those of each."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from dataclasses import replace

import pytest
from toys import ask_all, make_search, run_search

from pipeline.algorithms.aging import AgingEvolution
from pipeline.algorithms.ask_tell import ArchitectureSearch
from pipeline.algorithms.breeding import neighbours
from pipeline.algorithms.choose import build_search
from pipeline.algorithms.evolution import SpikeAwareEvolution
from pipeline.algorithms.exhaustive import ExhaustiveSearch
from pipeline.algorithms.nsga2 import NSGA2, crowded_order
from pipeline.algorithms.random_search import RandomSearch
from pipeline.algorithms.run_in_process import run_in_process
from pipeline.algorithms.settings import SearchSettings
from pipeline.config.named import named_config
from snn.fitness import Evaluation, pareto_front
from snn.search_space import Architecture, SearchSpace

NO_OPTUNA = importlib.util.find_spec("optuna") is None
OPTUNA = pytest.param("optuna", marks=pytest.mark.skipif(NO_OPTUNA, reason="optuna is missing"))
SEEDED = ["evolution", "random", "aging", "nsga2", OPTUNA]
ALGORITHMS = [*SEEDED, "exhaustive"]
SMALL = SearchSpace(3)
BUDGETS = [None, 90]


def with_failures(search: ArchitectureSearch, order=None) -> list[str]:
    """Runs a search in which every seventh candidate fails."""
    while asked := ask_all(search):
        for candidate in order(asked) if order else asked:
            failed = candidate.id % 7 == 3
            search.tell(candidate.id, None if failed else evaluate(candidate.architecture))
    assert search.finished
    return [str(candidate.architecture) for candidate in search.candidates]


def evaluate(architecture: Architecture) -> Evaluation:
    """A toy landscape for spaces of any number of layers."""
    rng = random.Random("/".join(architecture.blocks[:2]))
    accuracy = 0.3 + 0.3 * rng.random() + 0.05 * architecture.blocks[2:].count("SRB_k5")
    spikes = 50 + 20 * sum("5" in block for block in architecture.blocks)
    return Evaluation(accuracy, spikes, 0.1, 100)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_architecture_is_asked_twice_and_the_budget_is_kept(algorithm, budget) -> None:
    search = make_search(SMALL, algorithm, max_evaluations=60, max_spikes=budget)
    assert search.num_planned == (125 if algorithm == "exhaustive" else 60)
    architectures = with_failures(search)
    assert len(architectures) == len(set(architectures)) == search.num_planned
    assert [candidate.id for candidate in search.candidates] == list(range(search.num_planned))
    assert search.ask() is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("space", [SearchSpace(2), SearchSpace(2, ("SCB_k3",)), SearchSpace(1)], ids=len)
def test_search_ends_on_an_exhausted_space(algorithm, space: SearchSpace) -> None:
    search = make_search(space, algorithm)
    assert set(with_failures(search)) == {str(architecture) for architecture in space}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_search_does_not_depend_on_the_order_of_completion(algorithm) -> None:
    shuffler = random.Random(1)
    expected, other = (
        make_search(SMALL, algorithm, max_evaluations=60),
        make_search(SMALL, algorithm, max_evaluations=60),
    )
    assert with_failures(expected) == with_failures(other, lambda asked: shuffler.sample(asked, len(asked)))
    assert expected.candidates == other.candidates and expected.ranking() == other.ranking()


@pytest.mark.parametrize("algorithm", SEEDED)
def test_search_depends_on_its_seed(algorithm) -> None:
    first, other = (with_failures(make_search(SMALL, algorithm, seed, max_evaluations=60)) for seed in (0, 1))
    assert first == with_failures(make_search(SMALL, algorithm, 0, max_evaluations=60))
    assert first != other


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_search_continues_when_everything_fails(algorithm) -> None:
    search = make_search(SMALL, algorithm, max_evaluations=60)
    while asked := ask_all(search):
        for candidate in asked:
            search.tell(candidate.id, None)
    assert search.finished and search.ranking() == []
    assert len({candidate.architecture for candidate in search.candidates}) == search.num_planned


@pytest.mark.parametrize("num_told", [0, 7, 33, 57])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_state_goes_through_json_and_back_at_any_point(algorithm, num_told: int) -> None:
    search = make_search(SMALL, algorithm, max_evaluations=60)
    while len(search.results) < num_told:
        for candidate in ask_all(search)[: num_told - len(search.results)]:
            search.tell(candidate.id, evaluate(candidate.architecture))
    copy = make_search(SMALL, algorithm, seed=99, max_evaluations=60)
    copy.load_state_dict(json.loads(json.dumps(search.state_dict())))
    assert json.dumps(copy.state_dict()) == json.dumps(search.state_dict())
    for other in (search, copy):
        for candidate in [c for c in other.candidates if c.id not in other.results]:
            other.tell(candidate.id, evaluate(candidate.architecture))
        with_failures(other)
    assert copy.candidates == search.candidates and copy.ranking() == search.ranking()


@pytest.mark.parametrize("algorithm", ["evolution", "nsga2"])
def test_state_of_earlier_versions_is_read(algorithm: str) -> None:
    search = make_search(SMALL, algorithm, max_evaluations=60)
    for _ in range(3):
        for candidate in ask_all(search):
            search.tell(candidate.id, evaluate(candidate.architecture))
    state = json.loads(json.dumps(search.state_dict()))
    del state["seed"]  # once only that of Optuna had it, and that of NSGA-II its population
    copy = make_search(SMALL, algorithm, seed=99, max_evaluations=60)
    copy.load_state_dict({**state, "population": [0, 1, 2]})
    assert with_failures(copy) == with_failures(search)


@pytest.mark.parametrize("budget", BUDGETS)
def test_best_and_elite_head_the_ranking_after_every_result(budget) -> None:
    search = make_search(SMALL, max_evaluations=60, max_spikes=budget, more_exponents=(0.0, -1.0))
    assert search.best() is None
    while asked := ask_all(search):
        for candidate in asked:
            search.tell(candidate.id, None if candidate.id % 3 == 0 else evaluate(candidate.architecture))
            assert search.best() == next(iter(search.ranking()), None)
            for exponent in (-0.08, 0.0, -1.0):
                assert search.history.elite(exponent) == search.ranking_for(exponent)[:5]


def test_run_in_process_evaluates_every_candidate_once_and_files_failures() -> None:
    evaluated: list[Architecture] = []

    def fail_some(architecture: Architecture) -> Evaluation | None:
        evaluated.append(architecture)
        return None if len(evaluated) % 4 == 0 else evaluate(architecture)

    search = run_in_process(make_search(SMALL, max_evaluations=60), fail_some)
    assert search.finished and evaluated == [candidate.architecture for candidate in search.candidates]
    assert sum(result is None for result in search.results.values()) == 15


@pytest.mark.parametrize("algorithm", ["random", "aging", "nsga2", "exhaustive", OPTUNA])
def test_only_the_evolution_of_the_paper_has_a_parent_threshold(algorithm) -> None:
    search = make_search(SMALL, algorithm, max_evaluations=60)
    with_failures(search)
    assert search.parent_threshold() is None


def test_exhaustive_search_asks_for_the_space_in_order_and_awaits_no_result() -> None:
    asked = ask_all(make_search(algorithm="exhaustive"))
    assert [candidate.architecture for candidate in asked] == list(SearchSpace(5))
    assert {candidate.generation for candidate in asked} == {0}


def test_child_of_aging_evolution_differs_in_one_layer_from_one_of_the_newest() -> None:
    search = make_search(algorithm="aging")
    run_search(search)
    bred = [candidate for candidate in search.candidates if candidate.parents]
    assert len(bred) > 120
    for child in bred:
        (parent,) = (search.candidates[i] for i in child.parents)
        assert child.architecture in neighbours(search.space, parent.architecture)
        first = next(c.id for c in search.candidates if c.generation == child.generation)
        assert first - 10 <= parent.id < first


def test_order_of_nsga2_is_by_non_dominated_rank() -> None:
    rng = random.Random(0)
    results = {i: Evaluation(rng.randrange(8) / 8, rng.randrange(1, 9), 0.1, 10) for i in range(60)}
    order = crowded_order(results, SearchSettings())

    def dominates(one: Evaluation, other: Evaluation) -> bool:
        better = one.accuracy > other.accuracy or one.spikes < other.spikes
        return one.accuracy >= other.accuracy and one.spikes <= other.spikes and better

    assert sorted(order) == list(range(60))
    left = set(order)
    while left:
        front = {i for i in left if not any(dominates(results[j], results[i]) for j in left)}
        assert set(order[: len(front)]) == front
        order, left = order[len(front) :], left - front


def test_ends_of_a_front_come_first_and_its_crowded_middle_last() -> None:
    points = {0: (0.1, 1), 1: (0.5, 5), 2: (0.51, 5.1), 3: (0.52, 5.2), 4: (0.9, 9)}
    results = {i: Evaluation(accuracy, spikes, 0.1, 10) for i, (accuracy, spikes) in points.items()}
    order = crowded_order(results, SearchSettings())
    assert set(order[:2]) == {0, 4} and order[-1] == 2


def test_candidates_above_the_budget_are_dominated_by_all_within_it() -> None:
    results = {i: Evaluation(0.1 * spikes, spikes, 0.1, 10) for i, spikes in enumerate((9, 7, 5, 3, 1))}
    order = crowded_order(results, SearchSettings(max_spikes=4))
    assert set(order[:2]) == {3, 4} and order[2:] == [2, 1, 0]


def test_nsga2_covers_the_pareto_front_better_than_random_search() -> None:
    points = {a: evaluate(a) for a in SearchSpace(5)}
    front = pareto_front([(e.accuracy, e.spikes) for e in points.values()])
    wanted = {list(points)[i] for i in front}

    def num_found(algorithm: str, seed: int) -> int:
        search = make_search(algorithm=algorithm, seed=seed, max_evaluations=300, population_size=20)
        with_failures(search)
        return len(wanted & {candidate.architecture for candidate in search.candidates})

    assert sum(num_found("nsga2", s) for s in range(8)) > sum(num_found("random", s) for s in range(8))


def test_settings_choose_the_algorithm_and_are_passed_to_it() -> None:
    config = named_config("cifar10")
    classes = {"evolution": SpikeAwareEvolution, "aging": AgingEvolution, "nsga2": NSGA2}
    for name, cls in {**classes, "exhaustive": ExhaustiveSearch, "random": RandomSearch}.items():
        settings = replace(config.search, algorithm=name, max_spikes=5.0, more_exponents=(0.0,))
        search = build_search(
            config.network.search_space(), settings, seed=config.seed, spikes_reference=100.0
        )
        assert type(search.proposer) is cls and len(search.space) == 3125
        assert search.settings.max_spikes == 5.0 and search.settings.more_exponents == (0.0,)
        assert search.spikes_reference == 100.0


def test_error_for_missing_optuna_says_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    config = named_config("cifar10")
    config = replace(config, search=replace(config.search, algorithm="optuna"))
    with pytest.raises(ValueError, match="optuna is not installed; run: pip install optuna"):
        build_search(config.network.search_space(), config.search, seed=0, spikes_reference=100.0)


def test_settings_are_refused_with_the_name_the_command_line_gives_them() -> None:
    with pytest.raises(ValueError, match=r"search\.max_evaluations must be at least 1, got 0"):
        SearchSettings(max_evaluations=0)
    with pytest.raises(ValueError, match=r"search\.algorithm must be one of: evolution, .*, got 'annealing'"):
        SearchSettings(algorithm="annealing")


@pytest.mark.parametrize("algorithm", SEEDED)
def test_what_is_asked_at_once_is_foretold(algorithm) -> None:
    search = make_search(SMALL, algorithm, max_evaluations=60)
    assert len(ask_all(search)) == search.num_at_once


def test_an_exhaustive_search_can_use_a_worker_for_each_group_of_siblings() -> None:
    assert make_search(SearchSpace(4), "exhaustive").num_at_once == 25
    assert make_search(SearchSpace(1), "exhaustive").num_at_once == 1
