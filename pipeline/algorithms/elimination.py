"""Sequential elimination: which candidates are out after some of the samples."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator
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
        self._correct: dict[int, list[NDArray[np.bool_]]] = defaultdict(list)
        self._cost: dict[int, list[NDArray[np.int64]]] = defaultdict(list)
        self._sums: dict[int, list[tuple[int, int]]] = defaultdict(list)

    def add(self, candidate_id: int, correct: NDArray[np.bool_], cost: NDArray[np.int64]) -> None:
        """Adds a candidate's results on the next part: whether each sample is correct, and its cost."""
        sums = self._sums[candidate_id]
        right, total = sums[-1] if sums else (0, 0)
        sums.append((right + int(correct.sum()), total + int(cost.sum())))
        self._correct[candidate_id].append(correct)
        self._cost[candidate_id].append(cost)

    def dropped(self, look: int, candidates: Collection[int]) -> set[int]:
        """Which of the candidates are out after a look (its index), and forgets them.

        All candidates have results up to there.
        """
        size = self.looks[look]
        if size == self.num_samples:
            return set()
        measured = [number for number, sums in self._sums.items() if len(sums) > look]
        sums = [self._sums[number][look] for number in measured]
        front = [measured[i] for i in pareto_front([(right / size, cost / size) for right, cost in sums])]
        critical = NormalDist().inv_cdf(1 - self.risk / ((len(self.looks) - 1) * len(front)))
        front_correct, front_cost = self._up_to(look, front)
        out: set[int] = set()
        for part in _parts(sorted(candidates)):
            correct, cost = self._up_to(look, part)
            evidence = np.minimum(
                _accuracy_evidence(correct, front_correct), _cost_evidence(cost, front_cost)
            ) / math.sqrt(1 - size / self.num_samples)
            out |= {part[i] for i in np.flatnonzero((evidence > critical).any(1))}
        for number in out:
            self.forget(number)
        return out

    def forget(self, candidate_id: int) -> None:
        """Lets go of what is known of a candidate; it is no longer compared with."""
        for known in (self._correct, self._cost, self._sums):
            known.pop(candidate_id, None)

    def _up_to(self, look: int, candidates: list[int]) -> tuple[NDArray[np.float32], Values]:
        """Results of candidates up to a look: correct and cost, [candidates, samples]."""
        end = look + 1
        correct = np.stack([np.concatenate(self._correct[number][:end]) for number in candidates])
        cost = np.stack([np.concatenate(self._cost[number][:end]) for number in candidates])
        return correct.astype(np.float32), cost.astype(np.float64)


def _looks(num_samples: int) -> Iterator[int]:
    """Samples after each part: first a twentieth and at least 50, then half as many again."""
    size = max(_FEWEST, num_samples * _FIRST_SHARE)
    while size < num_samples / math.sqrt(_GROWTH):  # the last part is not a small one
        yield math.ceil(size)
        size *= _GROWTH
    yield num_samples


def _parts(candidates: list[int]) -> Iterator[list[int]]:
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
