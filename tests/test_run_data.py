"""Splits of a run: disjoint, complete, reproducible, never inside a recording; only training is augmented."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_files import write_recordings

from pipeline.config.search import SearchConfig
from pipeline.config.training import RetrainConfig
from pipeline.config.tree import Config, DataConfig, NetworkConfig
from pipeline.data import RunData, load_data
from snn.data.camera.frames import to_network_input
from snn.data.images import normalise_images
from snn.data.sample_set import SampleSet
from snn.data.samples import LabelledSamples
from snn.datasets import ImageDataset, look_up_dataset

CPU = torch.device("cpu")
SPLITS: dict[str, Callable[[RunData], SampleSet]] = {
    "D_train": RunData.supernet_train,
    "D_val": RunData.val,
    "scored on in the search": RunData.search_val,
    "retraining": RunData.retrain_train,
    "held out of retraining": RunData.retrain_val,
    "test": RunData.test_set,
}


def config_for(dataset: str, *, seed: int = 0, max_val_samples: int | None = None, **data: Any) -> Config:
    return Config(
        seed=seed,
        data=DataConfig(dataset=dataset, **data),
        network=NetworkConfig(time_steps=2),
        search=SearchConfig(max_val_samples=max_val_samples),
        retrain=RetrainConfig(val_fraction=0.2),
    )


def recordings(seed: int, num_recordings: int) -> LabelledSamples:
    """Windows of recordings of three classes, 2 to 9 of each recording, [n, 2, 2, 6, 6] counts."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(num_recordings), rng.integers(2, 10, num_recordings))
    samples = rng.poisson(0.5, (len(groups), 2, 2, 6, 6)).astype(np.uint8)
    return LabelledSamples.from_arrays(samples, groups % 3, ("a", "b", "c"), groups=groups)


def windows_of(config: Config) -> RunData:
    return RunData(config, train=recordings(1, 30), test=recordings(2, 9))


def pictures_of(config: Config) -> RunData:
    """Random images [n, 3, 8, 8] of four classes of unequal size."""
    rng = np.random.default_rng(0)
    train, test = (
        LabelledSamples.from_arrays(
            rng.integers(0, 256, (n, 3, 8, 8), dtype=np.uint8),
            rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1]),
            ("a", "b", "c", "d"),
        )
        for n in (203, 80)
    )
    return RunData(config, train, test)


