"""Which samples train, validate and test: the same on every node, for the same labels and seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

_OPEN, _FIRST, _SECOND = -1, 0, 1


def stratified_split(
    labels: IntArray, *, fraction: float, seed: int, groups: IntArray | None = None
) -> tuple[IntArray, IntArray]:
    """Splits samples in two; every class, and with it the whole, is split by `fraction`.

    The classes are split one after another, those of the fewest groups first. In each the undecided groups
    are shuffled and dealt to the first side until its count of that class is nearest to `fraction`. A group
    that holds several classes is decided by the first of them.

    Args:
        labels: [n] classes.
        fraction: Share of the first side, in (0, 1).
        seed: Seed of this split's own generator, at least 0.
        groups: [n] ids; samples of one id stay on one side. None: each sample is its own group.

    Returns:
        Indices of the first and of the second side, each sorted; disjoint, and together all of [0, n).
        Each class has samples on both sides.

    Raises:
        ValueError: A fraction outside (0, 1), or a class whose groups cannot be on both sides.
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


def balanced_subset(
    labels: IntArray, *, size: int | None, seed: int, groups: IntArray | None = None
) -> IntArray:
    """Draws `size` samples with the same number of each class, as far as the classes go.

    A class that has fewer than its share gives all it has, and the others fill up. Inside a class the
    samples are spread evenly over its groups, since samples of one group say much the same.

    Args:
        labels: [n] classes.
        size: Number of samples, at least 1; None, or n and more, gives all.
        seed: Seed of this draw's own generator, at least 0.
        groups: [n] ids of samples that belong together. None: each sample is its own group.

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
    """Renumbers the groups: [n] ids in [0, number of groups), and that number."""
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"labels must be one row of at least one class, got shape {labels.shape}.")
    if groups is None:
        return np.arange(len(labels)), len(labels)
    if groups.shape != labels.shape:
        raise ValueError(f"groups must be one id for each of the {len(labels)} labels, got {groups.shape}.")
    ids, group_of = np.unique(groups, return_inverse=True)
    return group_of, len(ids)


def _classes_by_num_groups(labels: IntArray, group_of: IntArray) -> list[tuple[int, IntArray, IntArray]]:
    """(class, its groups, samples of the class in each), those of the fewest groups first."""
    classes = [
        (int(label), *np.unique(group_of[labels == label], return_counts=True)) for label in np.unique(labels)
    ]
    return sorted(classes, key=lambda entry: len(entry[1]))


def _deal(label: int, groups: IntArray, sizes: IntArray, fraction: float, side: NDArray[np.int_]) -> None:
    """Gives each undecided group of one class a side, in their order; writes into `side`."""
    decided = side[groups]
    undecided = decided == _OPEN
    in_first = sizes[decided == _FIRST].sum() + np.concatenate([[0], np.cumsum(sizes[undecided])])
    fewest = 0 if _FIRST in decided else 1
    most = int(undecided.sum()) - (0 if _SECOND in decided else 1)
    if fewest > most:
        raise ValueError(
            f"Class {label} cannot be on both sides of a split: of its {len(groups)} group(s) of samples "
            f"that stay together {int(undecided.sum())} are free to move. Use more samples, or another seed."
        )
    distance = np.abs(in_first[fewest : most + 1] - fraction * sizes.sum())
    num_first = fewest + int(np.argmin(distance))
    side[groups[undecided][:num_first]] = _FIRST
    side[groups[undecided][num_first:]] = _SECOND


def _quotas(counts: IntArray, size: int) -> IntArray:
    """Shares `size` among classes of `counts` samples, as equally as the small ones allow."""
    quotas = np.zeros_like(counts)
    left = size
    for place, index in enumerate(np.argsort(counts, kind="stable")):
        quotas[index] = min(counts[index], left // (len(counts) - place))
        left -= int(quotas[index])
    return quotas


def _rank_in_group(group_of: IntArray) -> IntArray:
    """How many samples of its own group stand before each sample."""
    order = np.argsort(group_of, kind="stable")
    _, starts, sizes = np.unique(group_of[order], return_index=True, return_counts=True)
    ranks = np.empty_like(group_of)
    ranks[order] = np.arange(len(group_of)) - np.repeat(starts, sizes)
    return ranks
