"""Exhaustive search."""

from __future__ import annotations

from pipeline.algorithms.proposer import Proposer


class ExhaustiveSearch(Proposer):
    """Every architecture of the space in the order of its index, regardless of `max_evaluations`."""

    @property
    def num_planned(self) -> int:
        return len(self.history.space)

    def ready(self) -> bool:
        return True

    def propose(self) -> None:
        self.history.add(self.history.space.at(len(self.history.candidates)), generation=0)
