"""Sequential elimination keeps the Pareto front, however the work is divided."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from toys import make_search

from pipeline.algorithms.elimination import SequentialElimination
from pipeline.config.named import named_config
from pipeline.search.answers import Answer
from pipeline.search.results import Results
from pipeline.search.rounds import Rounds
from pipeline.search.searcher import AskTellSearcher
from pipeline.storage.records import Cost, EvaluationRow, Shard, SupernetResult, complete_rows
from pipeline.storage.run_folder import RunFolder
from snn.fitness import Evaluation, SampleScores, pareto_front
from snn.search_space import Architecture, SearchSpace

NUM_SAMPLES = 400
SPACE = SearchSpace(3)


class Table:
    """What each architecture of SPACE does on each sample: easy and hard samples, costly and cheap ones."""

    def __init__(self, seed: int = 0, spread: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        effects = rng.normal(0, spread, (SPACE.num_layers, len(SPACE.blocks)))
        costs = rng.uniform(0, 300, effects.shape)
        hard = rng.normal(0, 1.5, NUM_SAMPLES)
        digits = [[SPACE.blocks.index(block) for block in a.blocks] for a in SPACE]
        skill = np.array([sum(effects[i, d] for i, d in enumerate(row)) for row in digits])
        noise = rng.normal(0, 1, (len(SPACE), NUM_SAMPLES))
        self.correct = skill[:, None] - hard + noise > 0
        base = np.array([sum(costs[i, d] for i, d in enumerate(row)) for row in digits])
        self.cost = (base[:, None] * rng.lognormal(0, 0.3, NUM_SAMPLES)).astype(np.int64) + 1

    def means(self) -> list[tuple[float, float]]:
        return list(zip(self.correct.mean(1), self.cost.mean(1), strict=True))

    def front(self) -> set[int]:
        return set(pareto_front(self.means()))

    def scores(self, architecture: Architecture, order: np.ndarray) -> SampleScores:
        i = SPACE.index(architecture)
        return SampleScores(self.correct[i, order], self.cost[i, order])


def race(table: Table, risk: float, seed: int) -> tuple[set[int], int]:
    """Candidates that see all samples, and how many samples of candidates were measured."""
    order = np.random.default_rng(seed).permutation(NUM_SAMPLES)
    elimination = SequentialElimination(NUM_SAMPLES, risk)
    alive, start, measured = set(range(len(SPACE))), 0, 0
    for look, end in enumerate(elimination.looks):
        for i in alive:
            part = order[start:end]
            elimination.add(look, i, table.correct[i, part], table.cost[i, part])
        measured += len(alive) * (end - start)
        alive -= elimination.dropped(look, alive)
        start = end
    return alive, measured


@pytest.mark.parametrize("number", [1, 2, 49, 50, 51, 74, 75, 100, 1797, 2000, 10_000, 50_000])
def test_looks_grow_to_the_last_sample(number: int) -> None:
    looks = SequentialElimination(number, 0.05).looks
    assert looks[-1] == number and looks[0] >= min(number, 50)
    sizes = [end - start for start, end in pairwise((0, *looks))]
    assert min(sizes) > 0 and len(looks) <= 9
    assert sizes[-1] >= sizes[len(sizes) // 2]


def test_front_is_kept_with_the_stated_probability_and_most_work_is_saved() -> None:
    lost = kept = measured = 0
    for seed in range(12):
        table = Table(seed)
        for shuffle in range(4):
            alive, used = race(table, 0.05, shuffle)
            lost += len(table.front() - alive)
            kept += len(table.front() & alive)
            measured += used
    assert lost <= 0.05 * (lost + kept)
    assert measured < 0.6 * 48 * len(SPACE) * NUM_SAMPLES


def test_higher_risk_saves_more() -> None:
    used = [race(Table(1), risk, 0)[1] for risk in (1e-9, 0.05, 0.5)]
    assert used == sorted(used, reverse=True) and used[0] > used[-1]


def test_candidates_that_cannot_be_told_apart_all_stay() -> None:
    elimination = SequentialElimination(NUM_SAMPLES, 0.5)
    rng = np.random.default_rng(0)
    correct, cost = rng.random(50) < 0.5, rng.integers(1, 100, 50)
    for i in range(10):
        elimination.add(0, i, correct, cost)
    elimination.add(0, 10, np.zeros(50, bool), np.ones(50, np.int64))  # silent and wrong: on the front
    elimination.add(0, 11, correct, cost + 1)  # no less accurate
    assert elimination.dropped(0, range(12)) == set()


def test_clear_loser_is_out_at_the_first_look_and_forgotten() -> None:
    elimination = SequentialElimination(NUM_SAMPLES, 0.05)
    rng = np.random.default_rng(0)
    cost = rng.integers(50, 150, 50)
    elimination.add(0, 0, np.ones(50, bool), cost)
    elimination.add(0, 1, np.zeros(50, bool), cost + 20)
    elimination.add(0, 2, np.zeros(50, bool), cost - 40)  # cheaper
    assert elimination.dropped(0, [0, 1, 2]) == {1}
    elimination.add(1, 0, np.ones(25, bool), cost[:25])
    elimination.add(1, 2, np.zeros(25, bool), cost[:25] - 40)
    assert elimination.dropped(1, [0, 2]) == set()


def rounds_of(known: list[Shard] | None = None, store=None, risk: float = 0.05) -> Rounds:
    elimination = SequentialElimination(NUM_SAMPLES, risk)
    return Rounds(elimination, known=known or (), **({"store": store} if store else {}))


def run(
    table: Table,
    rounds: Rounds,
    *,
    algorithm: str = "exhaustive",
    slots: int = 2,
    seed: int = 0,
    fails: str = "",
    lose: int = -1,
    trials: int = 10**9,
) -> tuple[list[EvaluationRow], int]:
    """Drives a searcher as Tune does, trials ending in any order; returns its table and the trials."""
    rng, order = random.Random(seed), np.random.default_rng(7).permutation(NUM_SAMPLES)
    search = make_search(SPACE, algorithm=algorithm, max_evaluations=60)
    searcher = AskTellSearcher(search, Results(), num_workers=slots, rounds=rounds)
    live: dict[str, dict] = {}
    number = 0
    while number < trials:
        while len(live) < slots and isinstance(suggestion := searcher.suggest(f"{number}"), dict):
            live[f"{number}"] = suggestion
            number += 1
        if not live:
            break
        done = rng.choice(list(live))
        config = live.pop(done)
        if int(done) == lose:
            searcher.on_trial_complete(done, None, error=True)
            continue
        answers = [answer(table, i, text, order[slice(*config["part"])]) for i, text in config["candidates"]]
        answers = [
            Answer(a.candidate_id, error="E") if t == fails else a
            for a, (_, t) in zip(answers, config["candidates"], strict=True)
        ]
        searcher.on_trial_complete(done, {"answers": answers})
    assert searcher.failure is None
    return sorted(searcher.results.table, key=lambda row: row.candidate_id), number


def answer(table: Table, number: int, text: str, part: np.ndarray) -> Answer:
    scores = table.scores(Architecture.parse(text), part)
    spikes = float(scores.spikes.sum()) / len(part)
    evaluation = Evaluation(float(scores.correct.sum()) / len(part), spikes, 0.1, len(part))
    return Answer(number, evaluation, scores=scores)


@pytest.mark.parametrize("algorithm", ["exhaustive", "evolution", "random", "aging", "nsga2"])
def test_table_does_not_depend_on_workers_or_order(algorithm: str) -> None:
    table = Table()
    expected, _ = run(table, rounds_of(), algorithm=algorithm, slots=1)
    assert len(expected) == (len(SPACE) if algorithm == "exhaustive" else 60)
    assert len(complete_rows(expected)) < len(expected)
    for slots, seed in ((2, 1), (5, 2), (64, 3)):
        rows, _ = run(table, rounds_of(), algorithm=algorithm, slots=slots, seed=seed)
        assert rows == expected


def test_complete_candidates_have_the_results_of_all_samples() -> None:
    table = Table()
    rows, _ = run(table, rounds_of())
    means = table.means()
    assert table.front() <= {row.candidate_id for row in complete_rows(rows)}
    for row in complete_rows(rows):
        assert (row.evaluation.accuracy, row.evaluation.spikes) == means[row.candidate_id]


def test_lost_trial_costs_nothing_but_its_repetition() -> None:
    expected, trials = run(Table(), rounds_of())
    for lose in (0, 7, 30):
        rows, more = run(Table(), rounds_of(), lose=lose)
        assert rows == expected and more > trials


def test_failed_candidate_is_out_and_the_others_are_as_they_were() -> None:
    dominated, _ = run(Table(), rounds_of())
    victim = next(row for row in dominated if row not in complete_rows(dominated))
    rows, _ = run(Table(), rounds_of(), fails=victim.architecture)
    [failed] = [row for row in rows if row.error]
    assert failed.architecture == victim.architecture and failed.evaluation is None
    assert [row for row in rows if row != failed] == [row for row in dominated if row != victim]


def test_interrupted_search_measures_nothing_twice(tmp_path: Path) -> None:
    table, folder = Table(), stored_run(tmp_path)
    expected, trials = run(table, rounds_of())
    run(table, rounds_of(store=folder.append_shards), trials=trials // 2)
    stored = list(folder.read_shards())
    assert {shard.look for shard in stored} > {0}
    rows, fewer = run(table, rounds_of(known=stored, store=folder.append_shards))
    assert rows == expected and 0 < fewer < trials - len({s.row.candidate_id for s in stored}) // 125
    rows, none = run(table, rounds_of(known=list(folder.read_shards())))
    assert rows == expected and none == 0
    folder.close_evaluations(rows)
    assert list(folder.read_shards()) == [] and len(folder.read_evaluations()) == len(rows)


@pytest.mark.parametrize(
    "damage", ["empty", "cut", *(f"flipped at {percent} %" for percent in range(5, 100, 10))]
)
def test_damaged_shards_are_measured_again(tmp_path: Path, caplog, damage: str) -> None:
    table, folder = Table(), stored_run(tmp_path)
    expected, trials = run(table, rounds_of(store=folder.append_shards))
    victim = sorted(tmp_path.rglob("shards/00-*.parquet"))[0]
    whole = victim.read_bytes()
    share = float(damage.split()[-2]) / 100 if damage.startswith("flipped") else 0.5
    place = int(share * len(whole))
    flipped = whole[:place] + bytes([255 - whole[place]]) + whole[place + 1 :]
    victim.write_bytes({"empty": b"", "cut": whole[:place]}.get(damage, flipped))
    known = list(folder.read_shards())
    rows, more = run(table, rounds_of(known=known))
    assert rows == expected and more < trials
    if more or not damage.startswith("flipped"):  # what nobody reads may be flipped
        assert victim.name in caplog.text and "its candidates are measured again" in caplog.text


def test_shards_of_another_run_are_refused(tmp_path: Path) -> None:
    folder = stored_run(tmp_path / "one")
    run(Table(), rounds_of(store=folder.append_shards), trials=3)
    other = RunFolder(tmp_path / "two" / "run")
    other.write_config(replace(named_config("cifar10"), seed=5))
    other.write_supernet(SupernetResult("trained", "ab", 100.0, 8, 2, 9, Cost()))
    shutil.copytree(tmp_path / "one" / "run" / "shards", tmp_path / "two" / "run" / "shards")
    with pytest.raises(
        ValueError, match=r"shards/.*was made with other settings(?s:.*)seed: 0 there, 5 asked"
    ):
        list(other.read_shards())


def stored_run(path: Path) -> RunFolder:
    folder = RunFolder(path / "run")
    folder.write_config(named_config("cifar10"))
    folder.write_supernet(SupernetResult("trained", "ab", 100.0, 8, 2, 9, Cost()))
    return folder


def test_settings_that_contradict_each_other_are_refused() -> None:
    config = named_config("cifar10")
    for changes, message in (
        ({"racing": True}, "leave one of them out"),
        ({"spike_exponent": 0.1}, "spike_exponent is above 0"),
        ({"more_exponents": (0.2,)}, "spike_exponent is above 0"),
        ({"scoring": "short_training"}, "search.rungs drop them there"),
        ({"elimination_risk": 0.0}, "search.elimination_risk must be"),
        ({"elimination_risk": 1.0}, "search.elimination_risk must be"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(config.search, **{"elimination_risk": 0.05, **changes})
