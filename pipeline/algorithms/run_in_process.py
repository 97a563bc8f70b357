"""The executor without Ray: a search and its evaluations in one process, one after another."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.algorithms.ask_tell import ArchitectureSearch
from snn.fitness import Evaluation
from snn.search_space import Architecture


def run_in_process(
    search: ArchitectureSearch, evaluate: Callable[[Architecture], Evaluation | None]
) -> ArchitectureSearch:
    """Runs a search to its end: asks for all candidates available, evaluates them, tells, and repeats.

    Args:
        search: The search; if it was begun elsewhere, every candidate handed out needs its result.
        evaluate: The evaluation of an architecture; None if it failed.

    Returns:
        The same search, finished.
    """
    while asked := list(iter(search.ask, None)):
        for candidate in asked:
            search.tell(candidate.id, evaluate(candidate.architecture))
    assert search.finished, "a candidate handed out before has no result"
    return search
