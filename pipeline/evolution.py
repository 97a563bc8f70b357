"""The spike-aware evolutionary search as an ask/tell object; no Ray, no torch.

Source: Na et al., "AutoSNN", ICML 2022, section 4.3 and algorithm 1.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from snn.fitness import Evaluation, spike_aware_fitness
from snn.search_space import Architecture, SearchSpace

# Attempts to breed one candidate that has not been seen, before a random one takes its place.
_MAX_ATTEMPTS = 50


@dataclass(frozen=True)
class Candidate:
    """An architecture handed out for evaluation.

    Attributes:
        id: Number in the order of asking, from 0.
        generation: Generation, from 0.
        architecture: What to evaluate.
        parents: Ids of the candidates it was bred from; empty for a random one.
    """

    id: int
    generation: int
    architecture: Architecture
    parents: tuple[int, ...] = ()


@dataclass(frozen=True)
class SearchSettings:
    """What the search depends on besides the evaluations; the fields are those of SearchConfig."""

    population_size: int
    num_parents: int
    num_mutants: int
    mutation_probability: float
    max_evaluations: int
    spike_exponent: float
    spikes_reference: float


class SpikeAwareEvolution:
    """Evolution of architectures by accuracy * (spikes / reference) ** lambda.

    The first generation is random. Each later one is bred from the best candidates of all seen so far:
    mutants, then one-point crossovers, topped up with random architectures. No architecture is handed out
    twice. A generation is bred when every candidate of the one before has its result, so that the search
    depends neither on the number of workers nor on the order in which they finish; ties break by id.

    Args:
        space: What is searched.
        settings: Sizes, rates and the fitness.
        seed: Seed of the search's own generator.
    """

    def __init__(self, space: SearchSpace, settings: SearchSettings, *, seed: int) -> None:
        self.space = space
        self.settings = settings
        self.rng = random.Random(seed)
        self.candidates: list[Candidate] = []
        self.results: dict[int, Evaluation | None] = {}
        self._seen: set[Architecture] = set()
        self._num_asked = 0

    @property
    def finished(self) -> bool:
        """Every candidate has its result and there will be no more."""
        return self._num_open_results == 0 and self._num_left == 0

    @property
    def generation(self) -> int:
        """Number of the newest generation, from 0."""
        return self.candidates[-1].generation if self.candidates else 0

    def ask(self) -> Candidate | None:
        """The next candidate; None while results are awaited, or when the search is finished."""
        if self._num_asked == len(self.candidates):
            if not self._may_breed():
                return None
            self._breed()
        if self._num_asked == len(self.candidates):
            return None
        self._num_asked += 1
        return self.candidates[self._num_asked - 1]

    def tell(self, candidate_id: int, evaluation: Evaluation | None) -> None:
        """Files a candidate's result; None if its evaluation failed. A repeated result changes nothing.

        Raises:
            ValueError: No candidate of that id was handed out.
        """
        if not 0 <= candidate_id < self._num_asked:
            raise ValueError(f"candidate_id must be in [0, {self._num_asked}), got {candidate_id}.")
        self.results.setdefault(candidate_id, evaluation)

    def fitness(self, evaluation: Evaluation) -> float:
        """The spike-aware fitness of an evaluation."""
        return spike_aware_fitness(
            evaluation.accuracy,
            evaluation.spikes,
            spikes_reference=self.settings.spikes_reference,
            spike_exponent=self.settings.spike_exponent,
        )

    def ranking(self) -> list[Candidate]:
        """Candidates with a result, best first; failed ones are left out."""
        keys = {i: self.fitness(result) for i, result in self.results.items() if result is not None}
        return [self.candidates[i] for i in sorted(keys, key=lambda i: (-keys[i], i))]

    def state_dict(self) -> dict[str, Any]:
        """The whole state as JSON values, generator included."""
        return {
            "rng": self.rng.getstate(),
            "num_asked": self._num_asked,
            "candidates": [
                [c.id, c.generation, str(c.architecture), list(c.parents)] for c in self.candidates
            ],
            "results": {str(i): result and result.__dict__ for i, result in self.results.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to a state of `state_dict`; candidates without a result stay awaited."""
        version, internal, gauss = state["rng"]
        self.rng.setstate((version, tuple(internal), gauss))
        self._num_asked = state["num_asked"]
        self.candidates = [
            Candidate(i, generation, Architecture.parse(text), tuple(parents))
            for i, generation, text, parents in state["candidates"]
        ]
        self._seen = {candidate.architecture for candidate in self.candidates}
        self.results = {int(i): result and Evaluation(**result) for i, result in state["results"].items()}

    @property
    def _num_open_results(self) -> int:
        return len(self.candidates) - len(self.results)

    @property
    def _num_left(self) -> int:
        """How many candidates the budget and the space still allow."""
        return min(self.settings.max_evaluations, len(self.space)) - len(self.candidates)

    def _may_breed(self) -> bool:
        return self._num_open_results == 0

    def _breed(self) -> None:
        """Adds the next generation, or nothing when budget or space is spent."""
        generation = self.generation + 1 if self.candidates else 0
        size = min(self.settings.population_size, self._num_left)
        parents = self.ranking()[: self.settings.num_parents]
        num_mutants = min(self.settings.num_mutants, size) if parents else 0
        num_crossovers = size - num_mutants if parents else 0
        end = len(self.candidates) + size
        self._add_bred(generation, num_mutants, lambda: self._mutant(parents))
        self._add_bred(generation, num_crossovers, lambda: self._crossover(parents))
        while len(self.candidates) < end:
            self._add(Candidate(len(self.candidates), generation, self._random_unseen()))

    def _add_bred(
        self, generation: int, number: int, breed: Callable[[], tuple[Architecture, tuple[int, ...]]]
    ) -> None:
        attempts = number * _MAX_ATTEMPTS
        while number > 0 and attempts > 0:
            attempts -= 1
            architecture, parents = breed()
            if architecture not in self._seen:
                self._add(Candidate(len(self.candidates), generation, architecture, parents))
                number -= 1

    def _mutant(self, parents: list[Candidate]) -> tuple[Architecture, tuple[int, ...]]:
        parent = self.rng.choice(parents)
        probability = self.settings.mutation_probability
        return self.space.mutate(parent.architecture, probability, self.rng), (parent.id,)

    def _crossover(self, parents: list[Candidate]) -> tuple[Architecture, tuple[int, ...]]:
        first, second = self.rng.choice(parents), self.rng.choice(parents)
        child = self.space.crossover(first.architecture, second.architecture, self.rng)
        return child, (first.id, second.id)

    def _random_unseen(self) -> Architecture:
        """A uniformly drawn architecture that was not handed out yet."""
        num_unseen = len(self.space) - len(self._seen)
        assert num_unseen > 0, "the space is exhausted"
        if num_unseen < len(self.space) / 2:  # drawing blindly would miss too often
            return self.rng.choice([a for a in self.space if a not in self._seen])
        while (architecture := self.space.sample(self.rng)) in self._seen:
            pass
        return architecture

    def _add(self, candidate: Candidate) -> None:
        self._seen.add(candidate.architecture)
        self.candidates.append(candidate)


class RandomSearch(SpikeAwareEvolution):
    """Random architectures at the same budget; waits for no result."""

    def _may_breed(self) -> bool:
        return True

    def _breed(self) -> None:
        generation = len(self.candidates) // self.settings.population_size
        if self._num_left > 0:
            self._add(Candidate(len(self.candidates), generation, self._random_unseen()))
