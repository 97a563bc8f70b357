"""A search as an ask/tell object: a history and the algorithm that proposes from it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from pipeline.algorithms.breeding import neighbours
from pipeline.algorithms.history import Candidate, History
from pipeline.algorithms.proposer import Proposer
from pipeline.algorithms.settings import SearchSettings
from snn.fitness import Evaluation
from snn.search_space import Architecture, CategoricalSpace

# Largest space that `likely_next` lists to its end.
_LISTABLE = 10_000


class ArchitectureSearch:
    """A search for the architecture of highest accuracy * (spikes / reference) ** lambda.

    It hands out candidates, none of them twice, and files their results by id. What it hands out depends
    on seed and results alone, neither on the number of workers nor on the order in which they finish.

    Args:
        space: The space that is searched.
        settings: Sizes, rates and the fitness.
        algorithm: The class of the proposing algorithm.
        seed: Seed of the algorithm's random numbers.
        spikes_reference: N_avg of the fitness, in the unit of the settings' cost.
    """

    def __init__(
        self,
        space: CategoricalSpace,
        settings: SearchSettings,
        algorithm: type[Proposer],
        *,
        seed: int,
        spikes_reference: float,
    ) -> None:
        self.space = space
        self.settings = settings
        self.spikes_reference = spikes_reference
        self.history = History(space, settings, spikes_reference=spikes_reference)
        self.proposer = algorithm(self.history, seed=seed)

    @property
    def candidates(self) -> list[Candidate]:
        """All candidates, by id; the newest may not be handed out yet."""
        return self.history.candidates

    @property
    def results(self) -> dict[int, Evaluation | None]:
        """The results by candidate id; None for a failed evaluation."""
        return self.history.results

    @property
    def num_planned(self) -> int:
        """How many candidates the whole search has."""
        return self.proposer.num_planned

    @property
    def num_at_once(self) -> int:
        """How many candidates can be evaluated at once before their results are needed."""
        return self.proposer.num_at_once

    @property
    def finished(self) -> bool:
        """Whether every candidate has its result and no more will be proposed."""
        return self.history.num_open_results == 0 and self.proposer.num_left == 0

    @property
    def generation(self) -> int:
        """Number of the newest generation, from 0."""
        return self.history.generation

    def ask(self) -> Candidate | None:
        """The next candidate; None while results are awaited, or when the search is finished."""
        all_asked = self.history.num_asked == len(self.candidates)
        if all_asked and self.proposer.num_left and self.proposer.ready():
            self.proposer.propose()
        return self.history.hand_out()

    def tell(self, candidate_id: int, evaluation: Evaluation | None) -> None:
        """Files a candidate's result; None if its evaluation failed. A repeated result changes nothing.

        Raises:
            ValueError: No candidate of that id was handed out.
        """
        self.history.file(candidate_id, evaluation)

    def fitness(self, evaluation: Evaluation) -> float:
        """The spike-aware fitness of an evaluation."""
        return self.history.fitness(evaluation)

    def best(self) -> Candidate | None:
        """The first of the ranking, without ranking the rest; None while every result is a failure."""
        return next(iter(self.history.elite()), None)

    def ranking(self) -> list[Candidate]:
        """Candidates with a result, best first; failed ones are left out.

        First those within the budgets, by fitness, equally fit ones by lower cost; then those above one, by
        how little. Lower ids break ties.
        """
        return self.history.ranking()

    def ranking_for(self, exponent: float) -> list[Candidate]:
        """The ranking if lambda were `exponent`."""
        return self.history.ranking(exponent)

    def parent_threshold(self) -> float | None:
        """Fitness below which a candidate can never become a parent; None if there is no such bound.

        Only an algorithm whose parents are the best of all seen has one, once it has enough results.
        """
        return self.proposer.parent_threshold()

    def likely_next(self) -> Iterator[Architecture]:
        """Architectures not handed out so far, the most promising first; the search is left as it is.

        First the candidates that wait to be handed out, then the neighbours of the best candidates in the
        order of the ranking, then the rest of a space small enough to list. Nothing once the budget is
        spent.
        """
        for index in range(self.history.num_asked, len(self.candidates)):
            yield self.candidates[index].architecture
        if not self.proposer.num_left:
            return
        near = itertools.chain.from_iterable(
            neighbours(self.space, candidate.architecture) for candidate in self.history.elite()
        )
        listed = range(self.history.num_unseen) if len(self.space) <= _LISTABLE else ()
        yielded: set[Architecture] = set()
        for architecture in itertools.chain(near, map(self.history.unseen, listed)):
            if self.history.id_of(architecture) is None and architecture not in yielded:
                yielded.add(architecture)
                yield architecture

    def state_dict(self) -> dict[str, Any]:
        """The whole state as JSON values, generator included."""
        generator = {"rng": self.proposer.rng.getstate(), "seed": self.proposer.seed}
        return {**generator, **self.history.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Returns to a state of `state_dict`; candidates without a result stay awaited."""
        self.history = History.from_state_dict(
            state, self.space, self.settings, spikes_reference=self.spikes_reference
        )
        self.proposer = type(self.proposer)(self.history, seed=state.get("seed", self.proposer.seed))
        version, internal, gauss = state["rng"]
        self.proposer.rng.setstate((version, tuple(internal), gauss))
