"""The search algorithm of a run's settings."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipeline.algorithms.aging import AgingEvolution
from pipeline.algorithms.ask_tell import ArchitectureSearch, SearchSettings
from pipeline.algorithms.evolution import SpikeAwareEvolution
from pipeline.algorithms.exhaustive import ExhaustiveSearch
from pipeline.algorithms.nsga2 import NSGA2
from pipeline.algorithms.random_search import RandomSearch
from pipeline.config.tree import Config


def make_search(config: Config, spikes_reference: float) -> ArchitectureSearch:
    """The search algorithm of a run's settings.

    Raises:
        ValueError: The algorithm is borrowed from a package that is not installed.
    """
    fields = {field.name for field in dataclasses.fields(SearchSettings)} - {"spikes_reference"}
    values: dict[str, Any] = {name: getattr(config.search, name) for name in fields}
    settings = SearchSettings(**values, spikes_reference=spikes_reference)
    kind = _algorithm(config.search.algorithm)
    return kind(config.network.search_space(), settings, seed=config.seed)


def _algorithm(name: str) -> type[ArchitectureSearch]:
    if name == "optuna":
        from pipeline.algorithms.optuna_tpe import BorrowedSearch  # it needs Ray, the others do not

        return BorrowedSearch
    return {
        "evolution": SpikeAwareEvolution,
        "exhaustive": ExhaustiveSearch,
        "random": RandomSearch,
        "aging": AgingEvolution,
        "nsga2": NSGA2,
    }[name]
