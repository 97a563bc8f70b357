"""Searches that Ray Tune brings along, behind the same ask/tell as our own."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from pipeline.algorithms.ask_tell import ArchitectureSearch, Candidate, SearchSettings
from snn.search_space import Architecture, SearchSpace

# Suggestions for each candidate of a generation, before random ones take the place of repeated ones.
_MAX_ATTEMPTS = 5


class BorrowedSearch(ArchitectureSearch):
    """The tree-structured Parzen estimator of Optuna, through Tune's searcher for it.

    A generation of `population_size` candidates is suggested at once and its results are told in the order
    of their ids when all are there, so that the search does not depend on the number of workers. What is
    suggested again is not handed out again: the sampler is told the result it has, and asked once more.

    Raises:
        ValueError: Optuna is not installed.
    """

    def __init__(self, space: SearchSpace, settings: SearchSettings, *, seed: int) -> None:
        super().__init__(space, settings, seed=seed)
        self.seed = seed
        self._searcher = _optuna_searcher(space, seed)
        self._num_suggested = 0
        self._trials: dict[int, str] = {}
        self._num_told = 0

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to a state of `state_dict` by suggesting all of its generations once more."""
        super().load_state_dict(state)
        candidates, results, num_asked = self.candidates, self.results, self._num_asked
        self.__init__(self.space, self.settings, seed=state["seed"])  # type: ignore[misc]
        self.results = results
        while len(self.candidates) < len(candidates):
            self._breed()
        assert self.candidates == candidates, "the sampler suggested something else than before"
        self._num_asked = num_asked

    def _may_breed(self) -> bool:
        return self._num_open_results == 0

    def _breed(self) -> None:
        for candidate_id in range(self._num_told, len(self.candidates)):
            self._tell_sampler(candidate_id)
        self._num_told = len(self.candidates)
        generation = self._next_generation
        end = len(self.candidates) + min(self.settings.population_size, self._num_left)
        attempts = _MAX_ATTEMPTS * (end - len(self.candidates))
        while len(self.candidates) < end and attempts > 0:
            attempts -= 1
            trial, architecture = self._suggestion()
            if architecture in self._seen:
                earlier = self._candidate_of(architecture)
                self._answer(trial, earlier if earlier < self._num_told else None)
            else:
                self._trials[len(self.candidates)] = trial
                self._add(Candidate(len(self.candidates), generation, architecture))
        self._fill_up(generation, end)

    def _suggestion(self) -> tuple[str, Architecture]:
        trial = str(self._num_suggested)
        self._num_suggested += 1
        blocks = self._searcher.suggest(trial)
        return trial, Architecture(tuple(blocks[f"layer{i}"] for i in range(self.space.num_layers)))

    def _candidate_of(self, architecture: Architecture) -> int:
        return next(c.id for c in self.candidates if c.architecture == architecture)

    def _tell_sampler(self, candidate_id: int) -> None:
        """Tells the sampler a candidate's result, whether it suggested the candidate or not."""
        trial = self._trials.pop(candidate_id, None)
        if trial is not None:
            self._answer(trial, candidate_id)
        elif self.results[candidate_id] is not None:
            blocks = self.candidates[candidate_id].architecture.blocks
            point = {f"layer{i}": block for i, block in enumerate(blocks)}
            self._searcher.add_evaluated_point(point, self._value(candidate_id))

    def _answer(self, trial: str, candidate_id: int | None) -> None:
        """Ends a trial of the sampler with a candidate's result; as failed if there is none (yet)."""
        if candidate_id is None or self.results[candidate_id] is None:
            self._searcher.on_trial_complete(trial, error=True)
        else:
            self._searcher.on_trial_complete(trial, {"fitness": self._value(candidate_id)})

    def _value(self, candidate_id: int) -> float:
        """What the sampler maximises: the fitness, below 0 for a candidate above the spike budget."""
        result = self._result(candidate_id)
        excess = self._excess(result)
        return -excess if excess else self.fitness(result)


def _optuna_searcher(space: SearchSpace, seed: int) -> Any:
    """Tune's searcher of Optuna with a seeded TPE sampler and one categorical parameter a layer."""
    try:
        import optuna
    except ImportError as error:
        raise ValueError(
            "search.algorithm is 'optuna', but optuna is not installed; run: pip install optuna"
        ) from error
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(logging.WARNING)  # or it writes a line for each study
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `constant_liar` is marked as experimental
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    choices = optuna.distributions.CategoricalDistribution(space.blocks)
    layers: dict[str, Any] = {f"layer{i}": choices for i in range(space.num_layers)}
    return OptunaSearch(layers, metric="fitness", mode="max", sampler=sampler)
