"""Settings of the search algorithms: the choice of one, sizes, rates and the fitness."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, get_args

from snn.options import at_least

AlgorithmName = Literal["evolution", "exhaustive", "random", "aging", "nsga2", "optuna"]


@dataclass(frozen=True)
class SearchSettings:
    """All that the course of a search depends on, apart from the seed and the evaluations.

    Raises:
        ValueError: A value is out of range; the message names it `search.<field>`, as the command line does.
    """

    algorithm: AlgorithmName = "evolution"
    """`evolution` as in the paper; `exhaustive` scores the whole space; `random` samples uniformly;
    `aging` is regularised evolution; `nsga2` optimises accuracy and spikes; `optuna` is its TPE sampler."""
    spike_exponent: float = -0.08
    """lambda of the fitness accuracy * (spikes / reference) ** lambda; more negative saves more spikes."""
    more_exponents: tuple[float, ...] = ()
    """Further lambdas `evolution` searches for at once: parents come in turn from each lambda's ranking."""
    max_spikes: float | None = None
    """Spike budget, mean spikes per sample: one above it is chosen only if all candidates are above it."""
    population_size: int = 20
    """Candidates of a generation."""
    num_parents: int = 10
    """The best of all evaluated candidates that breed the next generation."""
    num_mutants: int = 10
    """Candidates of a generation bred by mutation; the rest is bred by crossover."""
    mutation_probability: float = 0.2
    """Probability that a layer of a mutant changes its block."""
    max_evaluations: int = 400
    """Architectures evaluated before the search ends; a smaller space ends it earlier."""

    def __post_init__(self) -> None:
        if self.algorithm not in get_args(AlgorithmName):
            names = ", ".join(get_args(AlgorithmName))
            raise ValueError(f"search.algorithm must be one of: {names}; got '{self.algorithm}'.")
        at_least("search", 2, population_size=self.population_size)
        at_least("search", 1, num_parents=self.num_parents, max_evaluations=self.max_evaluations)
        at_least("search", 0, num_mutants=self.num_mutants)
        if self.num_parents > self.population_size:
            raise ValueError(
                f"search.num_parents must not exceed search.population_size ({self.population_size}), "
                f"got {self.num_parents}: lower num_parents or raise population_size."
            )
        if self.num_mutants > self.population_size:
            raise ValueError(
                f"search.num_mutants must not exceed search.population_size ({self.population_size}), "
                f"got {self.num_mutants}."
            )
        if not 0 < self.mutation_probability <= 1:
            raise ValueError(
                f"search.mutation_probability must be in (0, 1], got {self.mutation_probability}."
            )
        if self.spike_exponent > 0:
            warnings.warn(
                f"search.spike_exponent is {self.spike_exponent}: above 0 the fitness REWARDS spikes; "
                "use a value of at most 0, such as -0.08, to save them.",
                stacklevel=2,
            )
