"""Optuna's tree-structured Parzen estimator."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

from pipeline.algorithms.breeding import fill_up
from pipeline.algorithms.history import History
from pipeline.algorithms.proposer import Proposer
from snn.search_space import Architecture

if TYPE_CHECKING:
    import optuna

# Suggestions per candidate of a generation; random candidates replace those that repeat others.
_MAX_ATTEMPTS = 5


class OptunaTPE(Proposer):
    """The tree-structured Parzen estimator (Bergstra et al., "Algorithms for Hyper-Parameter Optimization",
    NeurIPS 2011) as Optuna implements it, with one categorical parameter per layer.

    A generation of `population_size` candidates is suggested at once. Its results are told in the order of
    their ids when all are there, so that the search does not depend on the number of workers. A repeated
    suggestion is not handed out again: the sampler is told the result of the earlier one, as a failure if
    there is none yet, and asked once more.

    Raises:
        ValueError: Optuna is not installed.
    """

    def __init__(self, history: History, *, seed: int) -> None:
        super().__init__(history, seed=seed)
        self._study = _make_study(seed)
        self._layers = _distributions(history)
        self._trials: dict[int, optuna.Trial] = {}  # of the candidates that the sampler awaits
        self._num_suggested = 0  # candidates that the sampler has passed, its own and random ones
        self._num_told = 0

    def propose(self) -> None:
        while self._num_suggested < len(self.history.candidates):  # a restored history is suggested again
            self._suggest_generation()
        self._suggest_generation()

    def _suggest_generation(self) -> None:
        """Tells the results so far, then adds a generation to the history, or passes one it has already."""
        history, start = self.history, self._num_suggested
        for candidate_id in range(self._num_told, start):
            self._tell(candidate_id)
        self._num_told = start
        end = min(start + history.settings.population_size, self.num_planned)
        generation = history.candidates[start - 1].generation + 1 if start else 0
        for _ in range(_MAX_ATTEMPTS * (end - start)):
            if self._num_suggested == end:
                break
            self._suggest(generation)
        fill_up(history, generation, end, self.rng)
        self._num_suggested = end

    def _suggest(self, generation: int) -> None:
        """One suggestion of the sampler: the next candidate, or a repetition that is answered at once."""
        trial = self._study.ask(fixed_distributions=self._layers)
        architecture = Architecture(tuple(trial.params[layer] for layer in self._layers))
        number = self._num_suggested
        candidate_id = self.history.id_of(architecture)
        if candidate_id is None:
            candidate_id = len(self.history.candidates)
            self.history.add(architecture, generation)
        assert candidate_id <= number, "the sampler suggested something else than before"
        if candidate_id == number:
            self._trials[number] = trial
            self._num_suggested += 1
        else:
            self._answer(trial, self._value(candidate_id) if candidate_id < self._num_told else None)

    def _tell(self, candidate_id: int) -> None:
        """Tells the sampler a candidate's result, also that of a random candidate unless it failed."""
        from optuna.trial import create_trial

        trial, value = self._trials.pop(candidate_id, None), self._value(candidate_id)
        if trial is not None:
            self._answer(trial, value)
        elif value is not None:
            blocks = self.history.candidates[candidate_id].architecture.blocks
            params = dict(zip(self._layers, blocks, strict=True))
            self._study.add_trial(create_trial(value=value, params=params, distributions=self._layers))

    def _answer(self, trial: optuna.Trial, value: float | None) -> None:
        """Ends a trial of the sampler; as failed if there is no value."""
        from optuna.trial import TrialState

        self._study.tell(trial, value, state=TrialState.FAIL if value is None else TrialState.COMPLETE)

    def _value(self, candidate_id: int) -> float | None:
        """What the sampler maximises: the fitness, or minus the excess over the budgets; None if failed."""
        result = self.history.results[candidate_id]
        if result is None:
            return None
        excess = self.history.excess(result)
        return -excess if excess else self.history.fitness(result)


def _make_study(seed: int) -> optuna.Study:
    """A study in memory with a TPE sampler, whose generator takes the lower 32 bits of the seed."""
    try:
        import optuna
    except ImportError as error:
        raise ValueError(
            "search.algorithm is 'optuna', but optuna is not installed; run: pip install optuna"
        ) from error
    optuna.logging.set_verbosity(logging.WARNING)  # or it writes a line for each study
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `constant_liar` is marked as experimental
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32, constant_liar=True)
    return optuna.create_study(direction="maximize", sampler=sampler, pruner=optuna.pruners.NopPruner())


def _distributions(history: History) -> dict[str, optuna.distributions.BaseDistribution]:
    """One categorical parameter per layer, in the order of the layers."""
    from optuna.distributions import CategoricalDistribution

    choices = history.space.choices
    return {f"layer{i}": CategoricalDistribution(blocks) for i, blocks in enumerate(choices)}
