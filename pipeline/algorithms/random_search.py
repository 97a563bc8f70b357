"""Random search."""

from __future__ import annotations

from pipeline.algorithms.breeding import fill_up
from pipeline.algorithms.proposer import Proposer


class RandomSearch(Proposer):
    """Random architectures at the same budget; awaits no result."""

    @property
    def num_at_once(self) -> int:
        return self.num_planned

    def ready(self) -> bool:
        return True

    def propose(self) -> None:
        number = len(self.history.candidates)
        generation = number // self.history.settings.population_size
        fill_up(self.history, generation, number + 1, self.rng)