@pytest.fixture(scope="module")
def events_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the simulated events are stored once for all tests of this file."""
    return tmp_path_factory.mktemp("events")


@pytest.fixture(params=["digits", "digits_events", "pictures", "windows"])
def make_data(request: pytest.FixtureRequest, events_folder: Path) -> Callable[..., RunData]:
    """Makes the data of a run from keyword settings of `config_for`."""
    if request.param == "pictures":
        return lambda **settings: pictures_of(config_for("cifar10", **settings))
    if request.param == "windows":
        return lambda **settings: windows_of(config_for("cifar10_dvs", **settings))
    return lambda **settings: load_data(config_for(request.param, root=events_folder, **settings))


def used_samples(data: RunData) -> list[int]:
    """What the run may train on: the whole training set, or a subset of the requested size."""
    return sorted([*data.supernet_train().indices, *data.val().indices])


@pytest.mark.parametrize("size", [None, 60])
def test_d_train_and_d_val_are_disjoint_and_together_the_used_samples(make_data, size) -> None:
    data = make_data(max_train_samples=size)
    used = used_samples(data)
    assert len(used) == len(set(used)) == (size or len(data.train))
    assert set(used) <= set(range(len(data.train)))


@pytest.mark.parametrize("size", [None, 60])
def test_retraining_and_its_held_out_samples_are_disjoint_and_the_same_used_samples(make_data, size) -> None:
    data = make_data(max_train_samples=size)
    retraining = [*data.retrain_train().indices, *data.retrain_val().indices]
    assert sorted(retraining) == used_samples(data)


def test_every_class_is_in_every_split_in_its_share(make_data) -> None:
    data = make_data()
    total = np.bincount(data.train.labels)
    for split, share in ((data.supernet_train(), 0.8), (data.retrain_train(), 0.8)):
        counts = np.bincount(data.train.labels[split.indices], minlength=data.num_classes)
        tolerance = np.bincount(data.train.groups).max() / 2 + 1  # a recording moves as a whole
        assert np.all(np.abs(counts - share * total) <= tolerance)
        assert np.all((counts > 0) & (counts < total))


@pytest.mark.parametrize("size", [10, 10_000])
def test_search_scores_on_a_balanced_part_of_d_val(make_data, size) -> None:
    data = make_data(max_val_samples=size)
    scored, val = data.search_val(), data.val()
    assert set(scored.indices) <= set(val.indices)
    assert len(scored) == len(set(scored.indices)) == min(size, len(val))
    if size < len(val):
        counts = np.bincount(data.train.labels[scored.indices], minlength=data.num_classes)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("size", [None, 60])
@pytest.mark.parametrize("seed", range(3))
def test_windows_of_one_recording_are_on_one_side_of_every_split(seed, size) -> None:
    data = windows_of(config_for("cifar10_dvs", seed=seed, max_train_samples=size, max_val_samples=15))
    groups = {name: set(data.train.groups[split(data).indices]) for name, split in SPLITS.items()}
    assert groups["D_train"].isdisjoint(groups["D_val"])
    assert groups["D_train"].isdisjoint(groups["scored on in the search"])
    assert groups["retraining"].isdisjoint(groups["held out of retraining"])


def test_test_samples_come_from_the_test_set_and_all_others_from_the_training_set(make_data) -> None:
    data = make_data()
    for name, split in SPLITS.items():
        source = data.test if name == "test" else data.train
        assert split(data).samples is source.samples
        assert split(data).labels is source.labels
    assert len(data.test_set()) == len(data.test)
    content = [{sample.tobytes() for sample in source.samples} for source in (data.train, data.test)]
    assert content[0].isdisjoint(content[1])


def test_limited_test_set_is_balanced(make_data) -> None:
    data = make_data(max_test_samples=21)
    chosen = data.test_set().indices
    assert len(set(chosen)) == 21
    counts, available = (
        np.bincount(labels, minlength=data.num_classes)
        for labels in (data.test.labels[chosen], data.test.labels)
    )
    unlimited = counts[counts < available]
    assert counts.max() - unlimited.min() <= 1


def indices_of(data: RunData) -> dict[str, list[int]]:
    return {name: split(data).indices.tolist() for name, split in SPLITS.items()}


def test_splits_depend_on_the_seed_and_nothing_else(make_data) -> None:
    limits = {"max_train_samples": 60, "max_test_samples": 20, "max_val_samples": 6}
    one, again, other = (indices_of(make_data(seed=seed, **limits)) for seed in (0, 0, 1))
    assert one == again
    assert all(one[name] != other[name] for name in SPLITS)
    used, others_used = (sorted(splits["D_train"] + splits["D_val"]) for splits in (one, other))
    assert used != others_used


def digest_of_digits() -> str:
    limits = {"max_train_samples": 300, "max_test_samples": 50, "max_val_samples": 20}
    splits = indices_of(load_data(config_for("digits", seed=3, **limits)))
    return hashlib.sha256(repr(splits).encode()).hexdigest()


def test_splits_are_the_same_in_another_process() -> None:
    code = "from test_run_data import digest_of_digits; print(digest_of_digits())"
    path = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {path}; {code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest_of_digits()


def plainly_prepared(data: RunData, split: SampleSet) -> torch.Tensor:
    """The network's input without any augmentation."""
    samples = torch.from_numpy(split.samples[split.indices])
    if data.config.data.is_events:
        return to_network_input(samples, data.config.data.event_values)
    entry = look_up_dataset(data.config.data.dataset, ImageDataset)
    return normalise_images(samples, entry.mean, entry.std)


@pytest.mark.parametrize("name", SPLITS)
def test_only_a_generator_augments(make_data, name) -> None:
    data = make_data(max_train_samples=60, max_test_samples=20, cutout=3, event_drop=0.5)
    split = SPLITS[name](data)
    plain = plainly_prepared(data, split)
    sample_axis = 1 if data.config.data.is_events else 0
    batched = list(split.batches(7, CPU))
    assert torch.equal(torch.cat([inputs for inputs, _ in batched], sample_axis), plain)
    assert torch.cat([labels for _, labels in batched]).tolist() == split.labels[split.indices].tolist()
    one, again, other = (
        split.batch(split.indices, CPU, torch.Generator().manual_seed(seed))[0] for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, plain)
    assert one.shape == plain.shape


@pytest.mark.parametrize(("dataset", "mirrored"), [("cifar10_dvs", True), ("nmnist", False)])
def test_events_are_mirrored_only_if_their_data_set_allows_it(dataset: str, mirrored: bool) -> None:
    data = windows_of(config_for(dataset, flip=True, crop_padding=0))
    split = data.supernet_train()
    augmented, _ = split.batch(split.indices, CPU, torch.Generator().manual_seed(0))
    plain = plainly_prepared(data, split)
    assert torch.equal(augmented, plain) is not mirrored
    same, turned = ((augmented == other).flatten(2).all(2).all(0) for other in (plain, plain.flip(4)))
    assert bool((same | turned).all())


