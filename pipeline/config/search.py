"""Settings of stage 2: the search algorithm and the evaluation of its candidates."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Annotated

from pipeline.algorithms.settings import SearchSettings
from pipeline.identity import NO_IDENTITY, added
from snn.options import EngineName, Precision, Range, ScoringName, StatisticsName
from snn.search_space import SearchSpace

# Largest space that is searched exhaustively without asking: 5 blocks in 5 layers are 3,125, 8 are 32,768.
LARGEST_EXHAUSTIVE = 20_000


@dataclass(frozen=True)
class SearchConfig(SearchSettings):
    """Stage 2: the spike-aware search on D_val."""

    scoring: ScoringName = "supernet"
    """What candidates are scored with: `supernet`, the weights of the super-network, as the paper does;
    `short_training`, weights of their own, from a short training that drops the worse ones early. No
    super-network is trained then."""
    training_samples: Annotated[int, Range(1, 1_000_000_000)] | None = None
    """`short_training` only: samples that a candidate is trained on unless it is dropped, repeated ones
    counted; by default one pass over D_train."""
    rungs: Annotated[int, Range(1, 20)] = 3
    """`short_training` only: measurements of a candidate. A candidate that is not among the best of earlier
    generations at one of them is dropped (successive halving); 1 drops none."""
    reduction_factor: Annotated[float, Range(1.0, 100.0, low_excluded=True)] = 3.0
    """`short_training` only: from rung to rung a training is this many times longer, and the best one in this
    many go on."""
    batch_size: Annotated[int, Range(1, 1_000_000)] = 128
    """Samples per forward pass; results of event-driven evaluation do not depend on it."""
    engine: EngineName = "auto"
    """How candidates are evaluated: `event_driven` adds weights spike by spike on a CPU, `dense` is torch on
    any device; `auto` is event-driven on CPUs that have a C compiler, for samples of at most 1024 pixels a
    side, and for networks of 128 and more channels only if the super-network fires at 20 % or less."""
    precision: Precision = "float32"
    """Format of weights and potentials of the dense engine; spikes are exact in either."""
    statistics: StatisticsName = "stored"
    """Batch-norm statistics that candidates are scored with: `stored`, the super-network's averages over all
    paths, as the paper does; `recalibrated`, measured for each candidate on samples of D_train."""
    calibration_samples: Annotated[int, Range(1, 1_000_000_000)] = 256
    """Samples of D_train on which `recalibrated` statistics are measured."""
    racing: bool = False
    """`evolution` only: stop evaluating a candidate that can no longer become a parent. The search and its
    choice stay the same; stopped candidates have fewer samples in the table and are not on the front."""
    elimination_risk: Annotated[float, Range(0.0, 1.0, low_excluded=True, high_excluded=True)] | None = field(
        default=None, metadata=added(None)
    )
    """Measure candidates on growing parts of D_val and drop those that paired tests put below the Pareto
    front; 0.05 is a good value. Each member of the front, and so the choice, is lost with at most about this
    probability. Dropped candidates have fewer samples in the table and are not on the front."""
    cache: bool = field(default=True, metadata=NO_IDENTITY)
    """Share evaluations with other runs of the same weights, data and settings through the user's cache; not
    part of a run's identity."""
    max_workers: Annotated[int, Range(1, 100_000)] | None = field(default=None, metadata=NO_IDENTITY)
    """Most trial actors at once. Where nodes come on demand the search asks for as many as it can use, by
    default a generation's; elsewhere for as many as fit. Not part of a run's identity."""
    max_val_samples: Annotated[int, Range(1, 1_000_000_000)] | None = None
    """Score on this many samples of D_val (classes balanced) instead of all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_elimination()
        if self.precision != "float32" and self.engine != "dense":
            raise ValueError(
                f"search.precision is '{self.precision}', which only the dense engine supports: add "
                "--search.engine dense, or leave precision at float32."
            )
        if self.racing and not self.needs_supernet:
            warnings.warn(
                "search.racing is ignored: short trainings are given up at their rungs (search.rungs).",
                stacklevel=2,
            )
        elif self.racing and (self.algorithm != "evolution" or self.more_exponents):
            warnings.warn(
                "search.racing is ignored: only evolution with a single lambda knows what a candidate must "
                "reach to become a parent.",
                stacklevel=2,
            )

    def _check_elimination(self) -> None:
        if self.elimination_risk is None:
            return
        if not self.needs_supernet:
            raise ValueError(
                "search.elimination_risk drops candidates while they are evaluated, but with search.scoring "
                "'short_training' that takes little; leave it out, as search.rungs drop them there."
            )
        if self.racing:
            raise ValueError(
                "search.racing and search.elimination_risk both stop candidates early: leave one of them out."
            )
        if others := self.budgets.keys() - {self.cost}:
            raise ValueError(
                f"search.elimination_risk keeps the Pareto front of accuracy and {self.cost}, on which the "
                f"best candidate within a budget of {', '.join(sorted(others))} need not be: leave one of "
                "them out."
            )
        if max((self.spike_exponent, *self.more_exponents)) > 0:
            raise ValueError(
                "search.elimination_risk keeps the Pareto front of accuracy and few spikes, on which the "
                "best candidate need not be if search.spike_exponent is above 0: leave one of them out."
            )

    @property
    def needs_supernet(self) -> bool:
        """Whether candidates are scored with a super-network's weights."""
        return self.scoring == "supernet"

    def rung_samples(self, num_train: int) -> list[int]:
        """Training samples of a candidate at each rung, of `num_train` in D_train; each at least 1."""
        total = self.training_samples or num_train
        return [max(1, round(total / self.reduction_factor**k)) for k in reversed(range(self.rungs))]

    @property
    def num_calibrated(self) -> int:
        """Samples that each candidate's statistics are measured on; 0 if the stored ones are used."""
        return self.calibration_samples if self.statistics == "recalibrated" else 0


def check_exhaustive(space: SearchSpace, search: SearchConfig) -> None:
    """Raises ValueError for a long exhaustive search unless `max_evaluations` allows its size."""
    size = len(space)
    if not search.needs_supernet and size > search.max_evaluations:
        raise ValueError(
            "search.algorithm is 'exhaustive' and search.scoring 'short_training', which trains all "
            f"{size:,} architectures from scratch. Use --search.scoring supernet, another "
            f"--search.algorithm, or allow it by --search.max-evaluations {size}."
        )
    if size <= max(LARGEST_EXHAUSTIVE, search.max_evaluations):
        return
    runs, runs_of_paper = (
        sum(len(s.blocks) ** (layer + 1) for layer in range(s.num_layers)) for s in (space, SearchSpace(5))
    )
    raise ValueError(
        f"search.algorithm is 'exhaustive', but the space has {size:,} architectures ({space.num_layers} "
        f"layers of {len(space.blocks)} blocks): {runs:,} block evaluations per sample, "
        f"{runs / runs_of_paper:,.0f} times those of the paper's space. Use --search.algorithm evolution, "
        f"fewer --network.blocks, or allow it by --search.max-evaluations {size}."
    )
