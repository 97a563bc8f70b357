"""The history of a search: its candidates, their results and their ranking; it knows no algorithm."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from typing import Any, Self

from pipeline.algorithms.remaining import RemainingIndices
from pipeline.algorithms.settings import SearchSettings
from snn.fitness import Evaluation, cost_of
from snn.json_values import to_json
from snn.search_space import Architecture, CategoricalSpace

# Ascending keys are a ranking: whether above a budget, -fitness (the excess above one), cost, id.
_RankKey = tuple[bool, float, float, int]


@dataclass(frozen=True)
class Candidate:
    """An architecture proposed for evaluation.

    Attributes:
        id: Number in the order of proposal, from 0.
        generation: Generation, from 0.
        architecture: What to evaluate.
        parents: Ids of the candidates it was bred from; empty for a random one.
    """

    id: int
    generation: int
    architecture: Architecture
    parents: tuple[int, ...] = ()


class History:
    """Candidates in the order of their ids, the first `num_asked` of them handed out, and their results.

    The cost of adding a candidate, filing a result and reading the elite does not depend on the length of
    the history; that of `unseen` grows with the logarithm of the space's size. `ranking` sorts all results.

    Args:
        space: The space of which every candidate is a different architecture.
        settings: The fitness, the budgets and the size of the elite (`num_parents`).
        spikes_reference: N_avg of the fitness, in the unit of the settings' cost.
    """

    def __init__(self, space: CategoricalSpace, settings: SearchSettings, *, spikes_reference: float) -> None:
        self.space = space
        self.settings = settings
        self.spikes_reference = spikes_reference
        self.candidates: list[Candidate] = []
        self.results: dict[int, Evaluation | None] = {}
        self.num_asked = 0
        self._ids: dict[Architecture, int] = {}
        exponents = (settings.spike_exponent, *settings.more_exponents)
        self._elites: dict[float, list[_RankKey]] = {exponent: [] for exponent in exponents}
        self._unseen: RemainingIndices | None = None

    @property
    def num_open_results(self) -> int:
        """Number of candidates without a result."""
        return len(self.candidates) - len(self.results)

    @property
    def generation(self) -> int:
        """Number of the newest generation, from 0."""
        return self.candidates[-1].generation if self.candidates else 0

    @property
    def next_generation(self) -> int:
        """Number of the generation after the newest, 0 at the start."""
        return self.generation + 1 if self.candidates else 0

    def add(self, architecture: Architecture, generation: int, parents: tuple[int, ...] = ()) -> None:
        """Appends a candidate that was not seen before."""
        candidate_id = len(self.candidates)
        assert architecture not in self._ids, "a candidate was proposed twice"
        self._ids[architecture] = candidate_id
        self.candidates.append(Candidate(candidate_id, generation, architecture, parents))
        if self._unseen is not None:
            self._unseen.remove(self.space.index(architecture))

    def hand_out(self) -> Candidate | None:
        """The next candidate not handed out before; None if there is none."""
        if self.num_asked == len(self.candidates):
            return None
        self.num_asked += 1
        return self.candidates[self.num_asked - 1]

    def file(self, candidate_id: int, evaluation: Evaluation | None) -> None:
        """Files a candidate's result, None if its evaluation failed; a repeated result changes nothing.

        Raises:
            ValueError: No candidate of that id was handed out.
        """
        if not 0 <= candidate_id < self.num_asked:
            raise ValueError(f"candidate_id must be in [0, {self.num_asked}), got {candidate_id}.")
        if candidate_id in self.results:
            return
        self.results[candidate_id] = evaluation
        if evaluation is not None:
            for exponent, elite in self._elites.items():
                insort(elite, self.rank_key(candidate_id, exponent))
                del elite[self.settings.num_parents :]

    def result(self, candidate_id: int) -> Evaluation:
        """The result of a candidate whose evaluation did not fail."""
        result = self.results[candidate_id]
        assert result is not None, "a failed candidate has no result"
        return result

    def fitness(self, evaluation: Evaluation, exponent: float | None = None) -> float:
        """The spike-aware fitness of an evaluation, under lambda = `exponent` if given."""
        return self.settings.fitness(evaluation, self.spikes_reference, exponent)

    def excess(self, evaluation: Evaluation) -> float:
        """As `SearchSettings.excess`."""
        return self.settings.excess(evaluation)

    def rank_key(self, candidate_id: int, exponent: float | None = None) -> _RankKey:
        """A key that sorts candidates with a result into the ranking, the best first."""
        result = self.result(candidate_id)
        excess = self.excess(result)
        rank = excess or -self.fitness(result, exponent)
        return excess > 0, rank, cost_of(result, self.settings.cost), candidate_id

    def ranking(self, exponent: float | None = None) -> list[Candidate]:
        """Candidates with a result, best first; failed ones are left out.

        First those within the budgets, by fitness, equally fit ones by lower cost; then those above one, by
        how little. Lower ids break ties.
        """
        keys = [self.rank_key(i, exponent) for i, result in self.results.items() if result is not None]
        return [self.candidates[key[-1]] for key in sorted(keys)]

    def elite(self, exponent: float | None = None) -> list[Candidate]:
        """The first `num_parents` of the ranking under a lambda of the settings, without ranking the rest."""
        keys = self._elites[self.settings.spike_exponent if exponent is None else exponent]
        return [self.candidates[key[-1]] for key in keys]

    def id_of(self, architecture: Architecture) -> int | None:
        """The id of the candidate with this architecture; None if there is none."""
        return self._ids.get(architecture)

    @property
    def num_unseen(self) -> int:
        """Number of architectures of the space that are no candidates."""
        return len(self.space) - len(self.candidates)

    def unseen(self, k: int) -> Architecture:
        """The k-th architecture that is no candidate, in the order of the space, k in [0, num_unseen)."""
        if self._unseen is None:
            self._unseen = RemainingIndices(len(self.space))
            for architecture in self._ids:
                self._unseen.remove(self.space.index(architecture))
        return self.space.at(self._unseen[k])

    def state_dict(self) -> dict[str, Any]:
        """Candidates and results as JSON values."""
        return {
            "num_asked": self.num_asked,
            "candidates": [
                [c.id, c.generation, str(c.architecture), list(c.parents)] for c in self.candidates
            ],
            "results": {str(i): result and to_json(result) for i, result in self.results.items()},
        }

    @classmethod
    def from_state_dict(
        cls,
        state: dict[str, Any],
        space: CategoricalSpace,
        settings: SearchSettings,
        *,
        spikes_reference: float,
    ) -> Self:
        """The history of a `state_dict`; candidates without a result stay awaited."""
        history = cls(space, settings, spikes_reference=spikes_reference)
        for _, generation, text, parents in state["candidates"]:
            history.add(Architecture.parse(text), generation, tuple(parents))
        history.num_asked = state["num_asked"]
        for candidate_id, result in state["results"].items():
            history.file(int(candidate_id), result and Evaluation(**result))
        return history
