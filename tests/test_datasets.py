"""A data set is one entry: readers, checks and the command line take everything from it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from data_files import (
    BATCH,
    LABELS,
    load_recordings,
    make_recording,
    write_parquet,
    write_pickle,
    write_recording,
)

from pipeline.config.tree import DataConfig
from snn.data.images import load_images, normalise_images
from snn.datasets import DATASETS, Dataset, DatasetName, EventDataset, ImageDataset

IMAGES = ImageDataset(
    name="ten_images",
    class_names=tuple("abcdefghij"),
    num_train=10,
    licence="none",
    split="official",
    layout="parquet files; train.pkl",
    folders=("ten-images",),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    label_column="kind",
    official_files={"train": ("train.pkl",), "test": ("test.pkl",)},
)
EVENTS = EventDataset(
    name="two_hands",
    class_names=None,
    num_train=None,
    licence="none",
    split="official",
    layout="learn/<hand>/*.npy and exam/<hand>/*.npy",
    folders=("two-hands",),
    sensor_size=(40, 30),
    flips_allowed=False,
    suffixes=("npy",),
    split_folders={"train": ("learn",), "test": ("exam",)},
)


@pytest.fixture(autouse=True)
def two_more_entries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for entry in (IMAGES, EVENTS):
        monkeypatch.setitem(DATASETS, entry.name, entry)
    yield


def test_another_image_data_set_is_one_entry(tmp_path: Path) -> None:
    assert not DataConfig(dataset="ten_images").is_events
    with pytest.raises(FileNotFoundError, match=r"ten-images.*parquet files; train\.pkl"):
        load_images("ten_images", "train", root=tmp_path)
    write_parquet(tmp_path / "ten-images/data/train-00000-of-00001.parquet", range(10), label="kind")
    write_pickle(tmp_path / "ten-images/test.pkl", data=BATCH.numpy().reshape(10, -1), labels=LABELS)
    for split in ("train", "test"):
        samples = load_images("ten_images", split, root=tmp_path)
        assert np.array_equal(samples.samples, BATCH.numpy())
        assert (samples.labels.tolist(), samples.class_names) == (LABELS, IMAGES.class_names)
    white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    assert normalise_images(white, IMAGES.mean, IMAGES.std).flatten().tolist() == [1, 1, 1]


def test_another_event_data_set_is_one_entry(tmp_path: Path) -> None:
    assert DataConfig(dataset="two_hands").is_events
    for folder, number in (("learn", 3), ("exam", 1)):
        for hand in ("left", "right"):
            for i in range(number):
                write_recording(tmp_path / f"two-hands/{folder}/{hand}/{i}.npy", make_recording(i))
    train, test = (load_recordings(tmp_path, split, dataset="two_hands") for split in ("train", "test"))
    assert train.samples.shape == (6, 4, 2, 30, 40)
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 0, 0, 1, 1, 1], [0, 1])
    assert train.class_names == test.class_names == ("left", "right")


def test_command_line_offers_every_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert get_args(DatasetName) == tuple(DATASETS)


@pytest.mark.parametrize("entry", DATASETS.values(), ids=list(DATASETS))
def test_entry_is_complete(entry: Dataset) -> None:
    assert DATASETS[entry.name] is entry
    assert entry.licence and entry.split and entry.layout
    assert entry.class_names is None or len(set(entry.class_names)) == len(entry.class_names)
    if isinstance(entry, ImageDataset):
        assert len(entry.mean or ()) == len(entry.std or ())
        assert set(entry.official_files) in (set(), {"train", "test"})
        assert not (entry.label_column or entry.official_files) or entry.class_names
        assert not entry.folders or entry.torchvision_class or entry.obtain
    if isinstance(entry, EventDataset):
        assert set(entry.split_folders) in (set(), {"train", "test"})


@pytest.mark.parametrize(
    "entry",
    [e for e in DATASETS.values() if isinstance(e, ImageDataset) and e.torchvision_class],
    ids=lambda entry: entry.name,
)
def test_torchvision_has_the_class_that_downloads(entry: ImageDataset) -> None:
    from torchvision import datasets

    kind = getattr(datasets, str(entry.torchvision_class))
    assert {entry.torchvision_split, "download"} <= inspect.signature(kind).parameters.keys()
