"""Settings of the search algorithms: the choice of one, sizes, rates and the fitness."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pipeline.identity import added
from snn.options import Range, check_settings

AlgorithmName = Literal["evolution", "exhaustive", "random", "aging", "nsga2", "optuna"]

# From -10 to 10 no ratio of spikes can overflow the fitness.
Exponent = Annotated[float, Range(-10.0, 10.0)]


@dataclass(frozen=True)
class SearchSettings:
    """All that the course of a search depends on, apart from the seed and the evaluations.

    Raises:
        ValueError: A value is out of range; the message names it `search.<field>`, as the command line does.
    """

    algorithm: AlgorithmName = "evolution"
    """`evolution` as in the paper; `exhaustive` scores the whole space; `random` samples uniformly;
    `aging` is regularised evolution; `nsga2` optimises accuracy and spikes; `optuna` is its TPE sampler."""
    spike_exponent: Exponent = -0.08
    """lambda of the fitness accuracy * (spikes / reference) ** lambda; more negative saves more spikes."""
    more_exponents: tuple[Exponent, ...] = ()
    """Further lambdas `evolution` searches for at once: parents come in turn from each lambda's ranking."""
    max_spikes: Annotated[float, Range(0.0, sys.float_info.max, low_excluded=True)] | None = None
    """Spike budget, mean spikes per sample: one above it is chosen only if all candidates are above it."""
    population_size: Annotated[int, Range(2, 1_000_000)] = 20
    """Candidates of a generation."""
    num_parents: Annotated[int, Range(1, 1_000_000)] = 10
    """The best of all evaluated candidates that breed the next generation."""
    num_mutants: Annotated[int, Range(0, 1_000_000)] = 10
    """Candidates of a generation bred by mutation; the rest is bred by crossover."""
    mutation_probability: Annotated[float, Range(0.0, 1.0, low_excluded=True)] = 0.2
    """Probability that a layer of a mutant changes its block."""
    official_crossover: bool = field(default=False, metadata=added(False))
    """`evolution` only: draw the cut of a crossover as the official code does, from the list of layers and
    pools, so that some cuts are likelier than others and one in seven leaves nothing to the second parent."""
    max_evaluations: Annotated[int, Range(1, 1_000_000_000)] = 400
    """Architectures evaluated before the search ends; a smaller space ends it earlier."""

    def __post_init__(self) -> None:
        check_settings("search", self)
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
        if self.spike_exponent > 0:
            warnings.warn(
                f"search.spike_exponent is {self.spike_exponent}: above 0 the fitness REWARDS spikes; "
                "use a value of at most 0, such as -0.08, to save them.",
                stacklevel=2,
            )
