"""Settings of the search algorithms: the choice of one, sizes, rates and the fitness."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pipeline.identity import added
from snn.fitness import Evaluation, cost_of, spike_aware_fitness
from snn.options import CostName, Range, check_settings

# N_avg of the fitness where something else than spikes is saved; any other constant ranks alike.
_REFERENCES: dict[CostName, float] = {"synops": 1e6, "energy": 1e-6}

AlgorithmName = Literal["evolution", "exhaustive", "random", "aging", "nsga2", "optuna"]

Positive = Annotated[float, Range(0.0, sys.float_info.max, low_excluded=True)]
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
    cost: CostName = field(default="spikes", metadata=added("spikes"))
    """What is saved, in the fitness and by `nsga2`: `spikes`, as in the paper; `synops`, synaptic operations,
    of which a spike causes the more the wider the next layer is; `energy`, estimated with memory
    (`snn/energy.py`). The latter two need event-driven evaluation."""
    max_spikes: Positive | None = None
    """Spike budget, mean spikes per sample: one above it is chosen only if all candidates are above it."""
    max_synops: Positive | None = field(default=None, metadata=added(None))
    """Budget of synaptic operations per sample, likewise."""
    max_energy: Positive | None = field(default=None, metadata=added(None))
    """Budget of estimated joules per sample with memory, such as 2e-4; likewise."""
    max_parameters: Annotated[int, Range(1, 10**15)] | None = field(default=None, metadata=added(None))
    """Budget of learnable parameters, likewise."""
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

    @property
    def budgets(self) -> dict[str, float]:
        """The budgets by the field of an Evaluation that they limit."""
        budgets = {
            "spikes": self.max_spikes,
            "synops": self.max_synops,
            "energy": self.max_energy,
            "num_parameters": self.max_parameters,
        }
        return {name: budget for name, budget in budgets.items() if budget is not None}

    @property
    def budgets_text(self) -> str:
        """The budgets as a user set them."""
        texts = (f"search.max_{name.removeprefix('num_')} = {it:,g}" for name, it in self.budgets.items())
        return ", ".join(texts)

    @property
    def needs_operations(self) -> bool:
        """Whether synaptic operations must be counted, which only the event-driven engine does."""
        return self.cost != "spikes" or bool({"synops", "energy"} & self.budgets.keys())

    def knows(self, evaluation: Evaluation) -> bool:
        """Whether an evaluation holds all that cost and budgets need; those of earlier versions may not."""
        return all(getattr(evaluation, name) is not None for name in (self.cost, *self.budgets))

    def reference(self, spikes_reference: float) -> float:
        """The fitness' N_avg: that of the super-network, or 10^6 synaptic operations, or 1 microjoule."""
        return _REFERENCES.get(self.cost, spikes_reference)

    def fitness(self, evaluation: Evaluation, reference: float, exponent: float | None = None) -> float:
        """The fitness of an evaluation under `spike_exponent`, or another lambda.

        Raises:
            ValueError: The evaluation does not hold the cost.
        """
        return spike_aware_fitness(
            evaluation.accuracy,
            cost_of(evaluation, self.cost),
            spikes_reference=reference,
            spike_exponent=self.spike_exponent if exponent is None else exponent,
        )

    def excess(self, evaluation: Evaluation) -> float:
        """By what share of each the budgets are exceeded, summed; 0 within all of them."""
        return sum(max(0.0, getattr(evaluation, name) / budget - 1) for name, budget in self.budgets.items())
