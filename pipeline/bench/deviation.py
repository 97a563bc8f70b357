"""Deviation of a faster, inexact evaluation from the exact one: accuracy, spikes and ranking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from pipeline.bench.stopwatch import Comparison, SectionResult
from snn.fitness import Evaluation, spike_aware_fitness


def compare_results(
    name: str, faster: Sequence[Evaluation], exact: Sequence[Evaluation], spike_exponent: float
) -> SectionResult:
    """Compares the results of the same architectures on the same samples.

    Args:
        name: Name of the faster mode.
        faster: Results of the faster mode, at least two.
        exact: The exact results, in the same order.
        spike_exponent: lambda of the fitness that ranks the architectures.
    """
    spikes, accuracies = (
        np.array([[getattr(result, measure) for result in results] for results in (faster, exact)])
        for measure in ("spikes", "accuracy")
    )
    reference = float(spikes[1].mean())

    def fitness(result: Evaluation) -> float:
        return spike_aware_fitness(
            result.accuracy, result.spikes, spikes_reference=reference, spike_exponent=spike_exponent
        )

    ranks = spearmanr([fitness(result) for result in faster], [fitness(result) for result in exact])
    correlation = float(ranks.statistic)
    return SectionResult(
        (
            Comparison(f"{name}, mean spikes / exact", "spikes", float(spikes[0].mean()), reference),
            Comparison(f"{name}, mean accuracy / exact", "%", *(100 * accuracies.mean(1)).tolist()),
            Comparison(f"{name}, ranks by fitness / exact", "Spearman", correlation, 1.0),
        ),
        {
            "num_architectures": len(exact),
            "num_samples": exact[0].num_samples,
            "mean_relative_deviation_of_spikes": float(np.abs(spikes[0] / spikes[1] - 1).mean()),
            "mean_deviation_of_accuracy": float(np.abs(accuracies[0] - accuracies[1]).mean()),
            "rank_correlation_of_fitness": correlation,
        },
    )
