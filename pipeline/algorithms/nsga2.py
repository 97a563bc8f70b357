"""NSGA-II: accuracy and spikes as two objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pipeline.algorithms.ask_tell import ArchitectureSearch, SearchSettings
from snn.fitness import Evaluation
from snn.search_space import Architecture, SearchSpace


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
