"""The Tune adapter, driven without Tune: groups, replay of what is known, lost trials."""

from __future__ import annotations

import pickle
import random
from collections.abc import Set
from dataclasses import replace
from pathlib import Path

import pytest
from ray.tune.search import Searcher
from toys import make_search, toy_evaluation

from pipeline.search.answers import Answer
from pipeline.search.evaluation_cache import EvaluationCache
from pipeline.search.results import Results
from pipeline.search.searcher import AskTellSearcher, group_sizes
from pipeline.storage.files import LocalFiles
from pipeline.storage.records import EvaluationRow
from pipeline.storage.run_folder import RunFolder
from snn.fitness import Evaluation
from snn.search_space import Architecture


def answer(candidate_id: int, text: str) -> Answer:
    return Answer(candidate_id, toy_evaluation(Architecture.parse(text)), worker="w", seconds=0.1)


def drive(
    searcher: AskTellSearcher,
    *,
    slots: int,
    rng: random.Random,
    lose: Set[int] = frozenset(),
    lose_candidate: int | None = None,
    always_busy: bool = False,
) -> int:
    """Runs a search with `slots` trials at once, finishing in random order; returns the number of trials."""
    live: dict[str, dict] = {}
    trials = 0
    while True:
        while len(live) < slots:
            trial_id = f"trial-{trials}"
            suggestion = searcher.suggest(trial_id)
            if suggestion is None or suggestion == Searcher.FINISHED:
                break
            live[trial_id] = suggestion
            trials += 1
        if always_busy and suggestion != Searcher.FINISHED:
            assert len(live) == slots or not list(searcher.search.likely_next())
        if not live:
            assert suggestion == Searcher.FINISHED, "None with nothing live would block Tune"
            return trials
        done = rng.choice(list(live))
        candidates = live.pop(done)["candidates"]
        if int(done.split("-")[1]) in lose or lose_candidate in [i for i, _ in candidates]:
            searcher.on_trial_complete(trial_id=done, result=None, error=True)
        else:
            answers = [answer(i, text) for i, text in candidates]
            searcher.on_trial_complete(trial_id=done, result={"answers": answers}, error=False)


def make_searcher(search=None, *, slots: int, known=None, **options) -> AskTellSearcher:
    return AskTellSearcher(search or make_search(), Results(known), num_workers=slots, **options)


def table(algorithm="evolution", *, slots: int, seed: int = 0, known=None, lose: Set[int] = frozenset()):
    searcher = make_searcher(make_search(algorithm=algorithm), slots=slots, known=known)
    trials = drive(searcher, slots=slots, rng=random.Random(seed), lose=lose)
    return by_id(searcher), trials


def by_id(searcher: AskTellSearcher) -> list[EvaluationRow]:
    return sorted(searcher.results.table, key=lambda row: row.candidate_id)


@pytest.mark.parametrize("algorithm", ["evolution", "random"])
def test_rows_are_the_same_for_any_number_of_workers_and_order(algorithm: str) -> None:
    expected, _ = table(algorithm, slots=1)
    assert len(expected) == 150
    for slots, seed in ((2, 1), (3, 2), (8, 3), (64, 4)):
        assert table(algorithm, slots=slots, seed=seed)[0] == expected


def test_known_evaluations_are_not_evaluated_again() -> None:
    expected, trials = table(slots=2)
    half = {row.architecture: row for row in expected[:75]}
    rows, fewer = table(slots=2, known=half)
    assert rows == expected
    assert fewer < trials
    whole = {row.architecture: row for row in expected}
    assert table(slots=2, known=whole) == (expected, 0)


@pytest.mark.parametrize("lose", [0, 3, 9])
def test_candidates_of_a_lost_trial_are_handed_out_again(lose: int) -> None:
    expected, trials = table(slots=2)
    rows, more = table(slots=2, lose={lose})
    assert rows == expected
    assert more > trials or lose == 0


def test_candidate_that_is_lost_again_and_again_fails_alone() -> None:
    searcher = make_searcher(slots=2)
    guilty = searcher.suggest("first")["candidates"][0]
    searcher.on_trial_complete("first", None, error=True)
    drive(searcher, slots=2, rng=random.Random(0), lose_candidate=guilty[0])
    rows = by_id(searcher)
    assert len(rows) == 150
    [failed] = [row for row in rows if row.error]
    assert failed.candidate_id == guilty[0] and failed.fitness is None and "without a result" in failed.error


def test_loss_of_a_node_that_leaves_is_never_held_against_a_candidate() -> None:
    searcher = make_searcher(slots=2)
    first = searcher.suggest("0")["candidates"]
    for number in range(9):
        searcher.release(str(number))
        searcher.on_trial_complete(str(number), None, error=True)
        assert searcher.suggest(str(number + 1))["candidates"] == first[:1]
    assert not searcher.results.table


