"""Short trainings with rungs: the same table for any number of workers and order, resumed or not."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from processes import without_times
from ray.tune.search import Searcher
from toys import make_search, toy_evaluation

import launch
from pipeline.algorithms.halving import SuccessiveHalving
from pipeline.run import open_run, run_stage
from pipeline.search.answers import Answer
from pipeline.search.evaluation_cache import EvaluationCache
from pipeline.search.results import Results
from pipeline.search.searcher import AskTellSearcher
from pipeline.storage.evaluations import from_parquet, to_parquet
from pipeline.storage.files import LocalFiles
from pipeline.storage.names import REPORT_HTML
from pipeline.storage.records import EvaluationRow, Rung, complete_rows
from pipeline.storage.run_folder import RunFolder
from snn.fitness import Evaluation
from snn.search_space import Architecture

NUM_RUNGS = 3


def toy_rungs(text: str) -> list[Rung]:
    """What a training of an architecture measures: the further it is, the less noise."""
    evaluation = toy_evaluation(Architecture.parse(text))
    rng = random.Random(text)
    return [
        Rung(100 * 3**k, evaluation.accuracy + rng.gauss(0, 0.1 / 3**k), evaluation.spikes)
        for k in range(NUM_RUNGS)
    ]


def make_searcher(
    *, slots: int, algorithm="evolution", known: Mapping[str, EvaluationRow] | None = None, **changes
) -> AskTellSearcher:
    return AskTellSearcher(
        make_search(algorithm=algorithm, max_evaluations=100, **changes),
        Results(known),
        num_workers=slots,
        largest_group=1,
        halving=SuccessiveHalving(NUM_RUNGS, 3.0),
    )


def drive(searcher: AskTellSearcher, *, slots: int, seed: int = 0, lose: float = 0.0) -> int:
    """Runs trials in random order, rung by rung, as Tune would; returns the number of rungs trained."""
    rng, live, trials, trained = random.Random(seed), dict[str, tuple[int, list[Rung]]](), 0, 0
    reached: dict[str, int] = {}
    while True:
        suggestion = None
        while len(live) < slots:
            suggestion = searcher.suggest(f"t{trials}")
            if suggestion is None or suggestion == Searcher.FINISHED:
                break
            [(number, text)] = suggestion["candidates"]
            live[f"t{trials}"] = (number, toy_rungs(text))
            reached[f"t{trials}"] = 0
            trials += 1
        if not live:
            assert suggestion == Searcher.FINISHED, "None with nothing live would block Tune"
            return trained
        trial = rng.choice(list(live))
        number, rungs = live[trial]
        trained += 1
        reached[trial] += 1
        so_far = tuple(rungs[: reached[trial]])
        evaluation = Evaluation(so_far[-1].accuracy, so_far[-1].spikes, 0.1, 100)
        result = {"answers": [Answer(number, evaluation, rungs=so_far)]}
        searcher.on_trial_result(trial, result)
        if rng.random() < lose:
            del live[trial]
            searcher.release(trial)
            searcher.on_trial_complete(trial, result=None, error=True)
        elif len(so_far) == NUM_RUNGS or searcher.drops(trial, result):
            del live[trial]
            searcher.on_trial_complete(trial, result=result)


def table(searcher: AskTellSearcher, **driven) -> list[EvaluationRow]:
    drive(searcher, **driven)
    return sorted(searcher.results.table, key=lambda row: row.candidate_id)


@pytest.mark.parametrize("algorithm", ["evolution", "random", "aging", "nsga2"])
def test_table_is_the_same_for_any_number_of_workers_and_order(algorithm: str) -> None:
    expected = table(make_searcher(slots=1, algorithm=algorithm), slots=1)
    dropped = len(expected) - len(complete_rows(expected))
    assert 30 < dropped < 80
    for seed in range(3):
        searcher = make_searcher(slots=7, algorithm=algorithm)
        assert table(searcher, slots=7, seed=seed, lose=0.05) == expected


def test_first_generation_is_trained_to_its_end_and_the_best_third_goes_on() -> None:
    rows = table(make_searcher(slots=4, algorithm="random"), slots=4)
    assert all(len(row.rungs) == NUM_RUNGS for row in rows if row.generation == 0)
    later = [row for row in rows if row.generation >= 3]
    assert 0.15 < sum(len(row.rungs) > 1 for row in later) / len(later) < 0.5


@pytest.mark.parametrize("algorithm", ["evolution", "random"])
@pytest.mark.parametrize("number", [1, 10, 37, 99])
def test_interrupted_search_resumes_with_what_it_knows(algorithm: str, number: int) -> None:
    expected = table(make_searcher(slots=2, algorithm=algorithm), slots=2)
    known = {row.architecture: row for row in expected[:number]}
    searcher = make_searcher(slots=2, algorithm=algorithm, known=known)
    trained = drive(searcher, slots=2)
    assert sorted(searcher.results.table, key=lambda row: row.candidate_id) == expected
    assert trained == sum(len(row.rungs) for row in expected[number:])


def test_complete_trainings_of_other_runs_change_nothing() -> None:
    """A candidate that this search would have dropped is trained again, up to where it drops it."""
    expected = table(make_searcher(slots=2), slots=2)
    known = {}
    for row in expected[::2]:
        rungs = tuple(toy_rungs(row.architecture))
        evaluation = Evaluation(rungs[-1].accuracy, rungs[-1].spikes, 0.1, 100)
        known[row.architecture] = EvaluationRow(-1, 0, row.architecture, (), evaluation, rungs=rungs)
    assert table(make_searcher(slots=2, known=known), slots=2) == expected


def test_only_trainings_that_went_to_their_end_are_shared_with_other_runs(tmp_path: Path) -> None:
    searcher = make_searcher(slots=2)
    searcher.results.cache = cache = EvaluationCache(LocalFiles(tmp_path), "key")
    searcher.results.num_samples, searcher.results.num_rungs = 100, NUM_RUNGS
    rows = table(searcher, slots=2)
    assert (
        set(cache.read())
        == {row.architecture for row in complete_rows(rows)}
        < {row.architecture for row in rows}
    )


def test_candidates_above_the_spike_budget_do_not_push_out_those_within() -> None:
    searcher = make_searcher(slots=1, max_spikes=75.0)
    rows = table(searcher, slots=1)
    complete = [row.evaluation.spikes for row in complete_rows(rows) if row.generation > 3]
    assert complete and max(complete) <= 75.0 < max(row.evaluation.spikes for row in rows)


def test_last_rung_and_few_to_compare_with_drop_nobody() -> None:
    halving = SuccessiveHalving(2, 3.0)
    for fitness in (0.5, 0.6):
        halving.file(0, [fitness, fitness])
    assert not halving.drops(1, [0.1])
    halving.file(0, [0.7, 0.7])
    assert halving.drops(1, [0.1]) and not halving.drops(0, [0.1])
    assert not halving.drops(1, [0.7, 0.1])
    assert not halving.is_over(1, [])


def test_rungs_survive_the_table_on_disk() -> None:
    rows = table(make_searcher(slots=2), slots=2)
    assert from_parquet(to_parquet(rows)).rows == rows


TINY = [
    *("--search.scoring", "short_training", "--search.max-evaluations", "12", "--search.no-cache"),
    *("--search.population-size", "4", "--search.num-parents", "2", "--search.num-mutants", "2"),
    *("--search.training-samples", "300", "--search.statistics", "recalibrated"),
    *("--data.max-train-samples", "300", "--data.max-test-samples", "100", "--network.channels", "4"),
    *("--retrain.epochs", "1", "--retrain.architectures", "best"),
]


@pytest.mark.slow
def test_search_by_short_trainings_goes_through_all_stages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a super-network, with the same table for one and two workers, resumed from a part of it."""
    first, second = RunFolder(tmp_path / "first"), RunFolder(tmp_path / "second")
    assert launch.main(["run", "demo", *TINY, "--run-dir", str(first.path), "--ray.num-workers", "2"]) == 0
    assert "1/3 super-network: skipped, as search.scoring is short_training" in capsys.readouterr().out
    assert not list(first.path.glob("supernet*"))
    rows = without_times(first.read_evaluations())
    assert len(rows) == 12 and any(len(row["rung_samples"]) < 3 for row in rows)
    assert all(row["rung_accuracy"][-1] == row["accuracy"] for row in rows)
    assert "weights of its own from a short training" in (first.path / REPORT_HTML).read_text()
    open_run(second, config := first.read_config().here(ray_num_workers=1))
    second.append_evaluations(first.read_evaluations()[:5])
    run_stage("search", second, config)
    assert without_times(second.read_evaluations()) == rows and second.read_best().num_known == 5
    assert launch.main(["evaluate", str(first.path), "--architecture", "autosnn"]) == 2
    assert "has no super-network to evaluate with" in capsys.readouterr().err
    assert launch.main(["fidelity", str(first.path), "--architectures", "3", "--seeds", "1"]) == 0
    study = first.read_fidelity()
    assert study is not None and "stored" not in study.architectures[0].scores
