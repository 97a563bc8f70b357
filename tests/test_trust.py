"""A search whose scores tell nothing says so; one whose scores tell something does not."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.algorithms.settings import SearchSettings
from pipeline.analysis.trust import Trust, judge
from pipeline.storage.records import EvaluationRow
from snn.fitness import Evaluation


def rows(accuracies: list[float], spikes: list[float], num_samples: int) -> list[EvaluationRow]:
    return [
        EvaluationRow(i, 0, f"a{i}", (), Evaluation(accuracy, n, 0.1, num_samples))
        for i, (accuracy, n) in enumerate(zip(accuracies, spikes, strict=True))
    ]


def judged(
    accuracies: list[float], *, spikes: float = 1000.0, num_samples: int = 2000, best: int = 0
) -> Trust:
    table = rows(accuracies, [spikes] * len(accuracies), num_samples)
    return judged_rows(table, table[best], spikes_reference=1000.0)


def judged_rows(table: list[EvaluationRow], best: EvaluationRow, *, spikes_reference: float) -> Trust:
    return judge(
        table,
        best,
        chance=0.1,
        settings=SearchSettings(spike_exponent=-0.08),
        spikes_reference=spikes_reference,
        reference=spikes_reference,
        longer="train longer (--supernet.epochs)",
    )


def test_choice_far_above_all_others_is_believed() -> None:
    assert judged([0.8, 0.5, 0.4, 0.3]) == Trust(1.0, ())


def test_equal_candidates_share_the_probability() -> None:
    assert judged([0.5] * 4).probability_best == pytest.approx(0.25, abs=0.03)


def test_probability_is_the_share_of_searches_that_chose_rightly() -> None:
    """Ten candidates of known accuracy, measured on 400 samples again and again."""
    rng, true = np.random.default_rng(0), np.linspace(0.5, 0.54, 10)
    right, said = [], []
    for _ in range(300):
        seen = rng.binomial(400, true) / 400
        best = int(seen.argmax())
        right.append(best == 9)
        said.append(judged(seen.tolist(), num_samples=400, best=best).probability_best)
    assert np.mean(said) == pytest.approx(np.mean(right), abs=0.08)


def test_guessing_silence_and_noise_are_named_with_what_to_do() -> None:
    [guessing, noise] = judged([0.11, 0.1, 0.1], num_samples=100).doubts
    assert "that of guessing (10.0%)" in guessing and "--supernet.epochs" in guessing
    assert "standard error" in noise and "--data.train-fraction" in noise
    [silent] = judged([0.8, 0.5, 0.3], spikes=50.0).doubts
    assert silent.startswith("it is nearly silent: 50 spikes") and "--search.statistics" in silent


def test_order_of_arrival_changes_nothing() -> None:
    table = rows([0.79, 0.8, 0.6, 0.7, 0.5], [900, 1000, 950, 920, 980], 500)
    in_turn, reversed_ = (judged_rows(t, table[1], spikes_reference=1000.0) for t in (table, table[::-1]))
    assert 0.2 < in_turn.probability_best < 0.8
    assert in_turn == reversed_


def test_failed_candidates_are_left_out() -> None:
    table = [EvaluationRow(7, 0, "failed", (), error="lost"), *rows([0.8, 0.2], [900.0, 900.0], 500)]
    assert judged_rows(table, table[1], spikes_reference=900.0).doubts == ()
