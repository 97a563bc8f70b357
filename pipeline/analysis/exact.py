"""Exact results of a table of the whole space: the optima of every lambda and every spike budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pipeline.algorithms.settings import SearchSettings
from pipeline.storage.records import EvaluationRow
from snn.fitness import cost_of, pareto_front, spike_aware_fitness
from snn.options import CostName
from snn.search_space import SearchSpace

# The lambdas that the paper studies.
PAPER_EXPONENTS = (0.0, -0.08, -0.16, -0.24)


@dataclass(frozen=True)
class Optimum:
    """The best architecture of a table under one lambda.

    Attributes:
        spike_exponent: lambda.
        architecture: Its blocks as text; of equal ones the first of the table.
        accuracy: Accuracy on D_val in [0, 1].
        spikes: Mean spikes per sample.
        fitness: Its fitness under that lambda.
        cost: What is saved, in its unit; the spikes, unless the settings say otherwise.
    """

    spike_exponent: float
    architecture: str
    accuracy: float
    spikes: float
    fitness: float
    cost: float


@dataclass(frozen=True)
class LambdaInterval:
    """A range of lambda and the architecture that is best everywhere in it.

    Attributes:
        lambda_from: Lower end; None is without bound.
        lambda_to: Upper end, at most 0.
        architecture: Its blocks as text.
        accuracy: Accuracy on D_val in [0, 1].
        spikes: Mean spikes per sample.
    """

    lambda_from: float | None
    lambda_to: float
    architecture: str
    accuracy: float
    spikes: float


def holds_whole_space(rows: Sequence[EvaluationRow], space: SearchSpace) -> bool:
    """Whether every architecture of a space has a row, failed ones included."""
    return len({row.architecture for row in rows}) == len(space)


def studied_exponents(settings: SearchSettings) -> list[float]:
    """The paper's lambdas and those of a run's settings, in descending order."""
    return sorted({*PAPER_EXPONENTS, settings.spike_exponent, *settings.more_exponents}, reverse=True)


def exact_front(rows: Sequence[EvaluationRow], cost: CostName = "spikes") -> list[Optimum]:
    """The Pareto front of accuracy and cost in order of rising cost, as optima of lambda = 0."""
    scored = _scored(rows, cost)
    return [scored[i] for i in pareto_front([(point.accuracy, point.cost) for point in scored])]


def exact_optima(
    rows: Sequence[EvaluationRow],
    spikes_reference: float,
    exponents: Sequence[float],
    cost: CostName = "spikes",
) -> list[Optimum]:
    """The row of highest fitness under each lambda, ties broken by lower cost; [] if all failed."""
    scored = _scored(rows, cost)
    optima = []
    for exponent in exponents if scored else ():
        under = [_under(point, exponent, spikes_reference) for point in scored]
        optima.append(max(under, key=lambda point: (point.fitness, -point.cost)))
    return optima


def best_within(rows: Sequence[EvaluationRow], settings: SearchSettings) -> Optimum | None:
    """The row of highest accuracy within the budgets, ties broken by lower cost; None if all exceed them."""
    within = [row for row in rows if row.evaluation is not None and not settings.excess(row.evaluation)]
    return exact_front(within, settings.cost)[-1] if within else None


def lambda_intervals(rows: Sequence[EvaluationRow], cost: CostName = "spikes") -> list[LambdaInterval]:
    """The intervals of lambda <= 0 with the same optimum, from the most negative lambda up to 0.

        log F = log A + lambda log(N / N_avg)

    with F the fitness, A the accuracy, N the spikes (or another cost) and N_avg the reference, on which no
    optimum depends. In the plane of x = log N and y = log A, points of equal fitness lie on a line of slope
    -lambda. Hence the optima are the vertices of the upper left convex hull, and a vertex is optimal while
    -lambda lies between the slopes of its two edges. Rows without spikes or with accuracy 0 have fitness 0
    and are left out.
    """
    vertices: list[Optimum] = []
    for point in exact_front(
        [row for row in rows if (e := row.evaluation) and e.spikes and e.accuracy], cost
    ):
        while len(vertices) > 1 and _slope(vertices[-2], vertices[-1]) <= _slope(vertices[-1], point):
            vertices.pop()
        vertices.append(point)
    ends = [*(-_slope(left, right) for left, right in pairwise(vertices)), 0.0]
    return [
        LambdaInterval(
            ends[i - 1] if i > 0 else None, ends[i], point.architecture, point.accuracy, point.spikes
        )
        for i, point in enumerate(vertices)
    ]


def _slope(left: Optimum, right: Optimum) -> float:
    """Rise of log accuracy per log cost."""
    return math.log(right.accuracy / left.accuracy) / math.log(right.cost / left.cost)


def _scored(rows: Sequence[EvaluationRow], cost: CostName) -> list[Optimum]:
    """Rows that did not fail, in the order of their ids."""
    return [
        Optimum(
            0.0,
            row.architecture,
            measured.accuracy,
            measured.spikes,
            measured.accuracy,
            cost_of(measured, cost),
        )
        for row in sorted(rows, key=lambda row: row.candidate_id)
        if (measured := row.evaluation) is not None
    ]


def _under(point: Optimum, exponent: float, spikes_reference: float) -> Optimum:
    fitness = spike_aware_fitness(
        point.accuracy, point.cost, spikes_reference=spikes_reference, spike_exponent=exponent
    )
    return replace(point, spike_exponent=exponent, fitness=fitness)
