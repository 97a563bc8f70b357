"""Exhaustive search."""

from __future__ import annotations

import math

from pipeline.algorithms.proposer import Proposer


class ExhaustiveSearch(Proposer):
    """Every architecture of the space in the order of its index, regardless of `max_evaluations`."""

    @property
    def num_planned(self) -> int:
        return len(self.history.space)

    @property
    def num_at_once(self) -> int:
        """One for all architectures that differ in their last two layers only: they share the most."""
        return math.prod(map(len, self.history.space.choices[:-2]))

    def ready(self) -> bool:
        return True

    def propose(self) -> None:
        self.history.add(self.history.space.at(len(self.history.candidates)), generation=0)
