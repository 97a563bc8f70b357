"""The part of a search that an algorithm implements: proposing candidates."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod

from pipeline.algorithms.history import History


class Proposer(ABC):
    """A search algorithm; what it proposes depends on the history and its own generator alone.

    It keeps no state that `propose` cannot rebuild from the history, so that the history, the seed and the
    generator's state restore a search.

    Args:
        history: The history that candidates are added to.
        seed: Seed of its generator.
    """

    def __init__(self, history: History, *, seed: int) -> None:
        self.history = history
        self.seed = seed
        self.rng = random.Random(seed)

    @property
    def num_planned(self) -> int:
        """How many candidates the whole search has."""
        return min(self.history.settings.max_evaluations, len(self.history.space))

    @property
    def num_at_once(self) -> int:
        """How many candidates can be evaluated at once before their results are needed."""
        return min(self.history.settings.population_size, self.num_planned)

    @property
    def num_left(self) -> int:
        """How many candidates may still be proposed."""
        return self.num_planned - len(self.history.candidates)

    def ready(self) -> bool:
        """Whether it can propose now; by default, once every candidate has its result."""
        return self.history.num_open_results == 0

    @abstractmethod
    def propose(self) -> None:
        """Adds candidates to the history: at least one, at most `num_left`, which is above 0."""

    def parent_threshold(self) -> float | None:
        """Fitness below which a candidate can never become a parent; None if there is no such bound."""
        return None
