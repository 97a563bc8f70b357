"""Sequential elimination: which candidates are out after some of the samples."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from snn.fitness import pareto_front

_FIRST_SHARE, _FEWEST, _GROWTH = 1 / 20, 50, 1.5
_AT_ONCE = 4096  # candidates that are compared with the front at once

Values = NDArray[np.float64]


class SequentialElimination:
    """Drops candidates that the evidence puts below the Pareto front of accuracy and cost.

    All candidates are measured on the same samples, on growing parts of a random order of them. After each
    part (a look) those still in are compared with the empirical front of all that were measured so far. One
    is dropped if a member of the front is better in accuracy and in cost, both significantly: in accuracy by
    McNemar's test of the samples that only one of the two classifies correctly, with continuity correction;
    in cost by the paired z-test. Both variances are those of samples drawn without replacement, as after the
    last part nothing is uncertain.

    For a candidate that is on the front of all samples, no other is better in both. So a comparison drops it
    only if a test of a true null hypothesis rejects it. The risk of a candidate is divided over the looks
    evenly and over the comparisons of each look (Bonferroni), so that it is at most `risk` in all, as far as
    the normal approximation holds and the front's members, chosen by the same samples, are not better
    there than elsewhere by luck.

    Args:
        num_samples: Samples of a complete evaluation.
        risk: Largest probability with which a candidate of the final front is dropped, in (0, 1).

    Attributes:
        looks: Samples after each part; the last is `num_samples`.
    """

    def __init__(self, num_samples: int, risk: float) -> None:
        self.num_samples = num_samples
        self.risk = risk
        self.looks = tuple(_looks(num_samples))
        ends = (0, *self.looks)
        self._parts = [_Part(end - start) for start, end in pairwise(ends)]

    def add(self, look: int, candidate_id: int, correct: NDArray[np.bool_], cost: NDArray[np.int64]) -> None:
        """Adds a candidate's results on the part before a look: whether each sample is correct, its cost."""
        before = self._parts[look - 1].sums_of([candidate_id])[0] if look else np.zeros(2, np.int64)
        self._parts[look].add(candidate_id, correct, cost, before)

    def dropped(self, look: int, candidates: Collection[int]) -> set[int]:
        """Which of the candidates are out after a look (its index), and forgets them.

        All candidates have results up to there.
        """
        size = self.looks[look]
        if size == self.num_samples:
            return set()
        measured = list(self._parts[look].rows)
        sums = self._parts[look].sums_of(measured) / size
        front = [measured[i] for i in pareto_front([(right, cost) for right, cost in sums.tolist()])]
        critical = NormalDist().inv_cdf(1 - self.risk / ((len(self.looks) - 1) * len(front)))
        front_correct, front_cost = self._up_to(look, front)
        out: set[int] = set()
        for some in _some(sorted(candidates)):
            correct, cost = self._up_to(look, some)
            evidence = np.minimum(
                _accuracy_evidence(correct, front_correct), _cost_evidence(cost, front_cost)
            ) / math.sqrt(1 - size / self.num_samples)
            out |= {some[i] for i in np.flatnonzero((evidence > critical).any(1))}
        for number in out:
            self.forget(number)
        return out

    def forget(self, candidate_id: int) -> None:
        """A candidate is no longer compared with."""
        for part in self._parts:
            part.rows.pop(candidate_id, None)

    def _up_to(self, look: int, candidates: list[int]) -> tuple[NDArray[np.float32], Values]:
        """Results of candidates up to a look: correct and cost, [candidates, samples]."""
        parts = [part.of(candidates) for part in self._parts[: look + 1]]
        correct = np.concatenate([correct for correct, _ in parts], axis=1)
        return correct.astype(np.float32), np.concatenate(
            [cost for _, cost in parts], axis=1, dtype=np.float64
        )


class _Part:
    """The results on one part of the samples, in arrays that grow: there may be hundreds of thousands.

    Args:
        num_samples: Samples of the part.

    Attributes:
        rows: The row of each candidate.
    """

    def __init__(self, num_samples: int) -> None:
        self.rows: dict[int, int] = {}
        self._correct = np.empty((1, num_samples), np.bool_)
        self._cost = np.empty((1, num_samples), np.int64)
        self._sums = np.empty((1, 2), np.int64)  # correct ones and cost, of all parts up to this one
        self._number = 0

    def add(
        self,
        candidate_id: int,
        correct: NDArray[np.bool_],
        cost: NDArray[np.int64],
        before: NDArray[np.int64],
    ) -> None:
        """Adds a candidate whose sums up to this part are `before`."""
        row = self._number
        if row == len(self._sums):
            self._correct, self._cost, self._sums = (
                np.concatenate([array, np.empty_like(array)])
                for array in (self._correct, self._cost, self._sums)
            )
        self._correct[row], self._cost[row] = correct, cost
        self._sums[row] = np.add(before, (correct.sum(), cost.sum()))
        self.rows[candidate_id] = row
        self._number += 1

    def of(self, candidates: list[int]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Correct and cost of candidates, [candidates, samples]."""
        rows = [self.rows[number] for number in candidates]
        return self._correct[rows], self._cost[rows]

    def sums_of(self, candidates: list[int]) -> NDArray[np.int64]:
        """Correct ones and cost of candidates over all parts up to this one, [candidates, 2]."""
        return self._sums[[self.rows[number] for number in candidates]]


def sample_order(num_samples: int, seed: int) -> NDArray[np.int64]:
    """The random order in which a search takes the samples: a permutation of range(num_samples)."""
    return np.random.default_rng(seed).permutation(num_samples)


def _looks(num_samples: int) -> Iterator[int]:
    """Samples after each part: first a twentieth and at least 50, then half as many again."""
    size = max(_FEWEST, num_samples * _FIRST_SHARE)
    while size < num_samples / math.sqrt(_GROWTH):  # the last part is not a small one
        yield math.ceil(size)
        size *= _GROWTH
    yield num_samples


def _some(candidates: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(candidates), _AT_ONCE):
        yield candidates[start : start + _AT_ONCE]


def _accuracy_evidence(correct: NDArray[np.float32], front_correct: NDArray[np.float32]) -> Values:
    """z that a member of the front is more accurate, [candidates, front]."""
    lost = (1 - correct) @ front_correct.T  # samples that only the member classifies correctly; exact
    won = correct @ (1 - front_correct).T
    differing = (lost + won).astype(np.float64)
    return np.where(differing > 0, (lost - won - 1) / np.sqrt(np.maximum(differing, 1)), -np.inf)


def _cost_evidence(cost: Values, front_cost: Values) -> Values:
    """z that a member of the front costs less, [candidates, front]."""
    size = cost.shape[1]
    means, front_means = cost.mean(1), front_cost.mean(1)
    cost, front_cost = cost - means[:, None], front_cost - front_means[:, None]
    squares = (cost**2).sum(1)[:, None] + (front_cost**2).sum(1) - 2 * cost @ front_cost.T
    errors = np.sqrt(np.maximum(squares, 0) / (size - 1) / size)
    saved = means[:, None] - front_means
    return np.divide(saved, errors, out=np.where(saved > 0, np.inf, -np.inf), where=errors > 0)
