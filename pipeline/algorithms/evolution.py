"""The spike-aware evolutionary search; no Ray, no torch.

Source: Na et al., "AutoSNN", ICML 2022, section 4.3 and algorithm 1.
"""

from __future__ import annotations

import itertools

from pipeline.algorithms.ask_tell import ArchitectureSearch, Candidate
from snn.search_space import Architecture


class SpikeAwareEvolution(ArchitectureSearch):
    """Evolution of architectures by accuracy * (spikes / reference) ** lambda.

    The first generation is random. Each later one is bred from the best candidates of all seen so far:
    mutants, then one-point crossovers, topped up with random architectures. A generation is bred when
    every candidate of the one before has its result.

    Differs from the paper where asked for: with several lambdas the parents come in turn from the ranking
    of each, and with a spike budget those above it rank last.
    """

    def parent_threshold(self) -> float | None:
        """Fitness of the num_parents-th best candidate that keeps the spike budget; it only ever rises.

        None while there are fewer, and with several lambdas: a parent may then be good under any of them.
        """
        settings = self.settings
        kept = sorted(
            (self.fitness(self._result(i)) for i in self._scored() if not self._excess(self._result(i))),
            reverse=True,
        )
        if settings.more_exponents or len(kept) < settings.num_parents:
            return None
        return kept[settings.num_parents - 1]

    def _may_breed(self) -> bool:
        return self._num_open_results == 0

    def _breed(self) -> None:
        """Adds the next generation, or nothing when budget or space is spent."""
        generation = self._next_generation
        size = min(self.settings.population_size, self._num_left)
        parents = self._parents()
        num_mutants = min(self.settings.num_mutants, size) if parents else 0
        num_crossovers = size - num_mutants if parents else 0
        end = len(self.candidates) + size
        self._add_bred(generation, num_mutants, lambda: self._mutant(parents))
        self._add_bred(generation, num_crossovers, lambda: self._crossover(parents))
        self._fill_up(generation, end)

    def _parents(self) -> list[Candidate]:
        """The best of all seen; with several lambdas each takes in turn its best that is not taken yet."""
        exponents = dict.fromkeys((self.settings.spike_exponent, *self.settings.more_exponents))
        rankings = [iter(self.ranking_for(exponent)) for exponent in exponents]
        parents: list[Candidate] = []
        for ranking in itertools.cycle(rankings):
            best = next((candidate for candidate in ranking if candidate not in parents), None)
            if best is None or len(parents) == self.settings.num_parents:
                return parents
            parents.append(best)
        return parents

    def _mutant(self, parents: list[Candidate]) -> tuple[Architecture, tuple[int, ...]]:
        parent = self.rng.choice(parents)
        probability = self.settings.mutation_probability
        return self.space.mutate(parent.architecture, probability, self.rng), (parent.id,)

    def _crossover(self, parents: list[Candidate]) -> tuple[Architecture, tuple[int, ...]]:
        first, second = self.rng.choice(parents), self.rng.choice(parents)
        child = self.space.crossover(first.architecture, second.architecture, self.rng)
        return child, (first.id, second.id)
