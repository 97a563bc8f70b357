"""The spike-aware evolutionary search.

Source: Na et al., "AutoSNN", ICML 2022, section 4.3 and algorithm 1.
"""

from __future__ import annotations

import itertools

from pipeline.algorithms.breeding import Child, add_bred, fill_up
from pipeline.algorithms.history import Candidate
from pipeline.algorithms.proposer import Proposer


class SpikeAwareEvolution(Proposer):
    """Evolution of architectures by accuracy * (spikes / reference) ** lambda.

    The first generation is random. Each later one is bred from the best candidates of all seen so far:
    mutants, then one-point crossovers, topped up with random architectures. A generation is bred when
    every candidate of the previous one has its result.

    Differs from the paper only if asked to: with several lambdas the parents come in turn from the ranking
    of each, and with a spike budget candidates above it rank last.
    """

    def parent_threshold(self) -> float | None:
        """Fitness of the num_parents-th best candidate within the spike budget; it never falls.

        None while there are fewer, and with several lambdas: a parent may then be good under any of them.
        """
        history, elite = self.history, self.history.elite()
        if history.settings.more_exponents or len(elite) < history.settings.num_parents:
            return None
        last = history.result(elite[-1].id)
        return None if history.excess(last) else history.fitness(last)

    def propose(self) -> None:
        """Adds the next generation."""
        history, settings = self.history, self.history.settings
        generation = history.next_generation
        size = min(settings.population_size, self.num_left)
        end = len(history.candidates) + size
        if parents := self._parents():
            num_mutants = min(settings.num_mutants, size)
            add_bred(history, generation, num_mutants, lambda: self._mutant(parents))
            add_bred(history, generation, size - num_mutants, lambda: self._crossover(parents))
        fill_up(history, generation, end, self.rng)

    def _parents(self) -> list[Candidate]:
        """The best of all seen; with several lambdas each takes in turn its best that is not taken yet."""
        settings = self.history.settings
        exponents = dict.fromkeys((settings.spike_exponent, *settings.more_exponents))
        elites = [iter(self.history.elite(exponent)) for exponent in exponents]
        parents: list[Candidate] = []
        for elite in itertools.cycle(elites):
            best = next((candidate for candidate in elite if candidate not in parents), None)
            if best is None or len(parents) == settings.num_parents:
                return parents
            parents.append(best)
        return parents

    def _mutant(self, parents: list[Candidate]) -> Child:
        parent = self.rng.choice(parents)
        probability = self.history.settings.mutation_probability
        return self.history.space.mutate(parent.architecture, probability, self.rng), (parent.id,)

    def _crossover(self, parents: list[Candidate]) -> Child:
        first, second = self.rng.choice(parents), self.rng.choice(parents)
        history, (one, other) = self.history, (first.architecture, second.architecture)
        child = history.space.crossover(one, other, self.rng, official=history.settings.official_crossover)
        return child, (first.id, second.id)
