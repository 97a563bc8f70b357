"""NSGA-II: accuracy and what is to be saved as two objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby, pairwise

from pipeline.algorithms.breeding import Child, add_bred, fill_up
from pipeline.algorithms.history import History
from pipeline.algorithms.proposer import Proposer
from pipeline.algorithms.settings import SearchSettings
from snn.fitness import Evaluation, cost_of
from snn.options import CostName


class NSGA2(Proposer):
    """NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 6(2), 2002): maximises accuracy
    and minimises the cost (`search.cost`) at once; the fitness matters only in the final choice.

    The population is selected from the previous one and its children: by non-dominated rank, within the
    last rank by crowding distance. Parents win binary tournaments; a child is a one-point crossover of
    two, mutated. A candidate above a budget is dominated by all within them (section VI of the
    paper).

    Differs from the paper: a child seen before is bred again, and finally replaced by a random architecture.
    """

    def __init__(self, history: History, *, seed: int) -> None:
        super().__init__(history, seed=seed)
        self._population: list[int] = []  # best first
        self._num_selected_from = 0  # candidates of the generations that the population was selected from

    def propose(self) -> None:
        history = self.history
        self._select()
        number = min(history.settings.population_size, self.num_left)
        generation, end = history.next_generation, len(history.candidates) + number
        if self._population:
            add_bred(history, generation, number, self._child)
        fill_up(history, generation, end, self.rng)

    def _select(self) -> None:
        """Selects the population once more for each generation that is new."""
        history = self.history
        new = history.candidates[self._num_selected_from :]
        for _, children in groupby(new, key=lambda candidate: candidate.generation):
            scored = [child.id for child in children if history.results[child.id] is not None]
            results = {i: history.result(i) for i in (*self._population, *scored)}
            order = crowded_order(results, history.settings)
            self._population = order[: history.settings.population_size]
        self._num_selected_from = len(history.candidates)

    def _child(self) -> Child:
        history, first, second = self.history, self._winner(), self._winner()
        crossed = history.space.crossover(
            history.candidates[first].architecture, history.candidates[second].architecture, self.rng
        )
        child = history.space.mutate(crossed, history.settings.mutation_probability, self.rng)
        return child, (first, second)

    def _winner(self) -> int:
        """The better of two drawn from the population."""
        number = len(self._population)
        return self._population[min(self.rng.randrange(number), self.rng.randrange(number))]


def crowded_order(results: dict[int, Evaluation], settings: SearchSettings) -> list[int]:
    """Ids by non-dominated rank, then by larger crowding distance, then by id."""
    remaining, order = dict(results), []
    while remaining:
        front = _first_front(remaining, settings)
        distance = _crowding_distances([remaining[i] for i in front], settings.cost)
        order += [i for _, i in sorted(zip([-d for d in distance], front, strict=True))]
        for i in front:
            del remaining[i]
    return order


def _first_front(results: dict[int, Evaluation], settings: SearchSettings) -> list[int]:
    """The ids that no other one dominates."""
    keys = {i: _dominance_key(result, settings) for i, result in results.items()}
    order = sorted(keys, key=lambda i: (keys[i], i))  # a candidate comes after all that dominate it
    front = order[:1]
    for i in order[1:]:
        (least, _, error), (excess, _, own) = keys[front[-1]], keys[i]
        if keys[i] == keys[front[-1]] or (excess == least and own < error):
            front.append(i)
    return front


def _dominance_key(evaluation: Evaluation, settings: SearchSettings) -> tuple[float, float, float]:
    """Excess over the budgets, cost, and -accuracy, all to be minimised."""
    return settings.excess(evaluation), cost_of(evaluation, settings.cost), -evaluation.accuracy


def _crowding_distances(front: Sequence[Evaluation], cost: CostName) -> list[float]:
    """For each point the size of the box between its neighbours; infinite at the ends (section III-B)."""
    distances = [0.0] * len(front)
    for values in ([e.accuracy for e in front], [cost_of(e, cost) for e in front]):
        order = sorted(range(len(front)), key=lambda i: (values[i], i))
        spread = values[order[-1]] - values[order[0]] or 1.0
        distances[order[0]] = distances[order[-1]] = math.inf
        for (before, i), (_, after) in pairwise(pairwise(order)):
            distances[i] += (values[after] - values[before]) / spread
    return distances
