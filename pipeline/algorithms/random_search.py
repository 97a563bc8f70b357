"""Random search."""

from __future__ import annotations

from pipeline.algorithms.ask_tell import ArchitectureSearch, Candidate


class RandomSearch(ArchitectureSearch):
    """Random architectures at the same budget; waits for no result."""

    def _may_breed(self) -> bool:
        return True

    def _breed(self) -> None:
        generation = len(self.candidates) // self.settings.population_size
        if self._num_left > 0:
            self._add(Candidate(len(self.candidates), generation, self._random_unseen()))
