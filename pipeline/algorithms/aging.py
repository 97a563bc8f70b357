"""Regularised evolution."""

from __future__ import annotations

from collections import deque

from pipeline.algorithms.breeding import Child, add_bred, fill_up, neighbours
from pipeline.algorithms.history import History
from pipeline.algorithms.proposer import Proposer


class AgingEvolution(Proposer):
    """Regularised evolution (Real et al., "Regularized Evolution for Image Classifier Architecture
    Search", AAAI 2019, algorithm 1): the oldest leave the population, not the worst.

    The population is the newest `population_size` candidates that did not fail. A child is the best of a
    sample of it with one layer changed. The first generation is random.

    Differs from the paper, which breeds one child per result: half a population of children is bred at
    once, so that the search does not depend on the number of workers.
    """

    def __init__(self, history: History, *, seed: int) -> None:
        super().__init__(history, seed=seed)
        self._population: deque[int] = deque(maxlen=history.settings.population_size)
        self._num_considered = 0  # candidates that have entered the population or failed

    def propose(self) -> None:
        history, size = self.history, self.history.settings.population_size
        population = self._newest()
        number = min(size // 2 if population else size, self.num_left)
        generation, end = history.next_generation, len(history.candidates) + number
        if population:
            add_bred(history, generation, number, lambda: self._child(population))
        fill_up(history, generation, end, self.rng)

    def _newest(self) -> list[int]:
        """The population, after the candidates since the last call have entered it."""
        number = len(self.history.candidates)
        entering = range(self._num_considered, number)
        self._population.extend(i for i in entering if self.history.results[i] is not None)
        self._num_considered = number
        return list(self._population)

    def _child(self, population: list[int]) -> Child:
        sample_size = min(len(population), max(2, self.history.settings.population_size // 4))
        parent = min(self.rng.sample(population, sample_size), key=self.history.rank_key)
        near = list(neighbours(self.history.space, self.history.candidates[parent].architecture))
        return self.rng.choice(near), (parent,)
