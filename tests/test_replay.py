"""Exact results of a whole table, replays on it, and both in the report."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

import launch
from pipeline.analysis.exact import (
    PAPER_EXPONENTS,
    best_within,
    exact_front,
    exact_optima,
    holds_whole_space,
    lambda_intervals,
    studied_exponents,
)
from pipeline.analysis.replay import replay, replay_table
from pipeline.config.named import named_config
from pipeline.config.tree import Config
from pipeline.report.join import write_report
from pipeline.storage.names import REPORT_HTML, REPORT_JSON
from pipeline.storage.records import Cost, EvaluationRow, SearchResult, SupernetResult
from pipeline.storage.run_folder import RunFolder
from snn.fitness import Evaluation, spike_aware_fitness
from snn.json_values import to_json

REFERENCE = 20_000.0
BASE = named_config("cifar10")
CONFIG = replace(BASE, search=replace(BASE.search, algorithm="exhaustive"))
SMALL = replace(CONFIG, network=replace(CONFIG.network, blocks=("skip_connect", "SCB_k3", "SRB_k5")))


def make_table(config: Config, seed: int = 0) -> list[EvaluationRow]:
    """A row for each architecture; accuracy rises with spikes, less and less, with interactions and noise."""
    rng = random.Random(seed)
    effects = {(i, block): rng.random() for i in range(5) for block in config.network.blocks}
    pairs = {(i, a, b): rng.random() for i in range(4) for _, a in effects for _, b in effects}
    rows = []
    for number, architecture in enumerate(config.network.search_space()):
        blocks = architecture.blocks
        gain = sum(effects[i, block] for i, block in enumerate(blocks))
        gain += sum(pairs[i, blocks[i], blocks[i + 1]] for i in range(4)) / 2
        spikes = 10_000 * (1 + sum(effects[i, block] ** 2 for i, block in enumerate(blocks)) / 2)
        accuracy = round(0.9 * gain / (gain + 1.5) + 0.01 * rng.random(), 3)
        rows.append(make_row(number, str(architecture), accuracy, spikes * (1 + 0.1 * rng.random())))
    return rows


def make_row(number: int, architecture: str, accuracy: float, spikes: float) -> EvaluationRow:
    fitness = worth(accuracy, spikes, -0.08)
    per_layer = {"spikes_per_layer": {"stem": spikes}, "firing_rate_per_layer": {"stem": 0.1}}
    evaluation = Evaluation(accuracy, spikes, 0.1, 500, **per_layer)
    return EvaluationRow(number, 0, architecture, (), evaluation, fitness, "", "worker-0", 0.1)


def measured(row: EvaluationRow) -> Evaluation:
    assert row.evaluation is not None
    return row.evaluation


def worth(accuracy: float, spikes: float, exponent: float) -> float:
    return spike_aware_fitness(accuracy, spikes, spikes_reference=REFERENCE, spike_exponent=exponent)


def failed(row: EvaluationRow) -> EvaluationRow:
    return replace(row, evaluation=None, fitness=None, error="RuntimeError")


@pytest.mark.parametrize("seed", range(5))
def test_intervals_of_lambda_give_the_optimum_of_every_lambda(seed: int) -> None:
    rows = make_table(SMALL, seed)
    intervals = lambda_intervals(rows)
    assert intervals[0].lambda_from is None and intervals[-1].lambda_to == 0
    assert all(a.lambda_to == b.lambda_from < b.lambda_to for a, b in pairwise(intervals))
    rng = random.Random(seed)
    for exponent in [0.0, *(-(10 ** rng.uniform(-4, 1.5)) for _ in range(300))]:
        best = max(worth(measured(row).accuracy, measured(row).spikes, exponent) for row in rows)
        (interval,) = (
            i
            for i in intervals
            if (i.lambda_from is None or i.lambda_from < exponent) and exponent <= i.lambda_to
        )
        assert worth(interval.accuracy, interval.spikes, exponent) == pytest.approx(best, rel=1e-12)


def test_intervals_leave_out_dead_networks_and_failures_and_points_inside_the_hull() -> None:
    rows = [make_row(0, "a", 0.2, 100), make_row(1, "b", 0.4, 200), make_row(2, "c", 0.8, 400)]
    rows += [make_row(3, "dead", 0.9, 0), make_row(4, "zero", 0.0, 10), failed(make_row(5, "x", 0.9, 1))]
    intervals = lambda_intervals(rows)
    assert [i.architecture for i in intervals] == ["a", "c"]
    assert intervals[0].lambda_to == pytest.approx(-1)
    assert lambda_intervals([]) == []


def test_optimum_of_a_lambda_is_the_first_row_of_highest_fitness() -> None:
    rows = make_table(SMALL)
    rows += [replace(rows[0], candidate_id=len(rows)), failed(rows[1])]
    optima = exact_optima(rows, REFERENCE, [0.0, -0.08, -5.0])
    assert [o.spike_exponent for o in optima] == [0.0, -0.08, -5.0]
    for optimum in optima:
        scored = [row for row in rows if row.evaluation is not None]
        keys = {
            r.candidate_id: worth(measured(r).accuracy, measured(r).spikes, optimum.spike_exponent)
            for r in scored
        }
        best = rows[max(keys, key=lambda i: (keys[i], -i))]
        assert (optimum.architecture, optimum.fitness) == (best.architecture, max(keys.values()))
    assert exact_optima([failed(rows[0])], REFERENCE, [0.0]) == []


def test_optimum_of_lambda_zero_is_on_the_front_if_others_are_as_accurate() -> None:
    rows = [replace(row, evaluation=replace(measured(row), accuracy=0.5)) for row in make_table(SMALL)]
    (optimum,) = exact_optima(rows, REFERENCE, [0.0])
    assert optimum.spikes == min(measured(row).spikes for row in rows) < measured(rows[0]).spikes


def test_best_within_a_budget_is_the_most_accurate_within_it() -> None:
    rows = make_table(SMALL)
    fewest = min(measured(row).spikes for row in rows)
    assert best_within(rows, replace(SMALL.search, max_spikes=fewest - 1)) is None
    for budget in (14_000, 20_000, 1e9):
        best = best_within(rows, replace(SMALL.search, max_spikes=budget))
        assert best.spikes <= budget
        assert best.accuracy == max(measured(row).accuracy for row in rows if measured(row).spikes <= budget)


def test_studied_lambdas_are_the_papers_and_the_runs_own() -> None:
    settings = replace(CONFIG.search, spike_exponent=-0.5, more_exponents=(-0.08, -0.3))
    assert studied_exponents(CONFIG.search) == list(PAPER_EXPONENTS)
    assert studied_exponents(settings) == [0.0, -0.08, -0.16, -0.24, -0.3, -0.5]


def test_replay_of_exhaustive_search_has_no_regret() -> None:
    rows = make_table(SMALL)
    (result,) = replay(rows, SMALL, [0, 1], ["exhaustive"], spikes_reference=REFERENCE)
    assert result.budget == len(rows) == 243
    assert result.regrets == result.relative_regrets == (0.0, 0.0) and result.found_share == 1
    first = max(rows, key=lambda row: (row.fitness, -row.candidate_id)).candidate_id + 1
    assert result.evaluations_to_optimum == (first, first)
    assert result.optimum_fitness == exact_optima(rows, REFERENCE, [-0.08])[0].fitness
    assert result.curve_evaluations[:2] == (20, 40) and result.curve_evaluations[-1] == 243


def test_replays_are_reproducible_and_regret_never_rises() -> None:
    rows = make_table(CONFIG)
    names = ["evolution", "random", "aging", "nsga2"]
    results = replay(rows, CONFIG, range(5), names, spikes_reference=REFERENCE)
    assert results == replay(rows, CONFIG, range(5), names, spikes_reference=REFERENCE)
    assert [result.algorithm for result in results] == names
    for result in results:
        assert result.budget == 400 and result.num_seeds == len(result.regrets) == 5
        assert list(result.mean_regret) == sorted(result.mean_regret, reverse=True)
        assert result.mean_regret[-1] == pytest.approx(sum(result.regrets) / 5)
        assert result.curve_evaluations == tuple(range(20, 401, 20))
        assert result.found_share == sum(regret == 0 for regret in result.regrets) / 5
        unfound = [number is None for number in result.evaluations_to_optimum]
        assert unfound == [regret > 0 for regret in result.regrets]
    by_name = {result.algorithm: result.mean_regret[-1] for result in results}
    assert by_name["evolution"] < by_name["random"]


def test_replay_with_a_spike_budget_counts_only_candidates_within_it() -> None:
    rows = make_table(SMALL)
    spikes = sorted(measured(row).spikes for row in rows)

    def within(budget: float) -> float:
        config = replace(SMALL, search=replace(SMALL.search, max_spikes=budget, max_evaluations=100))
        (result,) = replay(rows, config, [0], ["evolution"], spikes_reference=REFERENCE)
        assert result.regrets[0] >= 0
        return result.optimum_fitness

    assert within(spikes[20]) == max(row.fitness for row in rows if measured(row).spikes <= spikes[20])
    with pytest.raises(ValueError, match=r"No architecture of the table is within search.max_spikes"):
        within(spikes[0] - 1)


def test_failed_rows_fail_in_the_replay_too() -> None:
    rows = [failed(row) if row.candidate_id % 3 == 0 else row for row in make_table(SMALL)]
    (result,) = replay(rows, SMALL, [0], ["exhaustive"], spikes_reference=REFERENCE)
    assert result.regrets == (0.0,)
    assert result.optimum_fitness == max(row.fitness for row in rows if row.fitness)


def test_table_of_results_fits_a_terminal() -> None:
    results = replay(make_table(CONFIG), CONFIG, range(3), spikes_reference=REFERENCE)
    lines = replay_table(results).splitlines()
    assert len(lines) == 2 + 4 and max(map(len, lines)) <= 100


def exhaustive_run(path: Path, config: Config, *, num_rows: int | None = None) -> RunFolder:
    """A run folder whose search is finished with (the first of) a table."""
    run = RunFolder(path)
    run.write_config(config)
    run.write_supernet(SupernetResult("trained", "ab", REFERENCE, 8, 2, 9, Cost()))
    rows = make_table(config)[:num_rows]
    run.close_evaluations(rows)
    best = max(rows, key=lambda row: row.fitness or 0.0)
    size = len(config.network.search_space())
    run.write_best(SearchResult(best, "exhaustive", -0.08, REFERENCE, len(rows), 0, size, 2, Cost(9.0, 9.0)))
    return run


def test_command_replays_and_stores_what_it_prints(tmp_path: Path, capsys) -> None:
    run = exhaustive_run(tmp_path / "run", SMALL)
    assert run.read_replay() == []
    arguments = ["replay", str(run.path), "--seeds", "2", "--algorithms", "random", "aging"]
    assert launch.main(arguments) == 0
    printed = capsys.readouterr().out
    results = run.read_replay()
    assert replay_table(results) in printed
    rows = run.read_evaluations()
    assert results == replay(rows, SMALL, [0, 1], ["random", "aging"], spikes_reference=REFERENCE)


def test_command_refuses_what_it_cannot_replay(tmp_path: Path, capsys) -> None:
    part = exhaustive_run(tmp_path / "part", SMALL, num_rows=200)
    assert not holds_whole_space(part.read_evaluations(), SMALL.network.search_space())
    whole = exhaustive_run(tmp_path / "whole", SMALL)
    for arguments, message in (
        ([str(part.path)], "needs a finished run with --search.algorithm exhaustive"),
        ([str(whole.path), "--algorithms", "annealing"], "Unknown algorithm 'annealing'; choose from: evol"),
        ([str(whole.path), "--seeds", "0"], "--seeds must be at least 1, got 0"),
        ([str(whole.path), "--seeds", str(10**26)], "--seeds must be at most 100,000"),
    ):
        assert launch.main(["replay", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_report_of_a_whole_space_gives_the_exact_answers(tmp_path: Path) -> None:
    config = replace(CONFIG, search=replace(CONFIG.search, max_spikes=15_000.0))
    run = exhaustive_run(tmp_path / "run", config)
    run.write_replay(replay(run.read_evaluations(), CONFIG, [0, 1], spikes_reference=REFERENCE))
    report = write_report(run)
    rows = run.read_evaluations()
    answers = report.exact.answers
    assert [o.spike_exponent for o in answers.optima] == list(PAPER_EXPONENTS)
    assert answers.front_size == len(report.search.pareto_front) == len(exact_front(rows))
    assert answers.best_within == best_within(rows, config.search)
    assert "replay.json" in report.provenance.files
    assert json.loads((run.path / REPORT_JSON).read_text(encoding="utf-8")) == to_json(report)
    page = (run.path / REPORT_HTML).read_text(encoding="utf-8")
    texts = ("The whole space", "Optimum of every lambda", "chart-regret", "nsga2", "the space")
    for text in (*texts, "What each block costs and brings", "chart-effects", "chart-pair-effects"):
        assert text in page
    assert "Fitness per generation" not in page and "drawn at random" not in page
    assert (run.path / REPORT_HTML).stat().st_size < 7_000_000


def test_report_without_replay_or_whole_space_leaves_the_section_out(tmp_path: Path) -> None:
    whole = exhaustive_run(tmp_path / "whole", SMALL)
    assert write_report(whole).exact.replay == ()
    assert "chart-regret" not in (whole.path / REPORT_HTML).read_text(encoding="utf-8")
    part = exhaustive_run(tmp_path / "part", SMALL, num_rows=100)
    assert write_report(part).exact is None
    assert "The whole space" not in (part.path / REPORT_HTML).read_text(encoding="utf-8")
