"""What a table of the whole space says for certain: the optimum of every lambda and every spike budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from pipeline.config.search import SearchConfig
from pipeline.storage.records import EvaluationRow, LambdaInterval, Optimum
from snn.fitness import pareto_front, spike_aware_fitness
from snn.search_space import SearchSpace

# Those the paper studies.
PAPER_EXPONENTS = (0.0, -0.08, -0.16, -0.24)


def holds_whole_space(rows: Sequence[EvaluationRow], space: SearchSpace) -> bool:
    """Whether every architecture of a space has its row, failed ones included."""
    return len({row.architecture for row in rows}) == len(space)


def studied_exponents(settings: SearchConfig) -> list[float]:
    """The paper's lambdas and those of a run's settings, from 0 down."""
    return sorted({*PAPER_EXPONENTS, settings.spike_exponent, *settings.more_exponents}, reverse=True)


def exact_front(rows: Sequence[EvaluationRow]) -> list[Optimum]:
    """The rows no other one beats in both accuracy and spikes, by rising spikes; lambda is 0 in them."""
    scored = _scored(rows)
    return [scored[i] for i in pareto_front([(point.accuracy, point.spikes) for point in scored])]


def exact_optima(
    rows: Sequence[EvaluationRow], spikes_reference: float, exponents: Sequence[float]
) -> list[Optimum]:
    """The row of highest fitness under each lambda, of equal ones with fewest spikes; [] if all failed."""
    scored = _scored(rows)
    optima = []
    for exponent in exponents if scored else ():
        under = [_under(point, exponent, spikes_reference) for point in scored]
        optima.append(max(under, key=lambda point: (point.fitness, -point.spikes)))
    return optima


def best_within(rows: Sequence[EvaluationRow], budget: float) -> Optimum | None:
    """The row of highest accuracy with at most `budget` spikes, of equal ones that of fewest; or None."""
    kept = [point for point in exact_front(rows) if point.spikes <= budget]
    return kept[-1] if kept else None


def lambda_intervals(rows: Sequence[EvaluationRow]) -> list[LambdaInterval]:
    """The optimum of every lambda <= 0 at once, from the most negative lambda up to 0.

        log F = log A + lambda log(N / N_avg)

    with F the fitness, A the accuracy, N the spikes, N_avg the reference, which changes no optimum. In the
    plane of x = log N and y = log A the rows of equal fitness lie on a line of slope -lambda. Hence the
    optima are the corners of the upper left convex hull, and a corner is best while -lambda lies between
    the slopes of its two edges. Rows without spikes or accuracy have fitness 0 and are left out.
    """
    corners: list[Optimum] = []
    for point in exact_front([row for row in rows if (e := row.evaluation) and e.spikes and e.accuracy]):
        while len(corners) > 1 and _slope(corners[-2], corners[-1]) <= _slope(corners[-1], point):
            corners.pop()
        corners.append(point)
    ends = [*(-_slope(left, right) for left, right in pairwise(corners)), 0.0]
    return [
        LambdaInterval(
            ends[i - 1] if i > 0 else None, ends[i], point.architecture, point.accuracy, point.spikes
        )
        for i, point in enumerate(corners)
    ]


def _slope(left: Optimum, right: Optimum) -> float:
    """Rise of log accuracy per log spikes."""
    return math.log(right.accuracy / left.accuracy) / math.log(right.spikes / left.spikes)


def _scored(rows: Sequence[EvaluationRow]) -> list[Optimum]:
    """Rows that did not fail, in the order of their ids."""
    return [
        Optimum(0.0, row.architecture, measured.accuracy, measured.spikes, measured.accuracy)
        for row in sorted(rows, key=lambda row: row.candidate_id)
        if (measured := row.evaluation) is not None
    ]


def _under(point: Optimum, exponent: float, spikes_reference: float) -> Optimum:
    fitness = spike_aware_fitness(
        point.accuracy, point.spikes, spikes_reference=spikes_reference, spike_exponent=exponent
    )
    return Optimum(exponent, point.architecture, point.accuracy, point.spikes, fitness)
