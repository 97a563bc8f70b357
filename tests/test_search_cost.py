"""The work of a search per candidate stays the same however large the space is."""

from __future__ import annotations

import sys

import pytest
from toys import ask_all, make_search

from pipeline.algorithms.ask_tell import ArchitectureSearch
from pipeline.algorithms.remaining import RemainingIndices
from snn.fitness import Evaluation
from snn.search_space import Architecture, SearchSpace

BLOCKS = ("skip_connect", "SCB_k3", "SRB_k3", "SRB_k5")


class CountedFloat(float):
    """A float whose arithmetic and comparisons are calls of Python functions, so that they are counted."""

    def __mul__(self, other: float) -> CountedFloat:
        return CountedFloat(float(self) * other)

    def __neg__(self) -> CountedFloat:
        return CountedFloat(-float(self))

    def __lt__(self, other: float) -> bool:
        return float(self) < float(other)

    def __gt__(self, other: float) -> bool:
        return float(self) > float(other)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and float(self) == float(other)

    def __hash__(self) -> int:
        return hash(float(self))


def evaluate(architecture: Architecture) -> Evaluation:
    accuracy = 0.2 + 0.05 * sum("SRB" in block for block in architecture.blocks)
    spikes = 50.0 + 7 * architecture.blocks.count("SRB_k5") + architecture.blocks.count("SCB_k3")
    return Evaluation(CountedFloat(accuracy), CountedFloat(spikes), 0.1, 100)


def answer_all(search: ArchitectureSearch) -> None:
    """Runs a search and reads after each result whatever the search stage reads."""
    while asked := ask_all(search):
        for candidate in asked:
            search.tell(candidate.id, evaluate(candidate.architecture))
            search.best()
            search.parent_threshold()
            next(search.likely_next(), None)


def calls_per_candidate(search: ArchitectureSearch) -> float:
    """Calls of Python and C functions while a search runs: fitness, comparisons, hashes, `at` and so on."""
    number = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        answer_all(search)
    finally:
        sys.setprofile(before)
    assert search.finished
    return number / len(search.candidates)


@pytest.mark.parametrize("algorithm", ["exhaustive", "random", "evolution", "aging", "nsga2"])
def test_work_per_candidate_does_not_grow_with_the_space(algorithm: str) -> None:
    small, large = (
        calls_per_candidate(make_search(space, algorithm, max_evaluations=len(space)))
        for space in (SearchSpace(4, BLOCKS), SearchSpace(5, BLOCKS))
    )
    assert large < 1.6 * small, (
        "the space has 4 times the architectures, an architecture 1.25 times the layers"
    )


def test_a_space_of_390_625_architectures_is_handed_out_and_answered() -> None:
    space = SearchSpace(8)
    search = make_search(space, "exhaustive", num_parents=3)
    for number, candidate in enumerate(iter(search.ask, None)):
        spikes = 100.0 + number % 1009
        search.tell(candidate.id, Evaluation(number % 997 / 1000, spikes, 0.1, 100))
        if number % 1000 == 0:
            assert search.best() is not None
    assert search.finished and len(search.results) == len(space) == 390_625
    assert search.best() == search.ranking()[0]


def test_remaining_indices_are_those_not_removed_in_order() -> None:
    for size in (1, 2, 7, 8, 100):
        indices, left = RemainingIndices(size), list(range(size))
        while left:
            assert [indices[k] for k in range(len(left))] == left
            indices.remove(left.pop(len(left) * 2 // 3))
