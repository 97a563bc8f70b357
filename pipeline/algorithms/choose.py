"""The search that settings ask for."""

from __future__ import annotations

from pipeline.algorithms.aging import AgingEvolution
from pipeline.algorithms.ask_tell import ArchitectureSearch
from pipeline.algorithms.evolution import SpikeAwareEvolution
from pipeline.algorithms.exhaustive import ExhaustiveSearch
from pipeline.algorithms.nsga2 import NSGA2
from pipeline.algorithms.optuna_tpe import OptunaTPE
from pipeline.algorithms.proposer import Proposer
from pipeline.algorithms.random_search import RandomSearch
from pipeline.algorithms.settings import AlgorithmName, SearchSettings
from snn.search_space import CategoricalSpace

_ALGORITHMS: dict[AlgorithmName, type[Proposer]] = {
    "evolution": SpikeAwareEvolution,
    "exhaustive": ExhaustiveSearch,
    "random": RandomSearch,
    "aging": AgingEvolution,
    "nsga2": NSGA2,
    "optuna": OptunaTPE,
}


def build_search(
    space: CategoricalSpace, settings: SearchSettings, *, seed: int, spikes_reference: float
) -> ArchitectureSearch:
    """A search of `space` by the algorithm of the settings.

    Raises:
        ValueError: The algorithm needs a package that is not installed.
    """
    algorithm = _ALGORITHMS[settings.algorithm]
    return ArchitectureSearch(space, settings, algorithm, seed=seed, spikes_reference=spikes_reference)
