"""How far the choice of a finished search can be trusted, from its own table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.algorithms.settings import SearchSettings
from pipeline.storage.records import EvaluationRow

# Share of the spikes of random paths while training below which a network counts as nearly silent.
_NEARLY_SILENT = 0.1
_DRAWS = 2000
_NUMBERS_AT_ONCE = 4_000_000

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Trust:
    """What speaks for a choice and against it.

    Attributes:
        probability_best: That the chosen candidate has the highest fitness of those scored, if accuracies on
            D_val have the errors of independent samples. Differences between candidates on the same samples
            have smaller ones, so that it errs on the low side. It says nothing of training from scratch.
        doubts: Why the scores cannot tell architectures apart, each with what to do; empty if they can.
    """

    probability_best: float
    doubts: tuple[str, ...]


def judge(
    rows: Sequence[EvaluationRow],
    best: EvaluationRow,
    *,
    chance: float,
    settings: SearchSettings,
    spikes_reference: float,
    reference: float,
    longer: str,
) -> Trust:
    """Judges a search.

    Args:
        rows: Its table.
        best: Its choice, one of them.
        chance: Accuracy of always naming the most frequent class of D_val, in [0, 1].
        settings: The fitness.
        spikes_reference: Mean spikes of random paths while training.
        reference: The fitness' N_avg, in the unit of its cost.
        longer: The advice that makes accuracies less noisy.
    """
    in_order = sorted(rows, key=lambda row: row.candidate_id)  # not that of their arrival, which is chance
    measured = [row for row in in_order if row.evaluation is not None]
    accuracy = np.array([row.evaluation.accuracy for row in measured if row.evaluation])
    num_samples = np.array([row.evaluation.num_samples for row in measured if row.evaluation])
    spikes = np.array([row.evaluation.spikes for row in measured if row.evaluation])
    errors = np.sqrt(np.maximum(accuracy * (1 - accuracy), 1 / (4 * num_samples)) / num_samples)
    chosen = next(i for i, row in enumerate(measured) if row.candidate_id == best.candidate_id)
    perfect = [replace(row.evaluation, accuracy=1.0) for row in measured if row.evaluation]
    factors = np.array([settings.fitness(evaluation, reference) for evaluation in perfect])
    return Trust(
        _probability_first(*_true(accuracy, errors), factors, chosen),
        tuple(_doubts(accuracy, errors, spikes, chosen, chance, spikes_reference, longer)),
    )


def _probability_first(means: Values, errors: Values, factors: Values, chosen: int) -> float:
    """Share of draws from normal distributions, times `factors`, in which the chosen one is the largest."""
    rng, at_once, total = np.random.default_rng(0), max(1, _NUMBERS_AT_ONCE // len(means)), 0.0
    for start in range(0, _DRAWS, at_once):
        drawn = rng.normal(means, errors, (min(at_once, _DRAWS - start), len(means))) * factors
        first = drawn == drawn.max(axis=1, keepdims=True)
        total += float((first[:, chosen] / first.sum(axis=1)).sum())
    return total / _DRAWS


def _true(accuracy: Values, errors: Values) -> tuple[Values, Values]:
    """Mean and standard deviation of the true accuracies, given the measured ones and their errors.

    Empirical Bayes: the true ones are normal with the mean of the measured ones and the variance that is left
    when that of the errors is taken from theirs. Without it, the luck of the best would count as merit.
    """
    variance, noise = max(0.0, float(accuracy.var() - (errors**2).mean())), errors**2
    weight = variance / (variance + noise)
    return accuracy.mean() + weight * (accuracy - accuracy.mean()), np.sqrt(weight * noise)


def _doubts(
    accuracy: Values,
    errors: Values,
    spikes: Values,
    chosen: int,
    chance: float,
    spikes_reference: float,
    longer: str,
) -> list[str]:
    doubts = []
    if accuracy[chosen] <= chance + 2 * errors[chosen]:
        doubts.append(
            f"its accuracy on D_val ({accuracy[chosen]:.1%}) is that of guessing ({chance:.1%}): {longer}"
        )
    if spikes[chosen] < _NEARLY_SILENT * spikes_reference:
        doubts.append(
            f"it is nearly silent: {spikes[chosen]:,.0f} spikes, where random paths fired "
            f"{spikes_reference:,.0f} while training. The stored batch-norm statistics do not fit: use "
            f"--search.statistics recalibrated, or {longer}"
        )
    spread = float(accuracy.std())
    if len(accuracy) > 1 and spread <= (error := math.sqrt(float((errors**2).mean()))):
        doubts.append(
            f"accuracies of the candidates differ by {spread:.1%} (standard deviation), no more than the "
            f"standard error of one on D_val ({error:.1%}): score on more samples (--data.train-fraction, "
            f"--search.max-val-samples), or {longer}"
        )
    return doubts
