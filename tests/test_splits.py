"""Splits and subsets: disjoint, exhaustive, stratified, reproducible, and never inside a group."""

from __future__ import annotations

import numpy as np
import pytest

from snn.data.splits import UnsplittableClass, balanced_subset, split_in_time, stratified_split

RNG = np.random.default_rng(0)
LABELS = RNG.choice(5, size=997, p=[0.4, 0.3, 0.2, 0.06, 0.04])
# 60 recordings of 3 to 30 windows, ten of each of six classes
SIZES = RNG.integers(3, 31, size=60)
GROUPS = np.repeat(np.arange(60) * 7 + 100, SIZES)
GROUP_LABELS = np.repeat(np.arange(60) % 6, SIZES)


@pytest.mark.parametrize("groups", [None, np.arange(997)[::-1]], ids=["no groups", "groups of one"])
def test_split_is_disjoint_exhaustive_and_sorted(groups: np.ndarray | None) -> None:
    first, second = stratified_split(LABELS, fraction=0.8, seed=3, groups=groups)
    assert np.array_equal(np.sort(np.concatenate([first, second])), np.arange(997))
    assert np.all(np.diff(first) > 0)
    assert np.all(np.diff(second) > 0)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.8, 0.99])
def test_each_class_is_split_by_the_fraction(fraction: float) -> None:
    first, second = stratified_split(LABELS, fraction=fraction, seed=0)
    totals, in_first, in_second = (
        np.bincount(x, minlength=5) for x in (LABELS, LABELS[first], LABELS[second])
    )
    assert np.all(np.abs(in_first - fraction * totals) <= 1)
    assert np.all(in_second >= 1)


def test_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    one, again, other = (stratified_split(LABELS, fraction=0.8, seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_split_neither_uses_nor_changes_numpys_global_generator() -> None:
    np.random.seed(0)
    before = stratified_split(LABELS, fraction=0.8, seed=1)[0]
    np.random.seed(5)
    expected = np.random.RandomState(5).random_sample()
    assert np.array_equal(before, stratified_split(LABELS, fraction=0.8, seed=1)[0])
    assert np.random.random_sample() == expected


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_on_one_side_and_classes_are_on_both(seed: int) -> None:
    first, second = stratified_split(GROUP_LABELS, fraction=0.75, seed=seed, groups=GROUPS)
    assert not set(GROUPS[first]) & set(GROUPS[second])
    assert len(first) + len(second) == len(GROUPS)
    assert set(GROUP_LABELS[first]) == set(GROUP_LABELS[second]) == set(range(6))
    assert abs(len(first) / len(GROUPS) - 0.75) < 0.06


def test_groups_that_hold_all_classes_stay_whole() -> None:
    groups = np.repeat(np.arange(20), 11)
    first, second = stratified_split(np.tile(np.arange(11), 20), fraction=0.7, seed=0, groups=groups)
    assert (len(set(groups[first])), len(set(groups[second]))) == (14, 6)
    assert not set(groups[first]) & set(groups[second])


def test_two_groups_of_a_class_go_to_different_sides() -> None:
    groups = np.array([1] * 90 + [2] * 10)
    first, second = stratified_split(np.zeros(100, np.int64), fraction=0.99, seed=0, groups=groups)
    assert {len(set(groups[first])), len(set(groups[second]))} == {1}


def test_class_of_one_group_cannot_be_split() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    with pytest.raises(UnsplittableClass, match="Class 1 cannot be on both sides") as caught:
        stratified_split(labels, fraction=0.5, seed=0, groups=np.array([1, 2, 3, 4, 4, 4]))
    assert (caught.value.label, caught.value.num_groups) == (1, 1)
    with pytest.raises(ValueError, match="Class 7 cannot be on both sides"):
        stratified_split(np.array([0, 0, 7]), fraction=0.5, seed=0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_fraction_outside_the_open_interval_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction must lie between 0 and 1"):
        stratified_split(LABELS, fraction=fraction, seed=0)


@pytest.mark.parametrize("size", [1, 5, 52, 300, 900])
def test_subset_has_the_requested_size_and_balanced_classes(size: int) -> None:
    chosen = balanced_subset(LABELS, size=size, seed=0)
    assert len(chosen) == len(set(chosen)) == size
    assert np.all(np.diff(chosen) > 0)
    counts, available = np.bincount(LABELS[chosen], minlength=5), np.bincount(LABELS)
    unlimited = counts[counts < available]
    assert len(unlimited) == 0 or counts.max() - unlimited.min() <= 1


@pytest.mark.parametrize("size", [None, 997, 5000])
def test_subset_as_large_as_the_whole_is_the_whole(size: int | None) -> None:
    assert np.array_equal(balanced_subset(LABELS, size=size, seed=0), np.arange(997))


def test_subset_depends_only_on_its_seed() -> None:
    one, again, other = (balanced_subset(LABELS, size=100, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_subset_takes_one_sample_of_every_group_before_a_second() -> None:
    chosen = balanced_subset(GROUP_LABELS, size=60, seed=0, groups=GROUPS)
    assert len(set(GROUPS[chosen])) == 60


def test_subset_of_no_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="size must be at least 1"):
        balanced_subset(LABELS, size=0, seed=0)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.8, 0.99])
def test_split_in_time_has_each_recording_on_both_sides_with_a_gap_between(fraction: float) -> None:
    order = np.random.default_rng(1).permutation(len(GROUPS))  # recordings may be stored in turns
    order = order[np.argsort(GROUPS[order] % 3, kind="stable")]
    groups, labels = GROUPS[order], GROUP_LABELS[order]
    first, second = split_in_time(labels, groups, fraction=fraction)
    assert np.all(np.diff(first) > 0) and np.all(np.diff(second) > 0)
    assert not np.intersect1d(first, second).size
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        early, late = (np.flatnonzero(np.isin(members, side)) for side in (first, second))
        assert len(early) and len(late) and late.min() - early.max() == 2
        assert len(early) + len(late) == len(members) - 1
        assert abs(len(early) - fraction * len(members)) <= max(1, (1 - fraction) * len(members), 2)


def test_split_in_time_takes_one_recording_a_class_and_names_a_class_it_cannot_split() -> None:
    first, second = split_in_time(np.array([0, 0, 1, 1, 1]), np.array([7, 7, 8, 8, 8]), fraction=0.8)
    assert first.tolist() == [0, 2] and second.tolist() == [1, 4]
    with pytest.raises(UnsplittableClass) as error:
        split_in_time(np.array([0, 0, 1, 1]), np.array([7, 7, 8, 9]), fraction=0.5)
    assert error.value.label == 1


def test_split_in_time_splits_each_class_of_a_recording_with_several() -> None:
    labels = np.repeat([0, 1], 10)
    first, second = split_in_time(labels, np.zeros(20, np.int64), fraction=0.5)
    assert [np.bincount(labels[side]).tolist() for side in (first, second)] == [[5, 5], [4, 4]]