def test_facts_add_up(make_data) -> None:
    data = make_data(max_train_samples=61, max_test_samples=20, max_val_samples=6)
    facts = data.facts()
    assert facts.keys() == SPLITS.keys()
    sizes = {name: entry["num_samples"] for name, entry in facts.items()}
    assert sizes["D_train"] + sizes["D_val"] == sizes["retraining"] + sizes["held out of retraining"] == 61
    assert (sizes["scored on in the search"], sizes["test"]) == (6, 20)
    for name, entry in facts.items():
        source, split = data.test if name == "test" else data.train, SPLITS[name](data)
        assert entry["fingerprint"] == source.fingerprint
        assert tuple(entry["samples_per_class"]) == source.class_names
        assert sum(entry["samples_per_class"].values()) == entry["num_samples"] == len(split)
        counts = split.samples[split.indices].reshape(len(split), -1).sum(1, dtype=np.int64)
        assert ("events_per_sample" in entry) is data.config.data.is_events
        if data.config.data.is_events:
            expected = {"min": counts.min(), "max": counts.max(), "mean": counts.mean()}
            assert {key: entry["events_per_sample"][key] for key in expected} == pytest.approx(expected)


def test_class_that_cannot_be_split_is_named_with_its_number_of_recordings(tmp_path: Path) -> None:
    write_recordings(tmp_path, train=3, test=1, duration=50_000, n=400)
    for i in (0, 1):
        (tmp_path / f"train/right/{i}.npy").unlink()
    data = load_data(config_for("recordings", root=tmp_path, window_ms=10))
    with pytest.raises(ValueError) as caught:
        data.facts()
    assert str(caught.value) == (
        "Class 'right' of recordings has 1 recording to train on (samples: 4), but a split into D_train and "
        "D_val takes 2, as samples of one recording stay together. Add recordings of this class, or remove "
        "the class. Or split each recording in time (--data.split-windows)."
    )
    few = load_data(config_for("recordings", root=tmp_path, window_ms=10, max_train_samples=5))
    with pytest.raises(ValueError, match=r"or raise data\.max_train_samples above 5, or remove the class\."):
        few.retrain_val()


def test_recordings_split_in_time_take_one_a_class(tmp_path: Path) -> None:
    write_recordings(tmp_path, train=1, test=1, duration=50_000, n=400)
    data = load_data(config_for("recordings", root=tmp_path, window_ms=10, split_windows=True))
    for first, second in ((data.supernet_train(), data.val()), (data.retrain_train(), data.retrain_val())):
        assert set(data.train.labels[first.indices]) == set(data.train.labels[second.indices])
        for group in np.unique(data.train.groups):
            early, late = (s.indices[data.train.groups[s.indices] == group] for s in (first, second))
            assert late.min() - early.max() == 2, "one window lies between the sides"
    one = load_data(config_for("recordings", root=tmp_path, window_ms=30, split_windows=True))
    with pytest.raises(ValueError, match=r"no recording of class .* has two windows.*--data\.window-ms"):
        one.facts()
    with pytest.raises(ValueError, match=r"data\.split_windows splits event recordings"):
        config_for("digits", split_windows=True)


def test_image_class_that_cannot_be_split_is_named() -> None:
    data = pictures_of(config_for("cifar10", max_train_samples=4))
    with pytest.raises(ValueError, match=r"Class 'a' of cifar10 has 1 image to train on .*raise data\.max_"):
        data.retrain_train()


def test_examples_are_one_used_training_sample_of_each_class(make_data) -> None:
    data = make_data(max_train_samples=60)
    examples = data.examples()
    assert examples.class_names == data.train.class_names
    used = np.array(used_samples(data))
    for sample, label in zip(examples.samples, range(data.num_classes), strict=True):
        same_class = used[data.train.labels[used] == label]
        assert any(np.array_equal(sample, data.train.samples[i]) for i in same_class)


def test_input_shape_and_classes_are_those_of_the_samples(make_data) -> None:
    data = make_data()
    inputs, _ = data.val().batch(data.val().indices[:2], CPU)
    assert data.input_shape == tuple(inputs.shape[-3:])
    assert data.num_classes == len(set(data.train.labels)) == len(set(data.test.labels))


def test_settings_of_the_config_reach_the_samples_of_recordings(tmp_path: Path) -> None:
    write_recordings(tmp_path, train=4, test=1, duration=50_000, n=400)
    options = {"window_ms": 10, "downsample": 2, "max_count": 1, "sensor_size": (32, 30), "crop": 0}
    data = load_data(config_for("recordings", root=tmp_path, **options))
    assert data.input_shape == (2, 15, 16)
    assert data.train.samples.shape[1] == data.config.network.time_steps
    assert data.train.samples.max() == 1
    assert (len(data.train), len(set(data.train.groups))) == (8 * 4, 8)
    recordings_of = [set(data.train.groups[split.indices]) for split in (data.supernet_train(), data.val())]
    assert recordings_of[0].isdisjoint(recordings_of[1])