def test_evaluator_that_cannot_start_ends_the_search_and_blames_no_candidate() -> None:
    searcher = make_searcher(slots=2)
    searcher.suggest("a")
    searcher.suggest("b")
    searcher.on_trial_complete("a", {"setup_error": "node7: FileNotFoundError: no data"})
    assert searcher.suggest("c") == Searcher.FINISHED
    assert searcher.setup_error == "node7: FileNotFoundError: no data"
    assert not searcher.search.results


def test_generation_is_shared_out_in_groups_with_common_prefixes_that_get_smaller() -> None:
    searcher = make_searcher(slots=2)
    groups = []
    while (suggestion := searcher.suggest(f"trial-{len(groups)}")) is not None:
        groups.append(suggestion["candidates"])
    assert [len(group) for group in groups] == [3, 2, 2, 1, 1, 1]
    texts = [text for group in groups for _, text in group]
    assert texts == sorted(texts, key=lambda text: text.split("-"))


@pytest.mark.parametrize("num_workers", [1, 2, 64])
def test_groups_hold_every_candidate_once_and_none_is_larger_than_a_workers_share(num_workers: int) -> None:
    for number in (0, 1, 20, 3125):
        sizes = list(group_sizes(number, num_workers))
        assert sum(sizes) == number
        assert sizes == sorted(sizes, reverse=True)
        assert all(size <= max(1, number / num_workers) for size in sizes)


@pytest.mark.parametrize("slots", [2, 3, 8])
def test_speculation_fills_idle_slots_and_changes_nothing_but_saves_work(slots: int) -> None:
    expected, _ = table(slots=slots)
    searcher = make_searcher(slots=slots, speculate=True)
    drive(searcher, slots=slots, rng=random.Random(1), always_busy=True)
    assert by_id(searcher) == expected
    ahead = [row for row in searcher.results.known.values() if row.candidate_id < 0]
    assert searcher.ahead is not None and 0 < len(ahead) <= searcher.ahead.num_started
    assert all(row.evaluation is not None for row in ahead)
    asked = {row.architecture for row in expected}
    assert searcher.results.num_known == len(asked & {row.architecture for row in ahead}) > 0


def test_lost_trial_ahead_of_the_search_is_no_result() -> None:
    searcher = make_searcher(slots=64, speculate=True)
    trials = [searcher.suggest(f"trial-{i}") for i in range(11)]
    assert [c[0] for c in trials[-1]["candidates"]] == [-1]
    searcher.on_trial_complete("trial-10", None, error=True)
    assert not searcher.results.table and not searcher.results.known and not searcher.search.results


def test_results_that_cannot_be_stored_end_the_search(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    results = Results(run=RunFolder(tmp_path / "run"))
    searcher = AskTellSearcher(make_search(), results, num_workers=1)
    suggestion = searcher.suggest("a")
    searcher.on_trial_complete("a", {"answers": [answer(*c) for c in suggestion["candidates"]]})
    assert isinstance(searcher.failure, OSError)
    assert searcher.suggest("b") == Searcher.FINISHED


def test_only_complete_measurements_are_shared_with_other_runs(tmp_path: Path) -> None:
    cache = EvaluationCache(LocalFiles(tmp_path))
    results = Results(cache=cache, num_samples=100)
    complete = Evaluation(0.5, 10.0, 0.1, 100)
    rows = [
        EvaluationRow(0, 0, "SCB_k3", (), complete),
        EvaluationRow(1, 0, "SCB_k5", (), replace(complete, num_samples=50)),
        EvaluationRow(2, 0, "SRB_k3", (), error="RuntimeError"),
    ]
    results.add_measured(rows)
    results.add_known([EvaluationRow(3, 0, "SRB_k5", (), complete)])
    results.add_ahead(EvaluationRow(-1, 0, "skip_connect", (), complete))
    assert cache.read().keys() == {"SCB_k3", "skip_connect"}
    assert [row.candidate_id for row in results.table] == [0, 1, 2, 3]


def test_racing_tells_trials_what_a_candidate_must_reach() -> None:
    searcher = make_searcher(slots=1, racing=True)
    thresholds = []
    while isinstance(suggestion := searcher.suggest("a"), dict):
        thresholds.append(suggestion["threshold"])
        answers = [answer(i, text) for i, text in suggestion["candidates"]]
        searcher.on_trial_complete("a", {"answers": answers})
    known = [threshold for threshold in thresholds if threshold is not None]
    assert thresholds[0] is None and known == sorted(known) and len(set(known)) > 2


def test_searcher_is_pickled_without_what_cannot_be(tmp_path: Path) -> None:
    searcher = make_searcher(slots=2)
    drive(searcher, slots=2, rng=random.Random(0))
    copy = pickle.loads(pickle.dumps(searcher))
    assert copy.search.state_dict() == searcher.search.state_dict()
    searcher.save(str(tmp_path / "state.json"))
    other = make_searcher(make_search(seed=5), slots=2)
    other.restore(str(tmp_path / "state.json"))
    assert [c.id for c in other.search.ranking()] == [c.id for c in searcher.search.ranking()]
