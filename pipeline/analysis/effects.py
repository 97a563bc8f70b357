"""What each block in each layer costs and brings, from a table of a whole space: main effects and pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.storage.records import EvaluationRow
from snn.fitness import cost_of
from snn.options import CostName
from snn.search_space import Architecture, SearchSpace

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """The effects on one measure, each in its unit.

    Attributes:
        mean: Over the whole space.
        main: For each layer and block: mean of all architectures with that block there, minus `mean`.
        pairs: For each pair of layers in the order of `Effects.pairs`, each block of the first and each of
            the second: the mean of all architectures with both, minus `mean` and both main effects.
        main_share: Share of the variance over the space that main effects explain, in [0, 1].
        pair_share: Share that pairs explain in addition.
    """

    mean: float
    main: tuple[tuple[float, ...], ...]
    pairs: tuple[tuple[tuple[float, ...], ...], ...]
    main_share: float
    pair_share: float


@dataclass(frozen=True)
class Effects:
    """Main effects and pairs of a space; an architecture's measure is their sum, up to higher interactions.

    Attributes:
        blocks: Candidate blocks.
        pairs: Pairs of layers, by index.
        accuracy: Effects on the accuracy on D_val, in [0, 1].
        cost: Effects on what is saved, in its unit per sample.
    """

    blocks: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    accuracy: Measure
    cost: Measure


def effects_of(rows: Sequence[EvaluationRow], space: SearchSpace, cost: CostName) -> Effects | None:
    """The effects in a table of the whole space; None if all architectures with two of the blocks failed.

    Without failures the design is balanced: means over it are least-squares estimates, and the variances that
    effects explain add up (functional analysis of variance). Failed evaluations are left out of the means.
    """
    accuracies, costs = np.full(len(space), np.nan), np.full(len(space), np.nan)
    for row in rows:
        if row.evaluation is not None:
            index = space.index(Architecture.parse(row.architecture))
            accuracies[index], costs[index] = row.evaluation.accuracy, cost_of(row.evaluation, cost)
    shape = (len(space.blocks),) * space.num_layers
    pairs = tuple(combinations(range(space.num_layers), 2))
    failed = np.isnan(accuracies).reshape(shape)
    layers = range(space.num_layers)
    if any(failed.all(tuple(k for k in layers if k not in pair)).any() for pair in pairs or ((0,),)):
        return None
    return Effects(
        space.blocks,
        pairs,
        _measure(accuracies.reshape(shape), pairs),
        _measure(costs.reshape(shape), pairs),
    )


def _measure(values: Values, pairs: Sequence[tuple[int, int]]) -> Measure:
    """Effects on values [blocks of layer 0, blocks of layer 1, ...]."""
    layers = range(values.ndim)
    mean, variance = float(np.nanmean(values)), float(np.nanvar(values))
    main = [_mean_over(values, [k for k in layers if k != layer]) - mean for layer in layers]
    interactions = [
        _mean_over(values, [k for k in layers if k not in (i, j)]) - mean - main[i][:, None] - main[j]
        for i, j in pairs
    ]

    def share(effects: Sequence[Values]) -> float:
        return float(sum((effect**2).mean() for effect in effects) / variance) if variance else 0.0

    return Measure(mean, _tuples(main), _tuples(interactions), share(main), share(interactions))


def _mean_over(values: Values, axes: Sequence[int]) -> Values:
    result: Values = np.nanmean(values, axis=tuple(axes))
    return result


def _tuples(arrays: Sequence[Values]) -> Any:
    return tuple(_nested(array.tolist()) for array in arrays)


def _nested(values: Any) -> Any:
    return tuple(map(_nested, values)) if isinstance(values, list) else values
