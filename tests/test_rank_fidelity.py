"""Rank agreement: perfect scores, chance, the ceiling that noise sets, and what a choice costs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pipeline.analysis.rank_fidelity import choices, kendall, rank_agreements, spearman, tau_ceiling
from pipeline.config.named import named_config
from pipeline.fidelity.study import draw
from pipeline.storage.fidelity_records import Score, StudiedArchitecture


def studied(scores: np.ndarray, accuracies: np.ndarray) -> list[StudiedArchitecture]:
    """Architectures with these values of the score `here`; spikes grow as accuracies fall."""
    return [
        StudiedArchitecture(
            "random", f"a{i}", tuple(row), tuple(1000 * (1 - row)), float(row.mean()), {"here": Score(score)}
        )
        for i, (score, row) in enumerate(zip(scores.tolist(), accuracies, strict=True))
    ]


def test_score_in_the_right_order_has_tau_1_and_a_reversed_one_minus_1() -> None:
    accuracies = np.linspace(0.2, 0.8, 12)[:, None]
    for scores, expected in ((accuracies[:, 0] ** 3, 1.0), (-accuracies[:, 0], -1.0)):
        [agreement] = rank_agreements(studied(scores, accuracies))
        assert (agreement.score, agreement.measure) == ("here", "accuracy")
        assert agreement.tau is not None and agreement.spearman is not None
        assert agreement.tau.value == pytest.approx(expected) == agreement.spearman.value
        assert agreement.tau.low == pytest.approx(expected) == agreement.tau.high


def test_correlations_are_scipy_s_with_ties_too() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        x, y = rng.integers(0, 6, (2, 15)).astype(float)
        assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)


def test_interval_covers_the_true_tau_about_as_often_as_it_says() -> None:
    """Pairs of a normal distribution with correlation rho have tau = 2 / pi * asin(rho)."""
    rng, rho, covered = np.random.default_rng(0), 0.6, 0
    for _ in range(40):
        x, noise = rng.normal(size=(2, 24))
        [agreement] = rank_agreements(studied(x, (rho * x + math.sqrt(1 - rho**2) * noise)[:, None]))
        assert agreement.tau is not None
        covered += agreement.tau.low <= 2 / math.pi * math.asin(rho) <= agreement.tau.high
    assert 30 <= covered <= 40, "of 40 intervals of 90 %"


def test_score_that_calls_all_equal_has_no_tau() -> None:
    [agreement] = rank_agreements(studied(np.ones(5), np.linspace(0, 1, 5)[:, None]))
    assert agreement.tau is None and agreement.spearman is None


@pytest.mark.parametrize(("between", "within", "seeds"), [(1.0, 0.5, 2), (1.0, 2.0, 3)])
def test_ceiling_is_the_tau_of_a_perfect_score(between: float, within: float, seeds: int) -> None:
    rng = np.random.default_rng(1)
    true = rng.normal(scale=between, size=3000)
    values = true[:, None] + rng.normal(scale=within, size=(3000, seeds))
    expected = stats.kendalltau(true, values.mean(1)).statistic
    assert tau_ceiling(values) == pytest.approx(expected, abs=0.03)


def test_ceiling_of_noise_alone_is_0_and_of_one_seed_unknown() -> None:
    noise = np.array([[0.0, 1.0], [1.0, 0.1]])
    assert tau_ceiling(noise) == 0.0
    assert tau_ceiling(np.ones((4, 2))) is None and tau_ceiling(np.arange(4.0)[:, None]) is None


def test_choice_costs_what_is_missing_to_the_best() -> None:
    accuracies = np.array([[0.5, 0.7], [0.9, 0.9], [0.2, 0.4]])
    chosen, random = choices(studied(np.array([3.0, 2.0, 1.0]), accuracies))
    assert chosen.architecture == "a0" and chosen.accuracy_regret == pytest.approx(0.3)
    assert random.score == "random" and random.accuracy_regret == pytest.approx(0.3)


def test_larger_study_keeps_the_architectures_of_a_smaller_one() -> None:
    config, best = named_config("cifar10_small"), "-".join(["SRB_k3"] * 5)
    small, large = draw(config, best, 5), draw(config, best, 30)
    assert list(large.items())[:5] == list(small.items())
    assert list(small.values()) == ["best", "autosnn", "all-SCB_k3", "random", "random"]
    assert len({str(architecture) for architecture in large}) == 30
    outside = replace(config, retrain=replace(config.retrain, architectures=("best", "all-SIB_k3_e1")))
    assert list(draw(outside, best, 4).values()) == ["best", "random", "random", "random"]
    with pytest.raises(ValueError, match="--architectures must be at least 3"):
        draw(config, best, 2)
    with pytest.raises(ValueError, match="at most 3,125"):
        draw(config, best, 4000)
