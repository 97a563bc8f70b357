"""Regularised evolution."""

from __future__ import annotations

from pipeline.algorithms.ask_tell import ArchitectureSearch, neighbours
from snn.search_space import Architecture


class AgingEvolution(ArchitectureSearch):
    """Regularised evolution (Real et al., "Regularized Evolution for Image Classifier Architecture
    Search", AAAI 2019, algorithm 1): the oldest leave the population, not the worst.

    The population is the newest `population_size` candidates that did not fail. A child is the best of a
    sample of it with one layer changed. The first generation is random.

    Differs from the paper, where each result at once brings a child: half a population of children is
    bred together, so that the search does not depend on the number of workers.
    """

    def _may_breed(self) -> bool:
        return self._num_open_results == 0

    def _breed(self) -> None:
        size = self.settings.population_size
        population = sorted(self._scored())[-size:]
        number = min(size // 2 if population else size, self._num_left)
        generation, end = self._next_generation, len(self.candidates) + number
        if population:
            self._add_bred(generation, number, lambda: self._child(population))
        self._fill_up(generation, end)

    def _child(self, population: list[int]) -> tuple[Architecture, tuple[int, ...]]:
        sample_size = min(len(population), max(2, self.settings.population_size // 4))
        sample = self.rng.sample(population, sample_size)
        parent = self._best_first(sample, self.settings.spike_exponent)[0]
        near = list(neighbours(self.space, self.candidates[parent].architecture))
        return self.rng.choice(near), (parent,)
