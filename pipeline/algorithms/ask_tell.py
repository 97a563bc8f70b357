"""What every search algorithm shares as an ask/tell object; no Ray, no torch."""

from __future__ import annotations

import itertools
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from snn.fitness import Evaluation, spike_aware_fitness
from snn.search_space import Architecture, SearchSpace

# Attempts to breed one candidate that has not been seen, before a random one takes its place.
_MAX_ATTEMPTS = 50
# Largest space that `likely_next` walks through to its end.
_LISTABLE = 10_000


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
    """What a search depends on besides the evaluations; the fields are those of SearchConfig."""

    population_size: int
    num_parents: int
    num_mutants: int
    mutation_probability: float
    max_evaluations: int
    spike_exponent: float
    spikes_reference: float
    more_exponents: tuple[float, ...] = ()
    max_spikes: float | None = None


class ArchitectureSearch(ABC):
    """A search for the architecture of highest accuracy * (spikes / reference) ** lambda.

    A search hands out candidates, none of them twice, and files their results by id; of equally fit
    candidates the one of fewer spikes ranks first, then the one of lower id.
    What it hands out depends on seed and results alone, neither on the number of workers nor on the order
    in which they finish. An algorithm says when it may breed and what.

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
    def num_planned(self) -> int:
        """How many candidates the whole search has."""
        return min(self.settings.max_evaluations, len(self.space))

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
        return self._fitness_under(self.settings.spike_exponent, evaluation)

    def ranking(self) -> list[Candidate]:
        """Candidates with a result, best first; failed ones are left out.

        First those that keep the spike budget, by fitness; then those above it, by fewer spikes.
        """
        return self.ranking_for(self.settings.spike_exponent)

    def ranking_for(self, exponent: float) -> list[Candidate]:
        """The ranking if lambda were `exponent`."""
        return [self.candidates[i] for i in self._best_first(self._scored(), exponent)]

    def parent_threshold(self) -> float | None:
        """Fitness below which a candidate can never become a parent; None if there is no such bound.

        Only an algorithm whose parents are the best of all seen has one, once it has enough results.
        """
        return None

    def likely_next(self) -> Iterator[Architecture]:
        """Architectures not handed out so far, the most promising first; changes nothing.

        What is bred already, then the neighbours of the best candidates in the order of the ranking, then
        the rest of a space that is small enough to walk through. Nothing once the budget is spent.
        """
        handed_out = {candidate.architecture for candidate in self.candidates[: self._num_asked]}
        bred = [candidate.architecture for candidate in self.candidates[self._num_asked :]]
        best = self.ranking()[: self.settings.num_parents] if self._num_left else []
        near = itertools.chain.from_iterable(neighbours(self.space, c.architecture) for c in best)
        rest = self.space if self._num_left and len(self.space) <= _LISTABLE else ()
        for architecture in itertools.chain(bred, near, rest):
            if architecture not in handed_out:
                handed_out.add(architecture)
                yield architecture

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

    @abstractmethod
    def _may_breed(self) -> bool:
        """Whether the results so far are enough to add candidates."""

    @abstractmethod
    def _breed(self) -> None:
        """Adds candidates, or nothing when budget or space is spent."""

    @property
    def _num_open_results(self) -> int:
        return len(self.candidates) - len(self.results)

    @property
    def _num_left(self) -> int:
        """How many candidates the budget and the space still allow."""
        return self.num_planned - len(self.candidates)

    @property
    def _next_generation(self) -> int:
        return self.generation + 1 if self.candidates else 0

    def _scored(self) -> list[int]:
        """Ids of the candidates whose evaluation did not fail, in the order of their results."""
        return [i for i, result in self.results.items() if result is not None]

    def _best_first(self, ids: list[int], exponent: float) -> list[int]:
        """Ids of scored candidates, the best under a lambda first; of equal ones fewer spikes, then id."""
        keys = {}
        for i in ids:
            result = self._result(i)
            kept = self._excess(result) == 0
            fitness = self._fitness_under(exponent, result)
            keys[i] = (not kept, -fitness if kept else 0.0, result.spikes, i)
        return sorted(ids, key=keys.__getitem__)

    def _result(self, candidate_id: int) -> Evaluation:
        result = self.results[candidate_id]
        assert result is not None, "a failed candidate has no result"
        return result

    def _excess(self, evaluation: Evaluation) -> float:
        """Spikes above the budget; 0 for one that keeps it."""
        budget = self.settings.max_spikes
        return 0.0 if budget is None else max(0.0, evaluation.spikes - budget)

    def _fitness_under(self, exponent: float, evaluation: Evaluation) -> float:
        return spike_aware_fitness(
            evaluation.accuracy,
            evaluation.spikes,
            spikes_reference=self.settings.spikes_reference,
            spike_exponent=exponent,
        )

    def _add_bred(
        self, generation: int, number: int, breed: Callable[[], tuple[Architecture, tuple[int, ...]]]
    ) -> None:
        """Adds up to `number` candidates that `breed` makes with their parents, none of them seen before."""
        attempts = number * _MAX_ATTEMPTS
        while number > 0 and attempts > 0:
            attempts -= 1
            architecture, parents = breed()
            if architecture not in self._seen:
                self._add(Candidate(len(self.candidates), generation, architecture, parents))
                number -= 1

    def _fill_up(self, generation: int, end: int) -> None:
        """Adds random candidates until there are `end` in all."""
        while len(self.candidates) < end:
            self._add(Candidate(len(self.candidates), generation, self._random_unseen()))

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


def neighbours(space: SearchSpace, architecture: Architecture) -> Iterator[Architecture]:
    """The architectures that differ in exactly one layer's block."""
    blocks = architecture.blocks
    for layer, block in itertools.product(range(len(blocks)), space.blocks):
        if block != blocks[layer]:
            yield Architecture((*blocks[:layer], block, *blocks[layer + 1 :]))
