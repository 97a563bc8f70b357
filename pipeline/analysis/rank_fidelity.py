"""Does a score rank architectures as training from scratch does?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from pipeline.storage.fidelity_records import (
    Choice,
    Estimate,
    Measure,
    RankAgreement,
    Score,
    StudiedArchitecture,
)

MEASURES: tuple[Measure, ...] = get_args(Measure)
CONFIDENCE = 0.9
_RESAMPLES = 1000

Values = NDArray[np.float64]


def rank_agreements(studied: Sequence[StudiedArchitecture]) -> tuple[RankAgreement, ...]:
    """The agreement of each score with retraining, for each measure that the score speaks of."""
    found = []
    for score in score_names(studied):
        for measure in MEASURES:
            said = [_said(one.scores[score], measure) for one in studied]
            if None in said:
                continue
            pairs = np.array(said, dtype=np.float64), np.array([retrained(one, measure) for one in studied])
            found.append(
                RankAgreement(
                    score,
                    measure,
                    tau=_estimate(kendall, *pairs),
                    spearman=_estimate(spearman, *pairs),
                )
            )
    return tuple(found)


def score_names(studied: Sequence[StudiedArchitecture]) -> list[str]:
    """The scores that every architecture has, in their order."""
    return [name for name in studied[0].scores if all(name in one.scores for one in studied)]


def retrained(one: StudiedArchitecture, measure: Measure) -> float:
    """A measure of an architecture after training from scratch: accuracy and spikes are means over seeds."""
    if measure == "fitness":
        return one.fitness
    return float(np.mean(one.accuracies if measure == "accuracy" else one.spikes))


def tau_ceiling(values: Values) -> float | None:
    """Kendall's tau that a perfect score would have with means over a few seeds.

    With normally distributed architectures and seeds, means over S seeds correlate with the true values at
    rho = sqrt(1 - within / (S * total)), where `within` is the variance of a training's value over the seeds
    and `total` the variance of the means over the architectures; and tau = 2 / pi * asin(rho).

    Args:
        values: [A, S], of A architectures and S seeds.

    Returns:
        The ceiling in [0, 1]; None with one seed or equal means, which say nothing of the noise.
    """
    num_seeds = values.shape[1]
    total = values.mean(axis=1).var(ddof=1) if len(values) > 1 else 0.0
    if num_seeds < 2 or not total > 0:
        return None
    within = values.var(axis=1, ddof=1).mean()
    return float(2 / math.pi * math.asin(math.sqrt(max(0.0, 1 - within / (num_seeds * total)))))


def choices(studied: Sequence[StudiedArchitecture]) -> tuple[Choice, ...]:
    """What each score would choose among the architectures, and what a random choice costs on average."""
    accuracy = np.array([retrained(one, "accuracy") for one in studied])
    fitness = np.array([retrained(one, "fitness") for one in studied])
    found = []
    for score in score_names(studied):
        said = [one.scores[score] for one in studied]
        first = int(np.argmax([_merit(score) for score in said]))
        found.append(
            Choice(
                score,
                studied[first].architecture,
                float(accuracy.max() - accuracy[first]),
                float(fitness.max() - fitness[first]),
            )
        )
    random = Choice(
        "random", "", float(accuracy.max() - accuracy.mean()), float(fitness.max() - fitness.mean())
    )
    return (*found, random)


def _merit(score: Score) -> float:
    values = (value for value in (score.fitness, score.accuracy) if value is not None)
    return next(values, -math.inf)


def _said(score: Score, measure: Measure) -> float | None:
    value: float | None = getattr(score, measure)
    return value


def kendall(x: Values, y: Values) -> float:
    """Kendall's tau-b of pairs; NaN if all x or all y are equal. SciPy's takes 50 times as long."""
    above_x, above_y = np.sign(x[:, None] - x), np.sign(y[:, None] - y)
    untied = np.count_nonzero(above_x) * np.count_nonzero(above_y)
    return float((above_x * above_y).sum() / math.sqrt(untied)) if untied else math.nan


def spearman(x: Values, y: Values) -> float:
    """Spearman's rho of pairs; NaN if all x or all y are equal."""
    ranks_x, ranks_y = (ranks - ranks.mean() for ranks in (rankdata(x), rankdata(y)))
    scale = math.sqrt((ranks_x**2).sum() * (ranks_y**2).sum())
    return float((ranks_x * ranks_y).sum() / scale) if scale else math.nan


def _estimate(statistic: Callable[[Values, Values], float], x: Values, y: Values) -> Estimate | None:
    """The statistic of pairs, with its percentile interval over resampled pairs; None if it has none."""
    value = statistic(x, y)
    if math.isnan(value):
        return None
    rng = np.random.default_rng(0)
    samples = rng.integers(len(x), size=(_RESAMPLES, len(x)))
    resampled = [statistic(x[sample], y[sample]) for sample in samples]
    margin = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(resampled, [margin, 1 - margin])
    return Estimate(value, float(low), float(high))
