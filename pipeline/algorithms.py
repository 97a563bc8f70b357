"""The other search algorithms, and the choice among all of them by a run's settings; no Ray, no torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pipeline.ask_tell import ArchitectureSearch, Candidate, SearchSettings, neighbours
from pipeline.config import Config
from pipeline.evolution import SpikeAwareEvolution
from snn.fitness import Evaluation
from snn.search_space import Architecture, SearchSpace


def make_search(config: Config, spikes_reference: float) -> ArchitectureSearch:
    """The search algorithm of a run's settings.

    Raises:
        ValueError: The algorithm is borrowed from a package that is not installed.
    """
    fields = {field.name for field in dataclasses.fields(SearchSettings)} - {"spikes_reference"}
    values: dict[str, Any] = {name: getattr(config.search, name) for name in fields}
    settings = SearchSettings(**values, spikes_reference=spikes_reference)
    kind = _algorithm(config.search.algorithm)
    return kind(config.network.search_space(), settings, seed=config.seed)


def _algorithm(name: str) -> type[ArchitectureSearch]:
    if name == "optuna":
        from pipeline.borrowed import BorrowedSearch  # it needs Ray, the others do not

        return BorrowedSearch
    return {
        "evolution": SpikeAwareEvolution,
        "exhaustive": ExhaustiveSearch,
        "random": RandomSearch,
        "aging": AgingEvolution,
        "nsga2": NSGA2,
    }[name]


class RandomSearch(ArchitectureSearch):
    """Random architectures at the same budget; waits for no result."""

    def _may_breed(self) -> bool:
        return True

    def _breed(self) -> None:
        generation = len(self.candidates) // self.settings.population_size
        if self._num_left > 0:
            self._add(Candidate(len(self.candidates), generation, self._random_unseen()))


class ExhaustiveSearch(ArchitectureSearch):
    """Every architecture of the space in the order of its index, whatever the budget of evaluations."""

    @property
    def num_planned(self) -> int:
        return len(self.space)

    def _may_breed(self) -> bool:
        return True

    def _breed(self) -> None:
        if self._num_left > 0:
            number = len(self.candidates)
            self._add(Candidate(number, 0, self.space.at(number)))


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


class NSGA2(ArchitectureSearch):
    """NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 6(2), 2002): maximises accuracy
    and minimises spikes at once; the fitness only chooses among what it found.

    The population survives from itself and its children: by non-dominated rank, within the last rank by
    crowding distance. Parents win binary tournaments; a child is a one-point crossover of two, mutated.
    A candidate above the spike budget is dominated by all that keep it (section VI of the paper).

    Differs from the paper: a child seen before is bred again, at last replaced by a random architecture.
    """

    def __init__(self, space: SearchSpace, settings: SearchSettings, *, seed: int) -> None:
        super().__init__(space, settings, seed=seed)
        self._population: list[int] = []

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "population": self._population}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._population = list(state["population"])

    def _may_breed(self) -> bool:
        return self._num_open_results == 0

    def _breed(self) -> None:
        if self._num_left == 0:
            return
        newest = [i for i in sorted(self._scored()) if self.candidates[i].generation == self.generation]
        results = {i: self._result(i) for i in dict.fromkeys([*self._population, *newest])}
        order = crowded_order(results, self.settings.max_spikes)
        self._population = order[: self.settings.population_size]
        generation, number = self._next_generation, min(self.settings.population_size, self._num_left)
        end = len(self.candidates) + number
        if self._population:
            self._add_bred(generation, number, self._child)
        self._fill_up(generation, end)

    def _child(self) -> tuple[Architecture, tuple[int, ...]]:
        first, second = self._winner(), self._winner()
        crossed = self.space.crossover(
            self.candidates[first].architecture, self.candidates[second].architecture, self.rng
        )
        return self.space.mutate(crossed, self.settings.mutation_probability, self.rng), (first, second)

    def _winner(self) -> int:
        """The better of two drawn from the population, which is ordered best first."""
        number = len(self._population)
        return self._population[min(self.rng.randrange(number), self.rng.randrange(number))]


def crowded_order(results: dict[int, Evaluation], max_spikes: float | None) -> list[int]:
    """Ids by non-dominated rank, of the same rank by larger crowding distance, then by id."""
    left, order = dict(results), []
    while left:
        front = _first_front(left, max_spikes)
        distance = _crowding_distances([left[i] for i in front])
        order += [i for _, i in sorted(zip([-d for d in distance], front, strict=True))]
        for i in front:
            del left[i]
    return order


def _first_front(results: dict[int, Evaluation], max_spikes: float | None) -> list[int]:
    """Ids that none of the others dominates."""
    keys = {i: _dominance_key(result, max_spikes) for i, result in results.items()}
    order = sorted(keys, key=lambda i: (keys[i], i))  # what dominates another comes before it
    front = order[:1]
    for i in order[1:]:
        (least, _, error), (excess, _, own) = keys[front[-1]], keys[i]
        if keys[i] == keys[front[-1]] or (excess == least and own < error):
            front.append(i)
    return front


def _dominance_key(evaluation: Evaluation, max_spikes: float | None) -> tuple[float, float, float]:
    """Spikes above the budget, spikes, and -accuracy, all to be made small."""
    excess = 0.0 if max_spikes is None else max(0.0, evaluation.spikes - max_spikes)
    return excess, evaluation.spikes, -evaluation.accuracy


def _crowding_distances(front: Sequence[Evaluation]) -> list[float]:
    """Of each the size of the box between its neighbours on the front; infinite at the ends (III-B)."""
    distances = [0.0] * len(front)
    for values in ([e.accuracy for e in front], [e.spikes for e in front]):
        order = sorted(range(len(front)), key=lambda i: (values[i], i))
        spread = values[order[-1]] - values[order[0]] or 1.0
        distances[order[0]] = distances[order[-1]] = math.inf
        for (before, i), (_, after) in pairwise(pairwise(order)):
            distances[i] += (values[after] - values[before]) / spread
    return distances
