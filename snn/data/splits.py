"""Splits and subsets of samples, determined by labels, groups and seed alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

_OPEN, _FIRST, _SECOND = -1, 0, 1


class UnsplittableClass(ValueError):
    """A class that cannot have samples on both sides of a split, as whole groups stay on one.

    Attributes:
        label: The class.
        num_groups: Groups that hold samples of it.
    """

    def __init__(self, label: int, num_groups: int, num_free: int) -> None:
        self.label = label
        self.num_groups = num_groups
        super().__init__(
            f"Class {label} cannot be on both sides of a split: it takes two groups of samples, and of its "
            f"{num_groups} only {num_free} can still be assigned. Use more samples, or another seed."
        )


def stratified_split(
    labels: IntArray, *, fraction: float, seed: int, groups: IntArray | None = None
) -> tuple[IntArray, IntArray]:
    """Splits samples into two sides; each class, and therefore the whole, is split by `fraction`.

    Classes are split in turn, those with the fewest groups first. The unassigned groups of a class are
    shuffled and assigned to the first side until its share of the class is nearest to `fraction`. The first
    class of a group with several classes determines the side of the group.

    Args:
        labels: [n] classes.
        fraction: Share of the first side, in (0, 1).
        seed: Seed of this split's own generator, at least 0.
        groups: [n] ids; samples that share an id stay on the same side. None: each sample is its own group.

    Returns:
        Sorted indices of the first and of the second side; disjoint, and together all of [0, n). Each class
        has samples on both sides.

    Raises:
        ValueError: A fraction outside (0, 1).
        UnsplittableClass: A class that cannot have groups on both sides.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1 (both excluded), got {fraction}.")
    rng = np.random.Generator(np.random.PCG64(seed))
    group_of, num_groups = _dense_groups(labels, groups)
    side = np.full(num_groups, _OPEN)
    for label, class_groups, sizes in _classes_by_num_groups(labels, group_of):
        order = rng.permutation(len(class_groups))
        _deal(label, class_groups[order], sizes[order], fraction, side)
    return np.flatnonzero(side[group_of] == _FIRST), np.flatnonzero(side[group_of] == _SECOND)


def split_in_time(labels: IntArray, groups: IntArray, *, fraction: float) -> tuple[IntArray, IntArray]:
    """Splits the samples of each class within each group: the earlier ones first, the later ones second.

    The sample between the two sides is on neither, so that neighbours in time are not on both. A group with
    fewer than three samples of a class has no such gap, and a single one is on the first side.

    Args:
        labels: [n] classes.
        groups: [n] ids; samples that share an id are in the order of time.
        fraction: Share of the first side, in (0, 1).

    Returns:
        Sorted indices of the first and of the second side, disjoint. Each class has samples on both.

    Raises:
        UnsplittableClass: No group has two samples of a class.
    """
    first, second = [], []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        runs = [members[groups[members] == group] for group in np.unique(groups[members])]
        for run in runs:
            gap = int(len(run) >= 3)
            number = min(max(1, round(fraction * len(run))), max(1, len(run) - gap - 1))
            first.append(run[:number])
            second.append(run[number + gap :])
        if all(len(run) == 1 for run in runs):
            raise UnsplittableClass(int(label), len(runs), 0)
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))


def balanced_subset(
    labels: IntArray, *, size: int | None, seed: int, groups: IntArray | None = None
) -> IntArray:
    """Draws `size` samples, with equal numbers of each class as far as possible.

    A class with fewer samples than its share contributes all of them, and the other classes make up the
    difference. Within a class the samples are spread evenly over its groups, as samples of one group are
    similar.

    Args:
        labels: [n] classes.
        size: Number of samples, at least 1; None, or n and more, selects all.
        seed: Seed of this draw's own generator, at least 0.
        groups: [n] ids; samples of one recording share an id. None: each sample is its own group.

    Returns:
        Sorted indices, min(size, n) of them.

    Raises:
        ValueError: A size below 1.
    """
    if size is not None and size < 1:
        raise ValueError(f"size must be at least 1, or None for all samples, got {size}.")
    if size is None or size >= len(labels):
        return np.arange(len(labels))
    rng = np.random.Generator(np.random.PCG64(seed))
    group_of, _ = _dense_groups(labels, groups)
    classes, counts = np.unique(labels, return_counts=True)
    chosen = []
    for label, quota in zip(classes, _quotas(counts, size), strict=True):
        members = rng.permutation(np.flatnonzero(labels == label))
        spread = np.argsort(_rank_in_group(group_of[members]), kind="stable")
        chosen.append(members[spread[:quota]])
    return np.sort(np.concatenate(chosen))


def _dense_groups(labels: IntArray, groups: IntArray | None) -> tuple[IntArray, int]:
    """Renumbered groups, [n] ids in [0, number of groups), and the number of groups."""
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"labels must be one-dimensional and not empty, got shape {labels.shape}.")
    if groups is None:
        return np.arange(len(labels)), len(labels)
    if groups.shape != labels.shape:
        raise ValueError(f"groups must have the shape of the labels, {labels.shape}, got {groups.shape}.")
    ids, group_of = np.unique(groups, return_inverse=True)
    return group_of, len(ids)


def _classes_by_num_groups(labels: IntArray, group_of: IntArray) -> list[tuple[int, IntArray, IntArray]]:
    """(class, its groups, samples of the class in each group), classes with the fewest groups first."""
    classes = [
        (int(label), *np.unique(group_of[labels == label], return_counts=True)) for label in np.unique(labels)
    ]
    return sorted(classes, key=lambda entry: len(entry[1]))


def _deal(label: int, groups: IntArray, sizes: IntArray, fraction: float, side: NDArray[np.int_]) -> None:
    """Assigns each unassigned group of one class to a side, in order; writes into `side`."""
    assigned = side[groups]
    unassigned = assigned == _OPEN
    in_first = sizes[assigned == _FIRST].sum() + np.concatenate([[0], np.cumsum(sizes[unassigned])])
    fewest = 0 if _FIRST in assigned else 1
    most = int(unassigned.sum()) - (0 if _SECOND in assigned else 1)
    if fewest > most:
        raise UnsplittableClass(label, len(groups), int(unassigned.sum()))
    distance = np.abs(in_first[fewest : most + 1] - fraction * sizes.sum())
    num_first = fewest + int(np.argmin(distance))
    side[groups[unassigned][:num_first]] = _FIRST
    side[groups[unassigned][num_first:]] = _SECOND


def _quotas(counts: IntArray, size: int) -> IntArray:
    """Divides `size` among classes of `counts` samples, as equally as the small classes allow."""
    quotas = np.zeros_like(counts)
    remaining = size
    for num_done, index in enumerate(np.argsort(counts, kind="stable")):
        quotas[index] = min(counts[index], remaining // (len(counts) - num_done))
        remaining -= int(quotas[index])
    return quotas


def _rank_in_group(group_of: IntArray) -> IntArray:
    """Number of earlier samples of the same group, for each sample."""
    order = np.argsort(group_of, kind="stable")
    _, starts, sizes = np.unique(group_of[order], return_index=True, return_counts=True)
    ranks = np.empty_like(group_of)
    ranks[order] = np.arange(len(group_of)) - np.repeat(starts, sizes)
    return ranks
