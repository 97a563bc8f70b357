"""Successive halving: at each rung of a short training, which candidates go on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np


class SuccessiveHalving:
    """Drops candidates that are not among the best 1 / reduction_factor at a rung.

    The rule of asynchronous successive halving (Li et al., "A system for massively parallel hyperparameter
    tuning", MLSys 2020, algorithm 2): nothing waits for a rung to fill up.

    Differs from it (and from Tune's ASHAScheduler): a candidate is compared with those of earlier generations
    that reached the rung, not with whoever was there first. The decision thus depends neither on the number
    of workers nor on their speed. The first generation is trained to its end.

    Args:
        num_rungs: Measurements of a candidate that is never dropped.
        reduction_factor: One in this many goes on, above 1.
    """

    def __init__(self, num_rungs: int, reduction_factor: float) -> None:
        self.num_rungs = num_rungs
        self.reduction_factor = reduction_factor
        self._reached: dict[int, list[Sequence[float]]] = defaultdict(list)

    def file(self, generation: int, fitness: Sequence[float]) -> None:
        """Files a finished candidate: its fitness at each rung it reached."""
        self._reached[generation].append(fitness)

    def drops(self, generation: int, fitness: Sequence[float]) -> bool:
        """Whether a candidate ends at the last of these rungs, with all earlier generations filed."""
        rung = len(fitness) - 1
        if rung == self.num_rungs - 1:
            return False
        earlier = [
            other[rung]
            for number, reached in self._reached.items()
            if number < generation
            for other in reached
            if len(other) > rung
        ]
        if len(earlier) < self.reduction_factor:
            return False
        return fitness[rung] < float(np.quantile(earlier, 1 - 1 / self.reduction_factor))

    def is_over(self, generation: int, fitness: Sequence[float]) -> bool:
        """Whether a candidate with these rungs, and no others, is as far as it would get."""
        reached = len(fitness)
        if not reached or any(self.drops(generation, fitness[:number]) for number in range(1, reached)):
            return False
        return reached == self.num_rungs or self.drops(generation, fitness)
