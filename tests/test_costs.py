"""What is saved besides spikes: synaptic operations, energy; budgets; the report's fronts and ways."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from toys import BACKBONES, make_network, require_kernels

from pipeline.algorithms.choose import build_search
from pipeline.algorithms.nsga2 import crowded_order
from pipeline.algorithms.run_in_process import run_in_process
from pipeline.algorithms.settings import SearchSettings
from pipeline.analysis.effects import effects_of
from pipeline.analysis.ways import ways_of
from pipeline.config.named import named_config
from pipeline.data import load_data
from pipeline.report.join_search import join_search
from pipeline.search.check import check_search
from pipeline.storage.evaluations import from_parquet, to_parquet
from pipeline.storage.records import Cost, EvaluationRow, Rung, SearchResult
from snn.fitness import Evaluation, cost_of, pareto_front
from snn.model.network import count_parameters, num_parameters
from snn.options import COSTS, CostName
from snn.search_space import AUTOSNN_BLOCKS, Architecture, SearchSpace

SPACE = SearchSpace(3)


def evaluation(architecture: Architecture) -> Evaluation:
    """Accuracy, spikes, operations, energy and parameters that know little of each other."""
    rng = random.Random(f"a{architecture}")
    return Evaluation(
        0.3 + 0.4 * rng.random(),
        1000 + 1000 * rng.random(),
        0.1,
        500,
        synops=1e6 * (1 + 2 * rng.random()),
        energy=1e-4 * (1 + rng.random()),
        num_parameters=rng.randrange(1000, 9000),
    )


def rows() -> list[EvaluationRow]:
    return [
        EvaluationRow(i, 0, str(architecture), (), evaluation(architecture), 0.5)
        for i, architecture in enumerate(SPACE)
    ]


def chosen(settings: SearchSettings) -> Evaluation:
    search = build_search(SPACE, settings, seed=0, spikes_reference=settings.reference(1500.0))
    best = run_in_process(search, evaluation).best()
    assert best is not None
    return evaluation(best.architecture)


@pytest.mark.parametrize("cost", COSTS)
def test_search_maximises_the_fitness_of_the_cost(cost: CostName) -> None:
    settings = SearchSettings(algorithm="exhaustive", spike_exponent=-0.5, cost=cost)
    best = max((evaluation(a) for a in SPACE), key=lambda e: e.accuracy * cost_of(e, cost) ** -0.5)
    assert chosen(settings) == best
    others = [chosen(replace(settings, cost=other)) for other in COSTS if other != cost]
    assert best not in others


@pytest.mark.parametrize(
    ("budget", "field"),
    [
        ("max_spikes", "spikes"),
        ("max_synops", "synops"),
        ("max_energy", "energy"),
        ("max_parameters", "num_parameters"),
    ],
)
def test_choice_keeps_a_budget_that_any_candidate_keeps(budget: str, field: str) -> None:
    free = SearchSettings(algorithm="exhaustive", spike_exponent=0.0)
    below = sorted(v for a in SPACE if (v := getattr(evaluation(a), field)) < getattr(chosen(free), field))
    value = below[len(below) // 2]
    within = [e for e in map(evaluation, SPACE) if getattr(e, field) <= value]
    assert chosen(replace(free, **{budget: value})) == max(within, key=lambda e: e.accuracy)
    kept_by_none = replace(free, **{budget: type(value)(below[0] / 1000)})
    assert getattr(chosen(kept_by_none), field) == below[0]


@pytest.mark.parametrize("cost", COSTS)
def test_nsga2_ranks_the_front_of_its_cost_first(cost: CostName) -> None:
    results = {i: evaluation(architecture) for i, architecture in enumerate(SPACE)}
    front = pareto_front([(e.accuracy, cost_of(e, cost)) for e in results.values()])
    order = crowded_order(results, SearchSettings(cost=cost))
    assert set(order[: len(front)]) == set(front)


def test_cost_that_is_not_counted_is_named() -> None:
    silent = replace(evaluation(SPACE.at(0)), synops=None)
    settings = SearchSettings(cost="synops")
    assert not settings.knows(silent) and SearchSettings().knows(silent)
    with pytest.raises(ValueError, match=r"search.cost is 'synops'.*--search.engine event_driven"):
        settings.fitness(silent, 1e6)


def test_dense_engine_is_refused_before_a_training(tmp_path: Path) -> None:
    demo = named_config("demo")
    data = load_data(demo)
    for changes in ({"cost": "energy"}, {"max_synops": 1e6}, {"max_energy": 1e-4}):
        config = replace(demo, search=replace(demo.search, engine="dense", **changes))
        with pytest.raises(ValueError, match=r"count synaptic operations.*--search.engine event_driven"):
            check_search(config, data, "cpu")
    check_search(replace(demo, search=replace(demo.search, engine="dense", max_parameters=5)), data, "cpu")


@pytest.mark.parametrize("backbone", BACKBONES)
def test_parameters_of_a_path_are_those_of_the_network_by_itself(backbone: str) -> None:
    require_kernels()
    supernet, rng = make_network(backbone), random.Random(0)
    counts = count_parameters(supernet)
    space = SearchSpace(len(supernet.backbone.layers), AUTOSNN_BLOCKS)
    for _ in range(5):
        architecture = space.sample(rng)
        child = make_network(backbone, [(block,) for block in architecture.blocks])
        assert counts.of(architecture) == num_parameters(child)


def test_tables_keep_costs_and_tables_of_earlier_versions_are_read() -> None:
    new = rows()
    rungs = (Rung(10, 0.1, 5.0, 6.0, 7.0, 8), Rung(20, 0.2, 5.0))
    new[0] = replace(new[0], rungs=rungs)
    assert from_parquet(to_parquet(new)).rows == new
    old = [
        replace(row, evaluation=replace(row.evaluation, energy=None, num_parameters=None)) for row in rows()
    ]
    old[0] = replace(old[0], rungs=(Rung(10, 0.1, 5.0),))
    assert from_parquet(to_parquet(old)).rows == old


def test_report_compares_the_fronts_of_all_costs() -> None:
    config = named_config("cifar10")
    search = join_search(config, None, None, rows())
    assert [front.cost for front in search.fronts] == list(COSTS)
    for front in search.fronts:
        members = [evaluation(SPACE.at(i)) for i in front.candidates]
        costs = [cost_of(member, front.cost) for member in members]
        assert costs == sorted(costs)
        for other in map(evaluation, SPACE):
            assert not any(
                other.accuracy >= member.accuracy and cost_of(other, front.cost) < cost
                for member, cost in zip(members, costs, strict=True)
            )
        spikes = search.fronts[0].candidates
        assert front.in_common == len(set(spikes) & set(front.candidates))
    old = [replace(row, evaluation=replace(row.evaluation, energy=None)) for row in rows()]
    assert [front.cost for front in join_search(config, None, None, old).fronts] == ["spikes", "synops"]


def test_report_lists_the_front_of_very_many_candidates(monkeypatch) -> None:
    monkeypatch.setattr("pipeline.report.join_search._MOST_LISTED", 10)
    search = join_search(named_config("cifar10"), None, None, rows())
    listed = {candidate.candidate_id for candidate in search.evaluations}
    assert len(listed) < len(SPACE) == search.num_evaluations
    assert {number for front in search.fronts for number in front.candidates} <= listed


def table(value) -> list[EvaluationRow]:
    return [
        replace(row, evaluation=replace(row.evaluation, accuracy=value(*indices(row)), spikes=1.0 + i))
        for i, row in enumerate(rows())
    ]


def indices(row: EvaluationRow) -> list[int]:
    return [SPACE.blocks.index(block) for block in Architecture.parse(row.architecture).blocks]


def test_effects_of_a_sum_are_its_terms() -> None:
    effects = effects_of(table(lambda a, b, c: 0.1 + 0.02 * a + 0.01 * b - 0.015 * c), SPACE, "spikes")
    measure = effects.accuracy
    assert measure.main[0] == pytest.approx([0.02 * (i - 2) for i in range(5)])
    assert measure.main[2] == pytest.approx([-0.015 * (i - 2) for i in range(5)])
    assert measure.main_share == pytest.approx(1) and measure.pair_share == pytest.approx(0, abs=1e-9)
    assert effects.cost.mean == pytest.approx(63.0)


def test_effects_and_pairs_add_up_to_a_table_without_higher_interactions() -> None:
    rows = table(lambda a, b, c: 0.1 + 0.02 * a + 0.01 * a * b - 0.003 * b * c)
    effects = effects_of(rows, SPACE, "spikes")
    measure = effects.accuracy
    assert effects.pairs == ((0, 1), (0, 2), (1, 2))
    assert measure.main_share + measure.pair_share == pytest.approx(1) and measure.pair_share > 0.01
    for row in rows:
        at = indices(row)
        total = measure.mean + sum(measure.main[layer][i] for layer, i in enumerate(at))
        total += sum(pair[at[i]][at[j]] for (i, j), pair in zip(effects.pairs, measure.pairs, strict=True))
        assert total == pytest.approx(row.evaluation.accuracy)


def test_effects_leave_out_what_failed() -> None:
    whole = table(lambda a, b, c: 0.1 + 0.02 * a + 0.01 * b)
    broken = [replace(row, evaluation=None, error="E") if i == 3 else row for i, row in enumerate(whole)]
    expected, found = (effects_of(rows, SPACE, "spikes").accuracy for rows in (whole, broken))
    assert found.main[0] == pytest.approx(expected.main[0], abs=2e-3) and found.main != expected.main
    first = SPACE.blocks[0]
    none_left = [
        replace(row, evaluation=None, error="E") if row.architecture.startswith(f"{first}-{first}") else row
        for row in whole
    ]
    assert effects_of(none_left, SPACE, "spikes") is None


def test_ways_multiply_what_was_measured() -> None:
    best = rows()[0]
    result = SearchResult(
        best, "exhaustive", -0.08, 1500.0, 125, 0, 125, 2, Cost(10.0, 155.0), block_runs=155 * 500
    )
    ways = {way.name: way for way in ways_of(SPACE, None, result, rows(), [])}
    search = ways["this search (exhaustive)"]
    assert (search.candidates, search.samples, search.cpu_seconds, search.measured) == (125, 500, 155, True)
    whole = ways["the whole space, common first blocks run once"]
    assert (whole.cpu_seconds, whole.measured) == (pytest.approx(155), False)
    alone = ways["the same candidates on all of D_val, one by one"]
    assert alone.cpu_seconds == pytest.approx(155 * 375 / 155)
    assert ways["the paper's 400 candidates, one by one"].cpu_seconds == pytest.approx(1200)
