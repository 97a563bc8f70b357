"""Exhaustive search."""

from __future__ import annotations

from pipeline.algorithms.ask_tell import ArchitectureSearch, Candidate


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
